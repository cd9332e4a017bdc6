"""The part of report.html that shows a classifier: confusion, labels, calibration, the worst errors to listen to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from audiossl.data.cached import CachedClips
from audiossl.explain.sound import player
from audiossl.reading import read_arrays, read_json

WORST = 20  # errors that the page plays
SHOWN_LABELS = 40  # of a confusion matrix and a table; of more labels, those that are confused most
LONGEST_S = 10.0  # of an error's sound
PLOT = 220  # drawing units of the reliability plot's sides

Json = Mapping[str, Any]


def save_worst(
    path: Path, clips: CachedClips, probabilities: np.ndarray, rows: Sequence[int], labels: Sequence[str]
) -> None:
    """Keep the sounds of the worst errors: what they are, what they were taken for, and how surely."""
    n = min(clips.waves.shape[1], round(LONGEST_S * clips.sample_rate))
    values = probabilities[list(rows)]
    beside = path.with_name(f"{path.name}.part.npz")
    np.savez_compressed(
        beside,
        waves=clips.waves[np.asarray(rows, dtype=np.int64)][:, :n],
        sample_rate=clips.sample_rate,
        name=np.array([clips.ids[row] for row in rows], dtype=str),
        label=np.array([str(clips.labels[row]) for row in rows], dtype=str),
        given=np.array([labels[place] for place in values.argmax(1)], dtype=str),
        probability=values.max(1, initial=0.0),
    )
    os.replace(beside, path)


def load_worst(path: Path) -> dict[str, np.ndarray]:
    """What `save_worst` kept; raises ValueError or OSError for a damaged file."""
    return read_arrays(path)


def load(path: Path) -> dict[str, Any]:
    """Scores as `audiossl.run.conclude_classifier` wrote them; raises ValueError for something else."""
    found = read_json(path)
    if not isinstance(found, dict) or not {"about", "scores", "floors", "unknown_below"} <= found.keys():
        raise ValueError("it holds no scores of a classifier")
    return found


def sections(result: Json | None) -> str:
    """HTML of a classifier's scores; "" where there are none."""
    if result is None:
        return ""
    split = "testing" if "testing" in result["scores"] else "validation"
    scores = result["scores"].get(split)
    if scores is None:
        return ""
    parts = (
        _numbers(result),
        _confusion(scores, split),
        _labels(scores, split),
        _calibration(scores, split),
    )
    return "\n".join(filter(None, parts))


def _numbers(result: Json) -> str:
    several = result["about"]["multi_label"]
    columns = [("map", "mean average precision")] if several else [("accuracy", "accuracy")]
    columns += [("balanced", "mean recall of the labels"), ("ece", "calibration error"), ("clips", "clips")]
    head = "".join(f"<th>{name}</th>" for _, name in columns)
    rows = []
    for split, scores in result["scores"].items():
        cells = "".join(
            f"<td>{scores[key]:.1f}</td>" if key != "clips" else f"<td>{scores[key]}</td>" for key, _ in columns
        )
        rows.append(f'<tr class="own"><td>classifier, {escape(split)}</td>{cells}</tr>')
    for name, value in result["floors"].items():
        rows.append(f"<tr><td>{escape(name)}</td><td>{value:.1f}</td>{'<td>–</td>' * (len(columns) - 1)}</tr>")
    about = result["about"]
    text = (
        f"Percent. {about['name']}: {about['clips']} clips, {len(about['labels'])} labels; {about['split_rule']}; "
        f"{about['told']}. "
        "Rows below the classifier's are on the test split, with the same labels: logistic regression on the encoder's "
        "features before fine-tuning, and on log-mel statistics."
    )
    if result["unknown_below"]:
        text += f" Below a probability of {result['unknown_below']:.3f} a sound is called unknown."
    return (
        f'<section><h2>Classifier</h2><div class="card scroll"><table class="scores"><thead><tr><th></th>{head}</tr>'
        f'</thead><tbody>{"".join(rows)}</tbody></table></div><p class="small">{escape(text)}</p></section>'
    )


def _confusion(scores: Json, split: str) -> str:
    """Clips of the row's label that were given the column's: colour is the share of the row."""
    matrix = np.array(scores["confusion"])
    if not matrix.size:
        return ""
    names = [label["label"] for label in scores["labels"]]
    kept, note = np.arange(len(names)), ""
    if len(names) > SHOWN_LABELS:
        off = matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal()
        kept = np.sort(np.argsort(-off, kind="stable")[:SHOWN_LABELS])
        note = f'<p class="small">The {SHOWN_LABELS} labels of {len(names)} that are confused most.</p>'
    head = "".join(f'<th class="turned"><span>{escape(names[column])}</span></th>' for column in kept)
    body = []
    for row in kept:
        total = max(1, int(matrix[row].sum()))
        cells = []
        for column in kept:
            count = int(matrix[row, column])
            kind = "right" if row == column else "wrong"
            title = escape(f"{names[row]} taken for {names[column]}: {count} of {total}", quote=True)
            cells.append(f'<td class="{kind}" style="--share:{count / total:.3f}" title="{title}">{count or ""}</td>')
        body.append(f"<tr><th>{escape(names[row])}</th>{''.join(cells)}</tr>")
    return (
        f"<section><h2>What is taken for what</h2><p>Rows: what a clip of the {split} split is. Columns: what it was "
        f'named.</p><div class="card scroll"><table class="confusion"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>{note}</section>"
    )


def _labels(scores: Json, split: str) -> str:
    columns = ("precision", "recall", "f1", "average_precision")
    rows = "".join(
        f"<tr><td>{escape(label['label'])}</td><td>{label['clips']}</td>"
        + "".join(f"<td>{label[column]:.1f}</td>" for column in columns)
        + "</tr>"
        for label in sorted(scores["labels"], key=lambda label: label["f1"])[: 5 * SHOWN_LABELS]
    )
    head = "".join(f"<th>{name}</th>" for name in ("clips", "precision", "recall", "F1", "average precision"))
    return (
        f'<section><h2>Labels</h2><p>Percent on the {split} split, the hardest first.</p><div class="card scroll">'
        f'<table class="numbers"><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _calibration(scores: Json, split: str) -> str:
    """Does it know when it is sure? Share right against the mean probability, bin by bin."""
    left, top = 34, 8
    clips = sum(count for _, _, count in scores["bins"])
    marks = "".join(
        f'<circle cx="{left + PLOT * sure:.1f}" cy="{top + PLOT * (1 - right):.1f}" '
        f'r="{3 + 9 * (count / clips) ** 0.5:.1f}"><title>{count} clips: probability {sure:.2f}, {100 * right:.0f} % '
        "right</title></circle>"
        for sure, right, count in scores["bins"]
    )
    ticks = "".join(
        f'<text x="{left + PLOT * at}" y="{top + PLOT + 16}" text-anchor="middle">{at:g}</text>'
        f'<text x="{left - 6}" y="{top + PLOT * (1 - at) + 4}" text-anchor="end">{at:g}</text>'
        for at in (0.0, 0.5, 1.0)
    )
    width, height = left + PLOT + 14, top + PLOT + 22
    svg = (
        f'<svg class="reliability" role="img" aria-label="reliability" viewBox="0 0 {width} {height}" '
        f'width="{width}"><rect x="{left}" y="{top}" width="{PLOT}" height="{PLOT}"/>'
        f'<path d="M{left} {top + PLOT}L{left + PLOT} {top}"/>{marks}{ticks}</svg>'
    )
    return (
        f"<section><h2>Calibration</h2><p>Across: how sure the classifier was. Up: how often it was right. On the line "
        f"both agree; below it, it is surer than it should be. Expected calibration error {scores['ece']:.1f} %, "
        f'{split} split.</p><div class="card">{svg}</div></section>'
    )


def worst_errors(worst: Mapping[str, np.ndarray] | None) -> str:
    """HTML of the worst errors, each with its sound; "" where there are none."""
    if worst is None or not len(worst["name"]):
        return ""
    items = []
    for wave, name, label, given, probability in zip(
        *(worst[key] for key in ("waves", "name", "label", "given", "probability")), strict=True
    ):
        sound = player(wave, int(worst["sample_rate"]), f"{name}, {label}")
        items.append(
            f'<figure class="tile"><figcaption><b>{escape(str(label))}</b> taken for <b>{escape(str(given))}</b> '
            f'({probability:.2f})<br><span class="small">{escape(str(name))}</span></figcaption>{sound}</figure>'
        )
    return (
        "<section><h2>The worst errors</h2><p>Clips whose label the classifier found least likely: some may be "
        f'mislabelled.</p><div class="errors">{"".join(items)}</div></section>'
    )
