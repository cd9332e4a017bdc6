"""One table from several runs of a recipe that differ in their seed, written into a page between two marks.

    python benchmarks/summarise_runs.py runs/seed0 runs/seed1 runs/seed2 --into docs/esvit.md --curves docs/esvit.svg

Reads each run's scores.json and metrics.jsonl. The encoder's row is the mean and the range over the runs; floors are
the same in all of them, or the first run's. The page must hold `<!-- NAME: begin -->` and `<!-- NAME: end -->`, where
NAME is `runs` unless `--mark` says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path


def cell(scores: list[dict]) -> str:
    """Mean and range of one column over the runs."""
    values = [score["mean"] for score in scores]
    mean = sum(values) / len(values)
    if len(values) == 1:
        low, high, std = (scores[0].get(key) for key in ("low", "high", "std"))
        spread = f" ± {std:.1f}" if std is not None else ""
        return f"{mean:.1f}" + (spread if low is None else f" ({low:.1f}-{high:.1f})")
    return f"**{mean:.1f}** ({min(values):.1f}-{max(values):.1f})"


def table(runs: list[Path]) -> str:
    """Markdown: the encoder over all runs, then the floors of the first."""
    scores = [json.loads((run / "scores.json").read_text()) for run in runs]
    first = scores[0]
    columns = first["columns"]
    lines = ["| features | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for row in first["rows"]:
        same = [other for score in scores for other in score["rows"] if other["name"] == row["name"]]
        over = same if row["name"] == "encoder" else [row]
        ours = f"EsViT, {len(runs)} seeds" if len(runs) > 1 else "EsViT"
        name = ours if row["name"] == "encoder" else row["name"]
        cells = [cell([r["scores"][c] for r in over]) if c in row["scores"] else "" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    about = first["about"]
    counts = about["split_clips"]
    lines += [
        "",
        f"{about['clips']} clips, {about['speakers']} speakers, {len(about['labels'])} labels; training / validation / "
        f"testing {counts['training']} / {counts['validation']} / {counts['testing']} clips ({about['split_rule']}). "
        f"{about['protocol'][0].upper()}{about['protocol'][1:]}. Ranges: "
        f"{'EsViT over the seeds of the run, ' if len(runs) > 1 else ''}random weights over seeds "
        f"{', '.join(map(str, about['random_seeds']))}.",
        "",
        "Training: " + "; ".join(training(run) for run in runs) + ".",
    ]
    return "\n".join(lines)


def training(run: Path) -> str:
    """What the last row of metrics.jsonl says of a run's length."""
    last = epochs(run)[-1]
    length = f"{last['epoch'] + 1} epochs, {last['step']} steps, {last['seconds'] / 60:.0f} minutes"
    return f"{run.name} {length}, validation kNN {last['knn']:.1f}"


def epochs(run: Path) -> list[dict]:
    """Rows of the epochs of a run."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "epoch"]


def curves(runs: list[Path], path: Path) -> None:
    """Draw what the monitors saw, one line a run, with the floors of kNN."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(13, 3), layout="constrained")
    titles = {"knn": "kNN, validation, %", "loss_over_ln_k": "loss / ln K", "teacher_entropy": "teacher entropy, nats"}
    for ax, (key, title) in zip(axes, {**titles, "rankme": "RankMe"}.items(), strict=True):
        for run in runs:
            rows = epochs(run)
            ax.plot([row["epoch"] + 1 for row in rows], [row[key] for row in rows], label=run.name)
        ax.set(title=title, xlabel="epoch")
    first = epochs(runs[0])[0]
    for key, name, style in (("knn_random", "random weights", "--"), ("knn_log_mel", "log-mel", ":")):
        axes[0].axhline(first[key], color="grey", linestyle=style, label=name)
    axes[0].legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the table, or put it into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders with a scores.json")
    parser.add_argument("--into", type=Path, help="page whose marked part is replaced")
    parser.add_argument("--mark", default="runs", help="name of that part")
    parser.add_argument("--curves", type=Path, help="picture to draw the monitors' curves into")
    given = parser.parse_args()
    if given.curves:
        curves(given.runs, given.curves)
    show(table(given.runs), given.into, given.mark)


def show(text: str, into: Path | None, mark: str) -> None:
    """Print a text, or put it between the marks of a page."""
    if into is None:
        print(text)
        return
    page = into.read_text()
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    if begin not in page or end not in page:
        raise SystemExit(f"{into} holds no {begin} ... {end}")
    before, after = page.split(begin)[0], page.split(end)[1]
    beside = into.with_suffix(".part")
    beside.write_text(f"{before}{begin}\n{text}\n{end}{after}")
    os.replace(beside, into)


if __name__ == "__main__":
    main()
