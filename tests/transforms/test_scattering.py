"""First-order scattering: equal to the dense computation in float64 and to Kymatio's, and blind to nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from audiossl.transforms import FrontEnd, build_frontend

from audiossl.errors import UserError


def noise(batch: int, n_samples: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return 0.1 * torch.randn(batch, n_samples, generator=torch.Generator().manual_seed(0), dtype=dtype)


def written_out(wave: np.ndarray, scattering: FrontEnd) -> np.ndarray:
    """Every sample of every envelope, and its average under the Gaussian, in float64."""
    config, margin = scattering.config, 4000
    padded = np.pad(wave.astype("f8"), margin)
    frequency = np.fft.fftfreq(len(padded))
    q = (config.f_min / config.f_max) ** (1 / (config.n_bins - 1))
    s = (1 - q) / (1 + q) / math.sqrt(math.log(2))
    lags = np.arange(-4 * config.hop_length, 4 * config.hop_length + 1)
    phi = np.exp(-0.5 * (lags / (config.hop_length / 2)) ** 2)
    rows = []
    for hz in scattering.frequencies.tolist():
        # The spectrum of a sampled wavelet repeats at every multiple of the rate.
        ratio = (frequency + np.array([[-1.0], [0.0], [1.0]])) * config.sample_rate / hz
        psi = (np.exp(-0.5 * ((ratio - 1) / s) ** 2) - np.exp(-0.5 * (ratio**2 + 1) / s**2)).sum(0)
        envelope = np.abs(np.fft.ifft(np.fft.fft(padded) * 2 * psi / (1 - math.exp(-1 / s**2)))) ** config.power
        middles = margin + config.hop_length * np.arange(1 + len(wave) // config.hop_length)
        rows.append([envelope[middle + lags] @ phi / phi.sum() for middle in middles])
    return np.array(rows)


@pytest.mark.parametrize(("hop_length", "n_bins"), [(167, 64), (160, 20), (334, 32)])
@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("n_samples", [7919, 300])
def test_picture_equals_the_dense_computation(hop_length, n_bins, power, n_samples):
    wave = noise(1, n_samples)
    scattering = build_frontend("scattering", hop_length=hop_length, n_bins=n_bins, power=power, compress="none")
    expected = written_out(wave[0].numpy(), scattering)
    image = scattering(wave)[0, 0].numpy()
    assert np.linalg.norm(image - expected) < 1e-3 * np.linalg.norm(expected)


def test_click_and_chirp_equal_the_dense_computation():
    seconds = torch.arange(8000) / 16000
    waves = torch.zeros(2, 8000)
    waves[0, 4007] = 1.0
    waves[1] = torch.sin(2 * torch.pi * (100 * seconds + 7000 * seconds**2))
    scattering = build_frontend("scattering", compress="none")
    for wave, image in zip(waves.numpy(), scattering(waves)[:, 0].numpy(), strict=True):
        expected = written_out(wave, scattering)
        assert np.linalg.norm(image - expected) < 1e-3 * np.linalg.norm(expected)


def test_neighbouring_filters_meet_at_half_power():
    scattering = build_frontend("scattering")
    for bank in scattering.banks:
        centre = bank.bank.response.args[0]
        between = (centre[0] * centre[1]).sqrt()[None]
        first, second = bank.bank.response(slice(0, 2), between).square()[:, 0] / 4.0
        assert float(first) == pytest.approx(0.5, abs=0.03)
        assert float(second) == pytest.approx(0.5, abs=0.03)


def test_sine_has_height_1_in_its_row():
    scattering = build_frontend("scattering", compress="none")
    for row in (10, 30, 60):
        hz = float(scattering.frequencies[row])
        image = scattering(torch.sin(2 * torch.pi * hz / 16000 * torch.arange(16000))[None])[0, 0, :, 30:-30]
        assert (image.argmax(0) == row).all()
        assert torch.allclose(image[row], torch.tensor(1.0), atol=2e-3)


def test_click_shows_wherever_it_lies_between_the_frames():
    heights = []
    for place in range(8000, 8167, 20):
        wave = torch.zeros(1, 16000)
        wave[0, place] = 1.0
        heights.append(float(build_frontend("scattering", compress="none")(wave)[0, 0, -10:].sum()))
    assert max(heights) < 1.05 * min(heights)


def test_picture_scales_and_follows_a_shift_of_whole_hops():
    wave = torch.zeros(1, 16000)
    wave[0, 2000:6000] = noise(1, 4000)
    scattering = build_frontend("scattering", compress="none")
    image = scattering(wave)[0, 0]
    assert torch.allclose(scattering(3.0 * wave)[0, 0], 3.0 * image, rtol=1e-4, atol=1e-6)
    late = scattering(wave.roll(20 * 167, dims=1))[0, 0]
    # The envelope is sampled at other places, so that the average's own error shows.
    assert (image[:, :60] - late[:, 20:80]).norm() < 2e-3 * image.norm()


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_gradient_is_right(power):
    scattering = build_frontend("scattering", n_bins=3, f_min=1000.0, f_max=4000.0, hop_length=20, power=power)
    wave = noise(1, 60, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(scattering.transform, wave)


def test_kymatio_gives_the_same_order_1(monkeypatch):
    import scipy.special

    if not hasattr(scipy.special, "sph_harm"):  # Kymatio 0.3.0 asks for a name that scipy 1.17 no longer has
        monkeypatch.setattr(scipy.special, "sph_harm", scipy.special.sph_harm_y, raising=False)
    torch1d = pytest.importorskip("kymatio.torch", reason="Kymatio is not installed", exc_type=ImportError)
    theirs = torch1d.Scattering1D(J=6, Q=8, shape=16384, max_order=1)
    hz = 16000 * np.array([psi["xi"] for psi in theirs.psi1_f])[:31]  # below, bandwidths are constant
    wave = noise(1, 16384)
    # Kymatio 0.3.0 leaves rows that it computed at every 2^j-th sample smaller by 2^j.
    factors = np.array([2.0 ** psi["j"] for psi in theirs.psi1_f])[:31, None]
    expected = (factors * theirs(wave)[0, 1:32].numpy())[::-1]
    # Its phi has a deviation of 2^6 / 0.2 pi = 102 samples, its filters a peak of 1.
    scattering = build_frontend("scattering", n_bins=31, f_min=hz[-1], f_max=hz[0], hop_length=204, compress="none")
    assert scattering.frequencies.numpy() == pytest.approx(hz[::-1], rel=1e-3)
    ours = scattering(wave)[0, 0].numpy() / 2.0
    together = range(16, 70, 16)  # 16 hops of 204 are 51 of 64 samples
    ours, expected = ours[:, together], expected[:, [51 * frame // 16 for frame in together]]
    assert np.linalg.norm(ours - expected) < 5e-3 * np.linalg.norm(expected)


def test_impossible_settings_say_what_to_do():
    with pytest.raises(UserError, match="n_bins=1 must be at least 2"):
        build_frontend("scattering", n_bins=1)
    with pytest.raises(UserError, match=r"f_min=0\.0 must be at least 1"):
        build_frontend("scattering", f_min=0.0)
    with pytest.raises(UserError, match="f_max=9000 Hz lies above 8000 Hz"):
        build_frontend("scattering", f_max=9000.0)
    with pytest.raises(UserError, match=r"power=3\.0 is unknown: choose one of 1\.0, 2\.0"):
        build_frontend("scattering", power=3.0)
