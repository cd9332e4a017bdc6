"""One table from runs of several settings, each with several seeds, written into a page between two marks.

    python benchmarks/compare_runs.py "views alone=runs/v_s0,runs/v_s1" "views and regions=runs/vr_s0,runs/vr_s1" \\
        --columns kNN LR 5 --into docs/esvit.md --mark regions --curves docs/esvit-regions.svg

A row is the mean and the range over a setting's runs; floors are the first run's. Reads scores.json and metrics.jsonl.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from summarise_runs import cell, epochs, show

Settings = dict[str, list[Path]]


def table(settings: Settings, columns: list[str] | None) -> str:
    """Markdown: a row a setting with its cost, then the floors."""
    scores = {name: [json.loads((run / "scores.json").read_text()) for run in runs] for name, runs in settings.items()}
    first = next(iter(scores.values()))[0]
    columns = columns or first["columns"]
    heads = ["validation kNN", *columns, "steps", "minutes"]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name, runs in settings.items():
        last = [epochs(run)[-1] for run in runs]
        rows = [score["rows"][0]["scores"] for score in scores[name]]
        cells = [cell([{"mean": row["knn"]} for row in last]), *(cell([row[c] for row in rows]) for c in columns)]
        cells += [str(last[0]["step"]), f"{sum(minutes(run) for run in runs) / len(runs):.1f}"]
        lines.append(f"| {name}, {len(runs)} seed{'s' if len(runs) > 1 else ''} | " + " | ".join(cells) + " |")
    for row in first["rows"][1:]:
        cells = [cell([row["scores"][c]]) if c in row["scores"] else "" for c in columns]
        lines.append(f"| {row['name']} | | " + " | ".join(cells) + " | | |")
    about = first["about"]
    counts = about["split_clips"]
    small_print = (
        f"{about['clips']} clips, {about['speakers']} speakers, {len(about['labels'])} labels; training / validation / "
        f"testing {counts['training']} / {counts['validation']} / {counts['testing']} clips ({about['split_rule']}). "
        f"{about['protocol'][0].upper()}{about['protocol'][1:]}. Random weights over seeds "
        f"{', '.join(map(str, about['random_seeds']))}. Minutes are of training alone."
    )
    return "\n".join([*lines, "", small_print])


def minutes(run: Path) -> float:
    """Minutes of training: by the CPU's clock where the run has it, so that a busy machine makes no run longer."""
    total, before = 0.0, 0.0
    for row in epochs(run):
        rate = row["clips_per_second"] / row.get("clips_per_cpu_second", row["clips_per_second"])
        total += (row["seconds"] - before) * min(rate, 1.0)
        before = row["seconds"]
    return total / 60


def curves(settings: Settings, path: Path) -> None:
    """Draw kNN on validation clips and RankMe over the epochs: means of a setting's runs, and their range."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    for ax, (key, title) in zip(axes, {"knn": "kNN, validation, %", "rankme": "RankMe"}.items(), strict=True):
        for name, runs in settings.items():
            series = [[row[key] for row in epochs(run)] for run in runs]
            values = list(zip(*series, strict=True))
            x = range(1, 1 + len(values))
            ax.plot(x, [sum(v) / len(v) for v in values], label=name)
            ax.fill_between(x, [min(v) for v in values], [max(v) for v in values], alpha=0.12)
        ax.set(title=title, xlabel="epoch")
    row = epochs(next(iter(settings.values()))[0])[0]
    axes[0].axhline(row["knn_random"], color="grey", linestyle="--", label="random weights")
    axes[0].axhline(row["knn_log_mel"], color="grey", linestyle=":", label="log-mel")
    axes[0].legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the table, or put it into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", metavar="NAME=RUN,RUN,...", help="runs of a setting, one a seed")
    parser.add_argument("--columns", nargs="+", help="columns of the probes; default: all")
    parser.add_argument("--into", type=Path, help="page whose marked part is replaced")
    parser.add_argument("--mark", default="compared", help="name of that part")
    parser.add_argument("--curves", type=Path, help="picture to draw the monitors' curves into")
    given = parser.parse_args()
    pairs = [setting.rpartition("=") for setting in given.settings]
    settings = {name: [Path(run) for run in runs.split(",")] for name, _, runs in pairs}
    if given.curves:
        curves(settings, given.curves)
    show(table(settings, given.columns), given.into, given.mark)


if __name__ == "__main__":
    main()
