"""Schedules against DINO's precomputed arrays, and at their edges."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiossl.schedules import cosine, linear_warmup, warmup_cosine


def test_cosine_equals_the_array_of_the_paper_up_to_its_last_step():
    n = 50
    array = 0.996 + 0.5 * (1.0 - 0.996) * (1 - np.cos(np.pi * np.arange(n) / (n - 1)))
    np.testing.assert_allclose([cosine(i, n, 0.996, 1.0) for i in range(n)], array, rtol=1e-12)


def test_warmup_rises_then_falls_to_the_end():
    values = [warmup_cosine(i, 100, 10, 1.0, 0.01) for i in range(100)]
    assert values[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert values[10] == 1.0
    assert values[-1] == pytest.approx(0.01)
    assert all(a >= b for a, b in itertools.pairwise(values[10:]))


@given(total=st.integers(1, 300), warmup=st.integers(0, 500))
def test_any_length_and_warmup_gives_rates_in_range(total, warmup):
    values = [warmup_cosine(i, total, warmup, 2.0, 0.5) for i in range(total)]
    assert all(0.0 < value <= 2.0 for value in values)


def test_temperature_warmup_longer_than_the_run_is_no_error():
    assert [linear_warmup(i, 1000, 0.04, 0.07) for i in (0, 5)] == pytest.approx([0.04, 0.04015])
    assert linear_warmup(3, 0, 0.04, 0.07) == 0.07
