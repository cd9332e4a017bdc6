"""The curves of metrics.jsonl: which there are, what each tells, their points, their section of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import numpy as np

Row = Mapping[str, Any]

# More points than this do not show at 350 pixels: they are averaged in blocks.
MAX_POINTS = 240
# Colours that matplotlib writes and the page replaces, so that one SVG serves light and dark.
INK, MUTED, GRID, LINE, SECOND, THIRD = "#000001", "#000002", "#000003", "#000004", "#000005", "#000006"
CSS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    LINE: "var(--line)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
}
# How reference lines differ without colour: (colour, dashes).
STYLES = ((SECOND, (5, 3)), (THIRD, (1.5, 2)), (MUTED, (8, 3)))


@dataclass(frozen=True)
class Chart:
    """One curve: its key in metrics.jsonl, and what it tells."""

    key: str
    title: str
    tells: str


CHARTS = (
    Chart("loss", "Loss", "Falls while something is learnt."),
    Chart("loss_over_ln_k", "Loss / ln K", "1 is a uniform output, where nothing is learnt: it must leave 1."),
    Chart("knn", "kNN, %", "Validation clips named by their neighbours: the proof that something is learnt."),
    Chart("validation_accuracy", "Accuracy, validation, %", "Whole validation clips that the classifier names."),
    Chart("validation_map", "mAP, validation, %", "Mean average precision of the labels on whole validation clips."),
    Chart("training_accuracy", "Accuracy, training views, %", "Far above validation: clips are learnt by heart."),
    Chart("teacher_entropy", "Teacher entropy, nats", "ln K: uniform targets. 0 with KL 0: one point."),
    Chart("kl", "KL, nats", "Teacher to student: what is left to learn; 0 means a constant output."),
    Chart("invariance", "Likeness of patches", "Mean cosine of a patch with the mean of its clip's: up to 1."),
    Chart("rate_share", "Coding rate, share", "0: all clips are one, a collapse; 1: as different as can be."),
    Chart("cosine", "Prediction and target", "BYOL's mean cosine: near 1 at once, without kNN, is nothing learnt."),
    Chart("projection_std", "Spread of targets", "1: all directions alike; 0: all clips are one, a collapse."),
    Chart("feature_std", "Feature spread", "1 is isotropic, near 0 is collapse to one point."),
    Chart("rankme", "RankMe", "Number of directions in use; a fall is dimensional collapse."),
    Chart("lr", "Learning rate", "As scheduled."),
    Chart("momentum", "Teacher momentum", "As scheduled; 1 stands still."),
    Chart("teacher_temperature", "Teacher temperature", "Lower is sharper."),
    Chart("clips_per_second", "Clips a second", "A fall: another job on the machine, or slow reading."),
    Chart("data_wait_percent", "Waiting for data, %", "High: more workers, or a faster disk."),
    Chart("memory_gb", "Memory, GB", "Peak, of the GPU or of the process."),
)
# A method's own numbers, which no chart of `CHARTS` knows: at most so many are drawn.
OTHER_CURVES = 12
FLOORS = (("knn_random", "random weights"), ("knn_log_mel", "log-mel"), ("knn_chance", "chance"))
# Not curves: places and floors.
PLACES = {"kind", "epoch", "step", "seconds", "knn_random", "knn_log_mel", "knn_chance"}


@dataclass(frozen=True)
class Series:
    """Points of one key: `x` and `y` (N,), of which NaN and Inf are gaps; lines to compare with, by name."""

    x: np.ndarray
    y: np.ndarray
    references: tuple[tuple[str, float], ...] = field(default=())

    @property
    def last(self) -> float | None:
        """The last finite value."""
        finite = self.y[np.isfinite(self.y)]
        return float(finite[-1]) if len(finite) else None

    def drawn(self) -> Series:
        """The points that are drawn, averaged where there are more than `MAX_POINTS`."""
        if len(self.x) <= MAX_POINTS:
            return self
        edges = np.linspace(0, len(self.x), MAX_POINTS + 1).astype(int)[:-1]
        counts = np.diff(np.append(edges, len(self.x)))
        x, y = (np.add.reduceat(side, edges) / counts for side in (self.x, self.y))
        return replace(self, x=x, y=y)


Draw = Callable[[Series, str], str]


def series(history: Sequence[Row], key: str) -> Series | None:
    """One key's points over the steps (over epochs where no step is known); step rows win over epoch rows."""
    rows = [row for row in history if isinstance(row.get(key), int | float) and not isinstance(row[key], bool)]
    steps = [row for row in rows if row.get("kind") == "step"]
    if len(steps) > 1:
        rows = steps
    place = "step" if all("step" in row for row in rows) else "epoch"
    points = {float(row.get(place, index)): float(row[key]) for index, row in enumerate(rows)}
    if not points:
        return None
    x = np.array(sorted(points))
    y = np.array([points[at] for at in x])
    return Series(x, np.where(np.isfinite(y), y, np.nan))


def last_of(history: Sequence[Row], key: str) -> float | None:
    """The last finite value of a key, or None."""
    found = series(history, key)
    return found.last if found else None


def other_keys(history: Sequence[Row]) -> list[str]:
    """Numeric keys that no chart of `CHARTS` shows, sorted."""
    known = PLACES.union(chart.key for chart in CHARTS)
    return sorted(
        {
            key
            for row in history
            for key, value in row.items()
            if key not in known and isinstance(value, int | float) and not isinstance(value, bool)
        }
    )


def number(value: float) -> str:
    """A number as people write it.

    >>> [number(v) for v in (0.0, 0.00025, 0.99612, 62.04, 12345.6, float("nan"))]
    ['0', '0.00025', '0.9961', '62.04', '12,346', 'NaN']
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Inf"
    if abs(value) >= 10000:
        return f"{value:,.0f}"
    text = f"{value:.4g}"
    return "0" if float(text) == 0 else text


def charts(rows: Sequence[Row], floors: Mapping[str, float], draw: Draw) -> str:
    """The section with all curves that the history has.

    Args:
        rows: of metrics.jsonl.
        floors: kNN in percent to compare with, for runs whose history has none of it.
        draw: (points, label) -> inline SVG.
    """
    figures = []
    for chart in CHARTS:
        if series(rows, chart.key):
            figures.append(_figure(rows, chart, _references(rows, chart.key, floors), draw))
    if not figures:
        return ""
    rest = other_keys(rows)
    more = "".join(_figure(rows, Chart(key, key, ""), (), draw) for key in rest[:OTHER_CURVES])
    more = (
        f"<details><summary>{len(rest[:OTHER_CURVES])} more curves of the method</summary>"
        f'<div class="curves">{more}</div></details>'
        if more
        else ""
    )
    along = "optimiser steps" if any("step" in row for row in rows) else "epochs"
    return (
        f'<section><h2>Curves</h2><p class="small">Along {along}. What healthy and sick look like: '
        f'docs/reading-a-run.md of audiossl.</p><div class="curves">{"".join(figures)}</div>{more}</section>'
    )


def _figure(rows: Sequence[Row], chart: Chart, references: tuple[tuple[str, float], ...], draw: Draw) -> str:
    points = series(rows, chart.key)
    assert points is not None
    last = "no finite value" if points.last is None else f"last {number(points.last)}"
    svg = draw(
        replace(points.drawn(), references=references), escape(f"{chart.title} over the run, {last}", quote=True)
    )
    legend = "".join(
        f'<span><svg aria-hidden="true" viewBox="0 0 26 8"><path d="M0 4h26" stroke-width="2" '
        f'stroke="{CSS[colour]}" stroke-dasharray="{dashes[0] * 1.4} {dashes[1] * 1.4}"/></svg>'
        f"{escape(name)} {number(value)}</span>"
        for (name, value), (colour, dashes) in zip(references, STYLES, strict=False)
    )
    legend = f'<div class="legend">{legend}</div>' if legend else ""
    note = f'<span class="tells">{escape(chart.tells)}</span>' if chart.tells else ""
    return (
        f'<figure class="card curve"><figcaption><span>{escape(chart.title)}</span><span>{last}</span>{note}'
        "</figcaption>"
        f"{svg}{legend}</figure>"
    )


def _references(rows: Sequence[Row], key: str, floors: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Lines to compare a curve with: floors of kNN, ln K of an entropy, 1 of a share."""
    if key == "loss_over_ln_k":
        return (("uniform", 1.0),)
    if key in ("teacher_entropy", "loss"):
        loss, share = last_of(rows, "loss"), last_of(rows, "loss_over_ln_k")
        return (("ln K", loss / share),) if loss and share else ()
    if key != "knn":
        return ()
    found = tuple((name, value) for key, name in FLOORS if (value := last_of(rows, key)) is not None)
    if found:
        return found
    best = sorted(floors.items(), key=lambda pair: -pair[1])[: len(STYLES)]
    return tuple((f"{name} (test split)", value) for name, value in best)
