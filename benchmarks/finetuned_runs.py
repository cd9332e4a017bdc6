"""One table from fine-tuning runs of several settings, written into a page between two marks.

    python benchmarks/finetuned_runs.py "pretrained, 1 %=runs/pre_s0,runs/pre_s1" "from scratch, 1 %=runs/scratch_s0" \\
        --into docs/finetuning.md --mark words

A row is the mean and the range over a setting's runs, or of one run by folds the mean and the deviation over folds.
Reads classification.json or folds.json; the rows beside them are the first run's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from summarise_runs import show

COLUMNS = ("validation", "testing", "balanced", "calibration error", "linear probe before", "epochs")


def numbers(found: dict) -> dict[str, float]:
    """The columns of one run, or of one fold."""
    key = "map" if found["about"]["multi_label"] else "accuracy"
    values = {split: scores[key] for split, scores in found["scores"].items()}
    values |= {
        "balanced": found["scores"]["testing"]["balanced"],
        "calibration error": found["scores"]["testing"]["ece"],
    }
    before = found["floors"].get("linear probe before")
    return {**values, "epochs": found["epochs"], **({} if before is None else {"linear probe before": before})}


def read(run: Path) -> tuple[list[dict], str]:
    """What a run found, fold by fold or once, and how the spread is shown."""
    folds = run / "folds.json"
    if folds.is_file():
        return list(json.loads(folds.read_text())["folds"].values()), "deviation"
    return [json.loads((run / "classification.json").read_text())], "range"


def spread(values: list[float], kind: str, digits: int = 1) -> str:
    """Mean with its range or deviation.

    >>> spread([90.0, 92.0], "range"), spread([90.0, 92.0], "deviation"), spread([90.0], "range")
    ('91.0 (90.0-92.0)', '91.0 ± 1.4', '90.0')
    """
    mean = sum(values) / len(values)
    if len(values) == 1 or max(values) == min(values):
        return f"{mean:.{digits}f}"
    if kind == "range":
        return f"{mean:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
    deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def table(settings: dict[str, list[Path]]) -> str:
    """Markdown: a row a setting, then what stands beside, and the small print."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    floors: dict[str, list[float]] = {}
    about, kind = {}, "range"
    for name, runs in settings.items():
        parts = [read(run) for run in runs]
        found, kind = [one for many, _ in parts for one in many], parts[0][1]
        rows = [numbers(one) for one in found]
        cells = []
        for column in COLUMNS:
            values = [row[column] for row in rows if column in row]
            cells.append(spread(values, kind, 0 if column == "epochs" else 1) if values else "")
        count = f"{len(found)} {'folds' if kind == 'deviation' else 'seeds' if len(found) > 1 else 'seed'}"
        lines.append(f"| {name}, {count} | " + " | ".join(cells) + " |")
        about = about or found[0]["about"]
        for one in found if not floors else []:
            for floor, value in one["floors"].items():
                if floor != "linear probe before":
                    floors.setdefault(floor, []).append(value)
    for floor, values in floors.items():
        lines.append(f"| {floor} | | {spread(values, kind)} |" + " |" * (len(COLUMNS) - 2))
    clips = about["clips_of_split"]
    return "\n".join(
        [
            *lines,
            "",
            f"{about['name']}: {about['clips']} clips, {about['speakers'] or 'unknown'} speakers, "
            f"{len(about['labels'])} labels; training / validation / testing "
            f"{' / '.join(map(str, clips.values()))} clips ({about['split_rule']}). "
            "Percent; the epoch is chosen, and probabilities are calibrated, on validation "
            "clips; test clips are read once. Statistics of pictures: logistic regression, with as many labels as the "
            "first row.",
        ]
    )


def main() -> None:
    """Print the table, or put it into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", metavar="NAME=RUN,RUN,...", help="runs of a setting, one a seed")
    parser.add_argument("--into", type=Path, help="page whose marked part is replaced")
    parser.add_argument("--mark", default="words", help="name of that part")
    given = parser.parse_args()
    pairs = [setting.rpartition("=") for setting in given.settings]
    show(table({name: [Path(run) for run in runs.split(",")] for name, _, runs in pairs}), given.into, given.mark)


if __name__ == "__main__":
    main()
