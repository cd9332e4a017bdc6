from __future__ import annotations

import re

import numpy as np
import pytest

from audiossl.run.axes import BETWEEN_LABELS, DIGIT, frequency_axis, frequency_ticks, place_of, time_ticks

LINEAR = np.arange(60.0, 7800.0, 15.625)
OCTAVES = 55.0 * 2.0 ** (np.arange(84) / 12)
MEL = 700.0 * (10.0 ** (np.linspace(100, 2800, 64) / 2595) - 1)
AXES = pytest.mark.parametrize("frequencies", [LINEAR, OCTAVES, MEL], ids=["linear", "octaves", "mel"])


@AXES
def test_a_row_lies_at_its_middle(frequencies):
    rows = len(frequencies)
    places = [place_of(hz, frequencies) for hz in frequencies[1:-1]]
    np.testing.assert_allclose(places, (np.arange(1, rows - 1) + 0.5) / rows)


@AXES
@pytest.mark.parametrize("height", [60, 128, 400])
def test_ticks_stand_apart_and_at_their_frequency(frequencies, height):
    ticks = frequency_ticks(frequencies, height)
    assert len(ticks) >= 3
    places = np.array([place for _, place in ticks])
    assert (-np.diff(places) * height >= 14).all()
    for hz, place in ticks:
        assert place == place_of(hz, frequencies)


def test_linear_axes_have_even_steps_and_others_octaves():
    assert [hz for hz, _ in frequency_ticks(LINEAR, 150)] == [7000, 6000, 5000, 4000, 3000, 2000, 1000]
    assert [hz for hz, _ in frequency_ticks(OCTAVES, 150)] == [4000, 2000, 1000, 500, 250, 125, 60]


def test_a_narrow_band_is_labelled_in_its_own_steps():
    pitches = 261.63 * 2.0 ** (np.arange(12) / 12)
    assert [hz for hz, _ in frequency_ticks(pitches, 150)] == [450, 400, 350, 300]


@pytest.mark.parametrize(
    ("frequencies", "count"), [(np.array([440.0]), 1), (np.zeros(5), 0), (np.array([100.0, 100.0, 200.0]), 2)]
)
def test_odd_axes_are_drawn(frequencies, count):
    assert len(frequency_ticks(frequencies, 128)) >= count
    assert "nan" not in frequency_axis(frequencies, 128)


def test_the_axis_says_what_it_counts():
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", frequency_axis(np.arange(32.0), 128, "row"))
    assert labels == ["30", "25", "20", "15", "10", "5", "0", "row"]


@pytest.mark.parametrize(
    ("start_s", "end_s", "width"), [(0, 1, 300), (0.42, 0.91, 92), (3605, 3610, 300), (0, 0.004, 300), (0, 7200, 60)]
)
def test_time_labels_do_not_meet(start_s, end_s, width):
    ticks = time_ticks(start_s, end_s, width)
    assert all(start_s - 1e-6 <= tick <= end_s + 1e-6 for tick in ticks)
    gaps = np.diff(ticks) * width / (end_s - start_s)
    longest = max((len(f"{tick:g}") for tick in ticks), default=0)
    assert len(gaps) == 0 or gaps.min() >= DIGIT * longest + BETWEEN_LABELS - 1e-6
