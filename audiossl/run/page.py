"""Sections of report.html: each takes plain data and returns HTML, or "" when there is nothing to show."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from audiossl.run import curves, files
from audiossl.run.curves import number
from audiossl.run.verdict import verdict

Row = Mapping[str, Any]

# Rows of the table of epochs; longer runs are thinned out.
EPOCH_ROWS = 100


def setting(settings: Mapping[str, Any], *path: str) -> Any:
    """A value of a nested configuration, or None.

    >>> setting({"run": {"epochs": 3}}, "run", "epochs")
    3
    """
    found: Any = settings
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def title_of(settings: Mapping[str, Any], folder: Path) -> str:
    """Backbone and data as a heading, or the folder's name."""
    backbone, data = setting(settings, "backbone", "name"), setting(settings, "data", "name")
    root = setting(settings, "data", "root")
    if root:
        data = Path(str(root)).name or data
    if backbone and data:
        return f"{backbone} on {data}"
    return str(backbone or data or folder.resolve().name)


# ------------------------------------------------------------------------------------------------- header


def header(
    title: str,
    table: Mapping[str, Any] | None,
    rows: Sequence[Row],
    settings: Mapping[str, Any],
    notes: Sequence[str],
) -> str:
    """What was trained, whether it worked, and the last values."""
    said = verdict(rows)
    compared, passed = _comparison(table, rows)
    quiet = "The monitors give no warning." if rows else "No curves were recorded."
    # A final table below its floors is no success, whatever the curves say; while training it is only early.
    good = rows and not said and (passed or not table)
    box = (
        f'<div class="verdict {"good" if good else "warn"}"><b aria-hidden="true">{"✓" if good else "!"}</b>'
        f"<div>{escape(f'{said or quiet} {compared}')}</div></div>"
    )
    listed = "".join(f"<li>{escape(str(note))}</li>" for note in notes)
    return (
        f'<header><p class="over">audiossl, report of a run</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(_trained(rows, settings))}</p>{box}'
        f"{f'<ul>{listed}</ul>' if listed else ''}{_tiles(rows)}</header>"
    )


def _trained(rows: Sequence[Row], settings: Mapping[str, Any]) -> str:
    """One sentence of facts; those that are not known are left out."""
    epochs = [row["epoch"] for row in rows if row.get("kind") == "epoch" and isinstance(row.get("epoch"), int)]
    asked, took = setting(settings, "run", "epochs"), curves.last_of(rows, "seconds")
    steps = max((row["step"] for row in rows if isinstance(row.get("step"), int)), default=None)
    done = max(epochs) + 1 if epochs else 0
    facts = []
    if rows and isinstance(asked, int) and done < asked:
        facts.append(f"{done} of {asked} epochs")
    elif done:
        facts.append(f"{done} epoch{'s' * (done != 1)}")
    if steps is not None:
        facts.append(f"{steps:,} steps")
    if took is not None:
        facts.append(f"{duration(took)} of training")
    for name, path in (
        ("batch", ("run", "batch_size")),
        ("seed", ("run", "seed")),
        ("data", ("data", "root")),
    ):
        value = setting(settings, *path)
        if value is not None:
            facts.append(f"{name} {value}")
    text = ", ".join(facts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> [duration(s) for s in (42, 600, 5400)]
    ['42 s', '10 min', '1 h 30 min']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _comparison(table: Mapping[str, Any] | None, rows: Sequence[Row]) -> tuple[str, bool]:
    """KNN beside its floors, and whether it is above them: of the final table, else of the last monitored epoch."""
    own = _column(table, "kNN").get("encoder")
    others, what = list(floors(table).items()), "kNN on the test split"
    if own is None:
        own, what = curves.last_of(rows, "knn"), "kNN on validation clips"
        others = [(name, value) for key, name in curves.FLOORS if (value := curves.last_of(rows, key)) is not None]
    if own is None:
        return "", False
    beside = "; ".join(f"{name} {value:.1f} %" for name, value in others)
    best = max((value for _, value in others), default=None)
    place = "" if best is None else ", above every floor" if own > best else ", not above every floor"
    return f"{what}: {own:.1f} %{place}" + (f" ({beside})." if beside else "."), best is None or own > best


def floors(table: Mapping[str, Any] | None) -> dict[str, float]:
    """KNN in percent of the table's rows other than the encoder's."""
    return {name: value for name, value in _column(table, "kNN").items() if name != "encoder"}


def _column(table: Mapping[str, Any] | None, column: str) -> dict[str, float]:
    if not table:
        return {}
    return {
        str(row.get("name")): float(cell["mean"])
        for row in table["rows"]
        if isinstance(cell := (row.get("scores") or {}).get(column), Mapping)
        and isinstance(cell.get("mean"), int | float)
    }


def _tiles(rows: Sequence[Row]) -> str:
    shown = (
        ("Classifier, validation", "validation_accuracy", "{:.1f} %"),
        ("kNN, validation", "knn", "{:.1f} %"),
        ("Loss / ln K", "loss_over_ln_k", "{:.3f}"),
        ("Feature spread", "feature_std", "{:.2f}"),
        ("RankMe", "rankme", "{:.1f}"),
        ("Clips a second", "clips_per_second", "{:,.0f}"),
    )
    tiles = []
    for name, key, form in shown:
        points = curves.series(rows, key)
        if points is None or points.last is None:
            continue
        first = next(value for value in points.y if value == value)
        beside = f"first {form.format(first)}" if len(points.x) > 1 else "one value"
        tiles.append(
            f'<div class="tile"><div class="name">{name}</div>'
            f'<div class="value">{form.format(points.last)}</div>'
            f'<div class="beside">{beside}</div></div>'
        )
    return f'<div class="tiles">{"".join(tiles)}</div>' if tiles else ""


# ------------------------------------------------------------------------------------------------- scores


def scores(table: Mapping[str, Any] | None) -> str:
    """The table of probes with its floors, and what it was measured on."""
    if not table or not table["rows"]:
        return ""
    columns = [str(column) for column in table["columns"]]
    head = "".join(f"<th>{escape(_heading(column))}</th>" for column in columns)
    body = "".join(_score_row(row, columns) for row in table["rows"])
    return (
        '<section><h2>Scores</h2><div class="card scroll"><table class="scores"><thead>'
        f"<tr><th>Features</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{_small_print(table.get('about') or {})}</section>"
    )


def _heading(column: str) -> str:
    return f"{column} label{'s' * (column != '1')} a class" if column.isdigit() else column


def _score_row(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    name, dim = str(row.get("name")), row.get("dim")
    cells = "".join(f"<td>{_cell((row.get('scores') or {}).get(column))}</td>" for column in columns)
    own = ' class="own"' if name == "encoder" else ""
    beside = f' <span class="beside">{escape(str(dim))}-d</span>' if dim else ""
    shown = "pretrained encoder" if name == "encoder" else name
    return f"<tr{own}><td>{escape(shown)}{beside}</td>{cells}</tr>"


def _cell(cell: Any) -> str:
    if isinstance(cell, int | float):
        return f"{cell:.1f}"
    if not isinstance(cell, Mapping) or not isinstance(cell.get("mean"), int | float):
        return "–"
    text = f"{cell['mean']:.1f}"
    if isinstance(cell.get("low"), int | float) and isinstance(cell.get("high"), int | float):
        return f'{text}<br><span class="beside">{cell["low"]:.1f}–{cell["high"]:.1f}</span>'
    if isinstance(cell.get("std"), int | float):
        return f'{text}<br><span class="beside">± {cell["std"]:.1f}</span>'
    return text


def _small_print(about: Mapping[str, Any]) -> str:
    """Clips, speakers, split, seeds and protocol, as far as they are known."""
    facts = []
    labels, split = about.get("labels"), about.get("split_clips")
    for value, form in (
        (about.get("name"), "data set {}"),
        (about.get("clips"), "{} clips"),
        (about.get("speakers"), "{} speakers"),
        (len(labels) if isinstance(labels, list | tuple) else None, "{} labels"),
        (
            " / ".join(map(str, split.values())) if isinstance(split, Mapping) else None,
            "{} training / validation / test",
        ),
    ):
        if value is not None:
            facts.append(form.format(value))
    sentences = [", ".join(facts), str(about.get("split_rule") or ""), str(about.get("protocol") or "")]
    if about.get("random_seeds"):
        sentences.append(f"random weights: mean and range over seeds {', '.join(map(str, about['random_seeds']))}")
    if about.get("seed") is not None:
        sentences.append(f"probe seed {about['seed']}")
    full = " ".join(f"{text[0].upper()}{text[1:].rstrip('.')}." for text in sentences if text)
    return f'<p class="small" style="margin-top:8px">{escape(full)}</p>' if full else ""


# ---------------------------------------------------------------------------------------------- the rest


def map_link(folder: Path) -> str:
    """Where the map of the validation clips is, if the run has one."""
    if not (folder / files.MAP).is_file():
        return ""
    return (
        f'<section><h2>The map</h2><p><a href="{files.MAP}">See and hear the validation clips</a> as the network lays '
        "them out: clips near each other are those that it finds alike.</p></section>"
    )


def next_steps(folder: Path, settings: Mapping[str, Any]) -> str:
    """Files of the run that are there, and commands that go on from its encoder."""
    there = [
        f'<a href="{name}{"/" * (folder / name).is_dir()}">{name}</a>'
        for name in (files.ENCODER, files.CONFIG, files.METRICS, files.SCORES, files.ENVIRONMENT)
        if (folder / name).exists()
    ]
    links = f"<p>Files: {', '.join(there)}</p>" if there else ""
    if not (folder / files.ENCODER).exists():
        return f"<section><h2>Go on from here</h2>{links}</section>" if links else ""
    encoder = shlex.quote(str(folder / files.ENCODER))
    root = setting(settings, "data", "root")
    data = f" --data.root {shlex.quote(str(root))}" if root else ""
    commands = (
        f"audiossl featurize YOUR_AUDIO_FOLDER --model {encoder} -o embeddings.npz\n"
        f"audiossl probe --encoder {encoder}{data} --json scores.json\n"
        f"audiossl map {shlex.quote(str(root)) if root else 'YOUR_AUDIO_FOLDER'} --encoder {encoder}\n"
        f'python -c "import audiossl; encoder = audiossl.load_model({str(folder / files.ENCODER)!r})"'
    )
    return (
        f"<section><h2>Go on from here</h2>{links}"
        f'<div class="card"><pre><code>{escape(commands)}</code></pre></div></section>'
    )


def details(folder: Path, rows: Sequence[Row], settings: Mapping[str, Any], machine: str) -> str:
    """Numbers of the epochs, configuration and environment, folded."""
    parts = [_epoch_table(rows)]
    source = folder / files.CONFIG
    text = source.read_text("utf-8", errors="replace") if source.exists() else _as_yaml(settings)
    for name, content in (("Configuration", text), ("Environment", machine)):
        if content.strip():
            parts.append(f"<details><summary>{name}</summary><pre>{escape(content)}</pre></details>")
    parts = [part for part in parts if part]
    return f"<section><h2>Facts</h2>{''.join(parts)}</section>" if parts else ""


def _as_yaml(settings: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(settings), sort_keys=False) if settings else ""


def _epoch_table(rows: Sequence[Row]) -> str:
    epochs = [row for row in rows if row.get("kind") == "epoch"]
    if not epochs:
        return ""
    every = -(-len(epochs) // EPOCH_ROWS)
    shown = [row for index, row in enumerate(epochs) if (len(epochs) - 1 - index) % every == 0]
    keys = list(dict.fromkeys(key for row in shown for key in row if key != "kind"))
    head = "".join(f"<th>{escape(key)}</th>" for key in keys)
    body = "".join("<tr>" + "".join(f"<td>{_value(row.get(key))}</td>" for key in keys) + "</tr>" for row in shown)
    thinned = f", every {every}th" if every > 1 else ""
    return (
        f"<details><summary>Numbers of the epochs{thinned}</summary>"
        '<div class="scroll"><table class="numbers">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _value(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return "" if value is None else escape(str(value))
