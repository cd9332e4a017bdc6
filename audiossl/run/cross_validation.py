"""Cross-validation: a run for each fold, one after the other, and their mean."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from audiossl.data import DataConfig, open_clips
from audiossl.data.folds import fold_lists
from audiossl.run import files
from audiossl.run.page_file import replace


def fold_by_fold(data: DataConfig, by: str, out: Path, one: Callable[[Path, Path], dict[str, Any]]) -> None:
    """Call `one(lists, folder of the run)` for every fold, and write and print the mean of what they give.

    Raises UserError as `audiossl.data.folds.fold_lists` does.
    """
    lists = fold_lists(open_clips(data), by, out / "lists")
    results = {folder.name: one(folder, out / folder.name) for folder in lists}
    if not all(results.values()):  # a process that writes nothing
        return
    summary = summarise(results)
    result = {"by": by, "folds": results, "summary": summary}
    replace(out / files.FOLDS, json.dumps(result, indent=1, ensure_ascii=False))
    print(table(summary), flush=True)


def summarise(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and sample deviation over folds of the classifier's test score and of the rows beside it, in percent."""
    rows: dict[str, list[float]] = {}
    for found in results.values():
        key = "map" if found["about"]["multi_label"] else "accuracy"
        rows.setdefault("classifier", []).append(found["scores"]["testing"][key])
        for name, value in found["floors"].items():
            rows.setdefault(name, []).append(value)
    return {
        name: {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "folds": len(values)}
        for name, values in rows.items()
    }


def table(summary: dict[str, dict[str, float]]) -> str:
    """The summary as Markdown.

    >>> print(table({"classifier": {"mean": 91.26, "std": 2.0, "folds": 5}}))
    | 5 folds | mean | deviation |
    |---|---:|---:|
    | classifier | 91.3 | 2.0 |
    """
    folds = int(next(iter(summary.values()))["folds"])
    lines = [f"| {folds} folds | mean | deviation |", "|---|---:|---:|"]
    lines += [f"| {name} | {row['mean']:.1f} | {row['std']:.1f} |" for name, row in summary.items()]
    return os.linesep.join(lines)
