"""Series of a run's numbers, as curves show them."""

import math
from pathlib import Path

import numpy as np
import pytest

from audiossl.run.curves import CHARTS, MAX_POINTS, last_of, series

ROOT = Path(__file__).parents[2]


def test_series_prefers_steps_and_blanks_what_is_not_finite():
    rows = [
        {"kind": "step", "epoch": 0, "step": 10, "loss": 4.0},
        {"kind": "epoch", "epoch": 0, "step": 20, "loss": 9.0, "knn": 30.0},
        {"kind": "step", "epoch": 1, "step": 30, "loss": math.inf},
    ]
    loss = series(rows, "loss")
    np.testing.assert_array_equal(loss.x, [10, 30])
    np.testing.assert_array_equal(loss.y, [4.0, np.nan])
    assert loss.last == 4.0
    np.testing.assert_array_equal(series(rows, "knn").x, [20])
    assert series(rows, "nothing") is None


def test_every_chart_is_of_a_number_that_something_logs():
    files = [*ROOT.glob("recipes/*.py"), *ROOT.glob("audiossl/methods/*.py"), *ROOT.glob("audiossl/run/*.py")]
    code = "".join(file.read_text() for file in files if file.name not in ("curves.py", "page.py", "verdict.py"))
    assert [chart.key for chart in CHARTS if f'"{chart.key}"' not in code] == []


def test_long_series_are_drawn_averaged_without_moving_their_mean_and_end_at_the_last_value():
    n = 10 * MAX_POINTS
    rows = [{"kind": "step", "step": i, "loss": float(i % 7)} for i in range(n)]
    points = series(rows, "loss")
    assert (len(points.x), len(points.drawn().x)) == (n, MAX_POINTS)
    assert points.drawn().y.mean() == pytest.approx(np.mean([i % 7 for i in range(n)]), abs=0.02)
    assert last_of(rows, "loss") == points.last == (n - 1) % 7


def test_short_series_are_drawn_as_they_are():
    points = series([{"kind": "step", "step": i, "loss": float(i % 7)} for i in range(MAX_POINTS)], "loss")
    assert points.drawn() is points
