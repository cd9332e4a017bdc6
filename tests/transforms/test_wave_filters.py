"""Filters against recursions of second order and slopes of pure tones."""

import math

import numpy as np
import pytest
import torch
from audiossl.transforms.draws import Draws
from audiossl.transforms.wave_filters import PassFilter, Tilt, pass_filter, tilt

from audiossl.errors import UserError

RATE = 16000


def tones(*frequencies_hz, size=8000):
    time_s = torch.arange(size, dtype=torch.float64) / RATE
    return torch.stack([torch.sin(2 * math.pi * hz * time_s) for hz in frequencies_hz])


def level_db(before, after):
    middle = slice(2000, 6000)
    return 10 * torch.log10(after[:, middle].square().mean(1) / before[:, middle].square().mean(1))


def recursion(wave, kind, hz, q):
    """The filter's difference equation, coefficients as in the Audio EQ Cookbook."""
    w = 2 * math.pi * hz / RATE
    alpha, cos = math.sin(w) / (2 * q), math.cos(w)
    b = {
        "low": [(1 - cos) / 2, 1 - cos, (1 - cos) / 2],
        "high": [(1 + cos) / 2, -(1 + cos), (1 + cos) / 2],
        "band": [alpha, 0.0, -alpha],
    }[kind]
    x, y = np.concatenate([[0, 0], wave]), np.zeros(len(wave) + 2)
    for s in range(2, len(x)):
        total = sum(b[k] * x[s - k] for k in range(3)) + 2 * cos * y[s - 1] - (1 - alpha) * y[s - 2]
        y[s] = total / (1 + alpha)
    return y[2:]


@pytest.mark.parametrize("kind", ["low", "high", "band"])
def test_passes_equal_the_recursion(kind):
    wave, corners = torch.randn(3, 3000), torch.tensor([50.0, 900.0, 6500.0])
    out = pass_filter(wave, kind, corners, 0.7071, RATE)
    for b, hz in enumerate(corners.tolist()):
        expected = recursion(wave[b].double().numpy(), kind, hz, 0.7071)
        np.testing.assert_allclose(out[b].numpy(), expected, atol=1e-4 * np.abs(expected).max())


def test_a_corner_lies_3_db_down():
    wave = tones(1000.0)
    for kind in ("low", "high"):
        out = pass_filter(wave, kind, torch.tensor([1000.0]), 0.5**0.5, RATE)
        assert level_db(wave, out).item() == pytest.approx(-3.01, abs=0.02)
    assert level_db(wave, pass_filter(wave, "band", torch.tensor([1000.0]), 0.7, RATE)).item() == pytest.approx(
        0, abs=0.01
    )


def test_a_drawn_filter_has_no_resonance_unless_asked_for():
    wave = tones(1000.0)
    filtered = PassFilter("low", 1.0, RATE, (1000.0, 1000.0))(wave, Draws(torch.Generator().manual_seed(0)))
    assert level_db(wave, filtered).item() == pytest.approx(-3.01, abs=0.02)


def test_a_tilt_is_a_straight_line_over_octaves_about_its_pivot():
    wave = tones(250.0, 500.0, 1000.0, 2000.0, 4000.0)
    out = tilt(wave, torch.full((5,), -3.0), RATE, pivot_hz=1000.0)
    torch.testing.assert_close(
        level_db(wave, out), torch.tensor([6.0, 3.0, 0.0, -3.0, -6.0], dtype=torch.float64), atol=0.02, rtol=0
    )
    assert tilt(wave, torch.zeros(5), RATE).allclose(wave, atol=1e-6)


def test_the_tilt_equals_a_loop_over_clips_at_the_same_draws():
    wave = torch.randn(4, 1000)
    out = Tilt(6.0, RATE, 1000.0)(wave, Draws(torch.Generator().manual_seed(2)))
    slopes = Draws(torch.Generator().manual_seed(2)).uniform(4, low=-6.0, high=6.0)
    for b in range(4):
        padded = np.concatenate([wave[b].double().numpy(), np.zeros(2700 - 1000)])  # from 1,000 + 1,600 on: 4 27 25
        spectrum = np.fft.rfft(padded)
        hz = np.maximum(np.fft.rfftfreq(len(padded), 1 / RATE), 20.0)
        spectrum *= 10 ** (slopes[b].item() / 20 * np.log2(hz / 1000.0))
        np.testing.assert_allclose(out[b].numpy(), np.fft.irfft(spectrum, len(padded))[:1000], atol=2e-5)


def test_passes_equal_a_loop_over_clips_at_the_same_draws():
    wave = torch.randn(6, 500)
    out = PassFilter("band", 0.5, RATE, (300.0, 3000.0), 1.0)(wave, Draws(torch.Generator().manual_seed(3)))
    d = Draws(torch.Generator().manual_seed(3))
    coins, corners = d.uniform(6), d.log_uniform(6, 300.0, 3000.0)
    for b in range(6):
        expected = recursion(wave[b].numpy(), "band", corners[b].item(), 1.0) if coins[b] < 0.5 else wave[b].numpy()
        np.testing.assert_allclose(out[b].numpy(), expected, atol=1e-4)


def test_silence_and_a_single_sample_stay_finite():
    for size in (1, 4001):
        for kind in ("low", "high", "band"):
            assert pass_filter(torch.zeros(1, size), kind, torch.tensor([100.0]), 0.7, RATE).abs().max() == 0
        assert tilt(torch.ones(1, size), torch.tensor([6.0]), RATE).isfinite().all()


def test_a_corner_above_half_of_the_sample_rate_is_refused():
    with pytest.raises(UserError, match=r"--wave\.low_pass_hz reaches 8000 Hz"):
        PassFilter("low", 0.5, RATE, (100.0, 8000.0))
