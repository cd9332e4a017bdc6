"""Reassigned spectrogram: librosa's coordinates, energy kept, chirps and clicks thin."""

from __future__ import annotations

import warnings

import librosa
import numpy as np
import pytest
import torch
from audiossl.transforms import MelConfig, ReassignedConfig, StftConfig, build_frontend
from audiossl.transforms.reassigned import three_windows
from audiossl.transforms.stft import hann

from audiossl.errors import UserError

# One row a Fourier bin.
LINEAR = {"scale": "linear", "n_bins": 513, "f_min": 0.0, "f_max": 8000.0, "compress": "none"}


def chirp(n_samples: int = 16000) -> torch.Tensor:
    t = torch.arange(n_samples, dtype=torch.float64) / 16000
    return torch.cos(2 * torch.pi * (500 + 2500 * t) * t).float()[None]  # 500 + 5000 t Hz


@pytest.mark.parametrize("win_length", [1024, 600, 401])
def test_windows_are_hann_its_derivative_and_its_ramp(win_length):
    window, slope, ramp = three_windows(win_length, 1024)
    assert torch.equal(window.float(), hann(win_length, 1024))
    fine = np.gradient(window.numpy())
    inner = window.numpy() > 1e-3
    np.testing.assert_allclose(slope.numpy()[inner], fine[inner], atol=2e-4 * np.abs(fine).max())
    np.testing.assert_allclose(ramp, window * (torch.arange(1024) - 512), atol=1e-12)


@pytest.mark.parametrize("win_length", [1024, 600])
def test_coordinates_equal_librosa(win_length):
    wave = chirp() + 0.01 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    config = ReassignedConfig(win_length=win_length)
    power, hz, samples = (x[0].T.numpy() for x in build_frontend(config).coordinates(wave))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa divides by zero where there is nothing
        their_hz, their_s, magnitude = librosa.reassigned_spectrogram(
            wave[0].double().numpy(), sr=16000, n_fft=1024, win_length=win_length, hop_length=167, clip=False,
            pad_mode="constant",
        )  # fmt: skip
    np.testing.assert_allclose(power, magnitude**2, atol=1e-6 * power.max())
    strong = power > 1e-6 * power.max()
    assert strong.sum() > 1000
    # In bins of 15.6 Hz; librosa's derivative of the window is a difference of neighbours.
    assert np.abs(hz - their_hz)[strong].max() < 0.05 * 15.625
    # librosa counts the ramp from half a sample before the window's middle: 0.5 of 167 samples.
    assert np.abs(samples - (their_s * 16000 - 0.5))[strong].max() < 0.02 * 167


def test_a_chirp_is_where_its_formula_says():
    power, hz, samples = (x[0] for x in build_frontend(ReassignedConfig()).coordinates(chirp()))
    strong = (power > 1e-3 * power.max()) & (torch.arange(96)[:, None] > 3) & (torch.arange(96)[:, None] < 92)
    assert (hz - (500 + 5000 * samples / 16000))[strong].abs().max() < 1.0


@pytest.mark.parametrize("settings", [LINEAR, {**LINEAR, "scale": "mel", "n_bins": 64}])
def test_power_is_moved_and_not_lost(settings):
    wave = 0.1 * torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    frontend = build_frontend(ReassignedConfig(**settings))
    power = frontend.coordinates(wave)[0].double()
    kept = (frontend(wave)[:, 0].double() * frontend.widths_hz.double()[:, None]).sum((1, 2))
    if settings["scale"] == "linear":
        torch.testing.assert_close(kept, power.sum((1, 2)), rtol=1e-6, atol=0.0)
    else:  # half a row's width at the ends of the band belongs to no row
        assert (kept / power.sum((1, 2)) > 0.95).all()


def test_a_chirp_and_a_click_are_thinner_than_their_spectrogram():
    def spread(image: torch.Tensor, dim: int) -> float:
        """Largest cell's share of the power along a dimension, middle frames or rows."""
        share = image.amax(dim) / image.sum(dim).clamp(min=1e-20)
        return float(share[10:80].mean()) if dim == 0 else float(share[5:-5].mean())

    click = torch.zeros(1, 16000)
    click[0, 50 * 167] = 1.0
    plain = build_frontend(StftConfig(f_min=0.0, f_max=8000.0, compress="none"))
    moved = build_frontend(ReassignedConfig(**LINEAR))
    assert spread(moved(chirp())[0, 0], 0) > 2.0 * spread(plain(chirp())[0, 0], 0)
    assert spread(moved(click)[0, 0], 1) > 0.99
    assert spread(plain(click)[0, 0], 1) < 0.5
    assert moved(click)[0, 0].sum(0).argmax() == 50


def test_rows_are_those_of_mel_and_as_bright_for_noise():
    wave = 0.1 * torch.randn(8, 16000, generator=torch.Generator().manual_seed(0))
    plain, moved = build_frontend(MelConfig(compress="none")), build_frontend(ReassignedConfig(compress="none"))
    assert torch.allclose(plain.frequencies, moved.frequencies)
    ratio = moved(wave).mean((0, 1, 3)) / plain(wave).mean((0, 1, 3))
    assert ((ratio > 0.7) & (ratio < 1.4)).all()


def test_gradient_flows_through_the_power():
    wave = torch.randn(1, 600, generator=torch.Generator().manual_seed(1)).requires_grad_()
    frontend = build_frontend(ReassignedConfig(n_fft=128, win_length=128, n_bins=20, hop_length=64, **{
        key: LINEAR[key] for key in ("scale", "f_min", "f_max", "compress")
    }))  # fmt: skip
    frontend(wave).sum().backward()
    moved = wave.grad.clone()
    wave.grad = None
    power = frontend.coordinates(wave)[0]
    (power.sum() / frontend.widths_hz[0]).backward()  # the same total, wherever it lies
    assert torch.allclose(moved, wave.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scale": "bark"}, "scale='bark'"),
        ({"n_bins": 1}, "n_bins=1"),
        ({"win_length": 2048}, "win_length=2048"),
        ({"f_max": 9000.0}, "f_max=9000"),
        ({"pad_mode": "wrap"}, "pad_mode='wrap'"),
    ],
)
def test_impossible_settings_name_the_setting(changes, words):
    with pytest.raises(UserError, match=words):
        build_frontend(ReassignedConfig(**changes))
