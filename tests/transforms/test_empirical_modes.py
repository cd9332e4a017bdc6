"""Empirical modes and their Hilbert spectrum, against EMD-signal's own sums and a plain loop with SciPy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from audiossl.transforms import EmdConfig
from audiossl.transforms.empirical_modes import analytic, empirical_modes, hilbert_picture, hilbert_spectrum
from scipy.signal import argrelextrema, hilbert

pytest.importorskip("PyEMD", reason="EMD-signal, of the extra `rare`, is not installed")
METHODS = pytest.mark.parametrize("method", ["emd", "eemd", "ceemdan"])


def config(**changes) -> EmdConfig:
    return EmdConfig(**{"hop_length": 100, "n_bins": 24, "trials": 3, **changes})


def two_tones(n_samples: int = 3000) -> np.ndarray:
    t = np.arange(n_samples) / 16000
    return (0.5 * np.sin(2 * np.pi * 2500 * t) + np.sin(2 * np.pi * 280 * t + 1)).astype("f4")


def noise(n_samples: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(n_samples)).astype("f4")


def test_the_modes_and_a_residue_without_oscillation_are_the_clip():
    wave = noise(2000)
    modes = empirical_modes(wave, config())
    assert 5 < len(modes) < 15
    residue = wave - modes.sum(0)
    assert sum(len(argrelextrema(residue, kind)[0]) for kind in (np.greater, np.less)) <= 2
    crossings = [(np.diff(np.signbit(mode)) != 0).sum() for mode in modes]
    assert crossings == sorted(crossings, reverse=True)  # quick ones first


def test_the_modes_are_those_of_the_library():
    from PyEMD import EMD

    wave = noise(1000).astype("f8")
    expected = EMD().emd(wave / wave.std()) * wave.std()
    modes = empirical_modes(wave, config())
    np.testing.assert_allclose(modes, expected[: len(modes)], atol=1e-12)
    np.testing.assert_allclose(wave - modes.sum(0), expected[len(modes) :].sum(0), atol=1e-9)


@METHODS
def test_two_tones_stand_in_their_rows(method):
    settings = config(method=method, noise=0.05)
    image = hilbert_picture(two_tones(), settings)
    edges = 60 * (7800 / 60) ** (np.arange(25) / 24)
    inner = image[:, 5:-5].mean(1)
    for hz, energy in ((280, 1.0), (2500, 0.25)):
        row = int(np.searchsorted(edges, hz)) - 1
        assert inner[row - 1 : row + 2].sum() == pytest.approx(100 * energy, rel=0.2)
        if method == "emd":
            assert inner[row] == pytest.approx(100 * energy, rel=0.05)
    assert inner.sum() == pytest.approx(125, rel=0.2)


@pytest.mark.parametrize(("n_samples", "hop_length"), [(700, 100), (701, 64), (50, 100)])
def test_the_picture_is_that_of_a_plain_loop(n_samples, hop_length):
    settings = config(hop_length=hop_length, f_min=200.0, f_max=6000.0)
    modes = empirical_modes(noise(n_samples), settings)
    edges = 200 * 30 ** (np.arange(25) / 24)
    n_frames = 1 + n_samples // hop_length
    expected = np.zeros((24, n_frames))
    for mode in modes:
        z = hilbert(mode)
        phase = np.unwrap(np.angle(z))
        for t in range(n_samples):
            s = min(t, n_samples - 2)
            hz = (phase[s + 1] - phase[s]) * 16000 / (2 * np.pi)
            row = np.searchsorted(edges, hz, side="right") - 1
            if 0 <= row < 24:
                frame = min(int(np.floor(t / hop_length + 0.5)), n_frames - 1)
                expected[row, frame] += np.abs(z[t]) ** 2
    np.testing.assert_allclose(hilbert_spectrum(modes, settings), expected, rtol=1e-5, atol=1e-9)


def test_all_energy_within_the_band_is_in_the_picture():
    modes = empirical_modes(two_tones(), config())[:1]
    whole = np.square(np.abs(analytic(modes))).sum()
    assert hilbert_spectrum(modes, config(f_min=1000.0)).sum() == pytest.approx(whole, rel=1e-2)
    assert hilbert_spectrum(modes, config(f_max=1000.0)).sum() < 1e-2 * whole


@pytest.mark.parametrize("n_samples", [1, 2, 5, 6])
def test_the_analytic_signal_is_scipys(n_samples):
    modes = np.random.default_rng(1).standard_normal((2, n_samples))
    np.testing.assert_allclose(analytic(modes), hilbert(modes), atol=1e-14)


@METHODS
@pytest.mark.parametrize("n_samples", [1, 2, 3, 4, 5, 7, 20])
def test_clips_too_short_to_oscillate_and_constants(method, n_samples):
    settings = config(method=method)
    for wave in (
        noise(n_samples),
        np.zeros(n_samples, "f4"),
        np.full(n_samples, 0.3, "f4"),
        np.arange(n_samples) * 0.1,
    ):
        image = hilbert_picture(wave, settings)
        assert image.shape == (24, 1 + n_samples // 100)
        assert image.dtype == np.float32
        assert np.isfinite(image).all()


def test_a_quiet_clip_has_the_modes_of_a_loud_one():
    wave = noise(1500)
    loud = hilbert_picture(wave, config())
    quiet = hilbert_picture(wave * np.float32(2.0**-14), config())
    np.testing.assert_allclose(quiet * 2.0**28, loud, rtol=1e-6)


@pytest.mark.parametrize("method", ["eemd", "ceemdan"])
def test_the_noise_follows_from_the_clip(method):
    settings = config(method=method)
    wave = noise(400)
    assert np.array_equal(empirical_modes(wave, settings), empirical_modes(wave.copy(), settings))
    loose = empirical_modes(wave, config(method=method, noise=0.4))
    assert not np.array_equal(loose[0], empirical_modes(wave, settings)[0])


def test_eemd_adds_noise_of_the_stated_deviation():
    # One trial: its modes sum up to the clip and the noise.
    wave = noise(3000)
    added = empirical_modes(wave, config(method="eemd", trials=1, noise=0.5)).sum(0) - wave
    assert added.std() == pytest.approx(0.5 * wave.std(), rel=0.05)


def test_workers_start_without_torch():
    code = "import sys, audiossl.transforms.empirical_modes; print('torch' in sys.modules, 'PyEMD' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.split() == ["False", "False"]


def test_zeros_at_the_ends_of_a_clip_are_no_part_of_its_sound():
    config = EmdConfig(hop_length=100, n_bins=16)
    time = np.arange(3000) / 16000
    sound = (np.sin(2 * np.pi * 700 * time) + 0.3 * np.cos(2 * np.pi * 2900 * time)).astype(np.float32)
    padded = np.concatenate([np.zeros(2000, np.float32), sound, np.zeros(3000, np.float32)])
    alone, placed = hilbert_picture(sound, config), hilbert_picture(padded, config)
    assert placed.shape == (16, 81)
    first, last = 2000 // 100, 2000 // 100 + alone.shape[1]
    np.testing.assert_allclose(placed[:, first:last].sum(0), alone.sum(0), rtol=1e-3, atol=1e-3)
    assert placed[:, : first - 1].sum() == placed[:, last + 1 :].sum() == 0
    assert hilbert_picture(np.zeros(500, np.float32), config).sum() == 0
