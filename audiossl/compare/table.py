"""The rows of a comparison from its cells' results: means, spread, and the text of table and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audiossl.compare.config import COLUMNS, METHODS
from audiossl.compare.label_free import LABEL_FREE
from audiossl.probes.table import Cell as Score

COSTS = ("epochs", "minutes", "passes", "memory, GB", "parameters", "dim")


@dataclass(frozen=True)
class Row:
    """One row: scores by column, costs by name; `failed` says why there are none."""

    name: str
    kind: str  # supervised, learned or floor
    scores: dict[str, Score] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    n_cells: int = 0
    failed: str = ""


def row_name(row: tuple[str, str, str], rows: Sequence[tuple[str, str, str]]) -> str:
    """Name of a row (method, front end, backbone): what all rows share is left out.

    >>> rows = [("byol", "mel", "resnet10"), ("byol", "cqt", "resnet10")]
    >>> [row_name(row, rows) for row in rows]
    ['BYOL, mel', 'BYOL, cqt']
    """
    method, *rest = row
    others = [part for n, part in enumerate(rest, 1) if len({other[n] for other in rows}) > 1 and part != "own"]
    return ", ".join([METHODS[method].title, *others])


def learned_row(name: str, method: str, results: Sequence[dict[str, Any]], failures: Sequence[str]) -> Row:
    """Mean and range over a row's seeds; with folds, mean and deviation over them, each the mean of its seeds."""
    kind = "supervised" if method == "supervised" else "learned"
    failed = f"failed: {failures[0]}" if failures else ""
    if not results:
        return Row(name, kind, failed=failed)
    scores = {column: _over(results, column) for column in (*COLUMNS, *LABEL_FREE) if column in results[0]["scores"]}
    means = {key: float(np.mean([result["costs"][key] for result in results])) for key in results[0]["costs"]}
    costs = {"epochs": means["epochs"], "minutes": means["seconds"] / 60, "passes": means["passes"]}
    costs |= {"memory, GB": means["memory_gb"], "parameters": means["parameters"], "dim": means["dim"]}
    return Row(name, kind, scores, costs, len(results), failed)


def _over(results: Sequence[dict[str, Any]], column: str) -> Score:
    by_fold: dict[str | None, list[float]] = {}
    for result in results:
        by_fold.setdefault(result["fold"], []).append(result["scores"][column])
    return _score(
        [float(np.mean(values)) for values in by_fold.values()] if len(by_fold) > 1 else by_fold.popitem()[1],
        folds=len(by_fold) > 1,
        std=results[0]["scores"].get(f"{column} std") if len(results) == 1 else None,
    )


def _score(values: list[float], folds: bool, std: float | None = None) -> Score:
    mean = float(np.mean(values))
    if folds:
        return Score(mean, std=float(np.std(values, ddof=1)))
    if len(values) == 1:
        return Score(mean, std=std)
    return Score(mean, low=min(values), high=max(values))


def floor_row(name: str, folds: Sequence[Sequence[dict[str, float]]]) -> Row:
    """A row that learnt nothing: for each fold, scores of one or several random weights."""
    scores = {}
    for column in (*COLUMNS, *LABEL_FREE):
        values = [[one[column] for one in fold if column in one] for fold in folds]
        if all(values):
            several = len(folds) > 1
            flat = [float(np.mean(fold)) for fold in values] if several else values[0]
            std = folds[0][0].get(f"{column} std") if len(flat) == 1 else None
            scores[column] = _score(flat, several, std)
    return Row(name, "floor", scores)


def columns_of(rows: Sequence[Row]) -> list[str]:
    """The columns that any row has, in their order."""
    return [column for column in (*COLUMNS, *LABEL_FREE) if any(column in row.scores for row in rows)]


def cost_text(name: str, value: float) -> str:
    """A cost as tables show it.

    >>> cost_text("passes", 1234567.0), cost_text("minutes", 1.26), cost_text("parameters", 1.25e6)
    ('1.2 M', '1.3', '1.2 M')
    """
    if name in ("minutes", "memory, GB"):
        return f"{value:.1f}"
    if value >= 1e6:
        return f"{value / 1e6:.1f} M"
    return f"{value / 1e3:.0f} k" if value >= 1e4 else f"{value:.0f}"


def markdown(rows: Sequence[Row], small_print: str) -> str:
    """The table and its small print."""
    columns = columns_of(rows)
    heads = [f"{column} a class" if column == "1" else column for column in columns]
    lines = ["| | " + " | ".join([*heads, *COSTS]) + " |", "|---|" + "---:|" * (len(heads) + len(COSTS))]
    best = best_of(rows, columns)
    for row in rows:
        if row.failed and not row.scores:
            reason = row.failed.replace("|", "\\|")
            lines.append(f"| {row.name} | {reason} |" + " |" * (len(heads) + len(COSTS) - 1))
            continue
        cells = [f"**{row.scores[c]}**" if best.get(c) == row.name else str(row.scores.get(c, "")) for c in columns]
        cells += [cost_text(name, row.costs[name]) if name in row.costs else "" for name in COSTS]
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    notes = [f"{row.name} is of {row.n_cells} cells: {row.failed}" for row in rows if row.failed and row.scores]
    return "\n".join([*lines, "", *[line for note in notes for line in (note, "")], small_print]) + "\n"


def best_of(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, str]:
    """Name of the row that learned without labels and is best, by column; more of what needs no labels is no better."""
    best = {}
    for column in [column for column in columns if column in COLUMNS]:
        able = [row for row in rows if row.kind == "learned" and column in row.scores]
        if able:
            best[column] = max(able, key=lambda row: row.scores[column].mean).name
    return best


def csv_text(results: Sequence[dict[str, Any]], floors: Sequence[Row]) -> str:
    """Every number by itself: method, front end, backbone, seed, fold, column, value; of floors the means."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "frontend", "backbone", "seed", "fold", "column", "value"])
    for result in results:
        place = [result[key] for key in ("method", "frontend", "backbone", "seed", "fold")]
        for column, value in {**result["scores"], **result["costs"]}.items():
            writer.writerow([*place, column, f"{value:.6g}"])
    for row in floors:
        for column, score in row.scores.items():
            writer.writerow([row.name, "", "", "", "", column, f"{score.mean:.6g}"])
    return out.getvalue()
