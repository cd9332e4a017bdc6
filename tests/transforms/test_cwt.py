"""Wavelet pictures: equal to convolution in time, to the dense transform at every hop, and to PyWavelets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pywt
import torch
from audiossl.transforms import CwtConfig, build_frontend
from torch import Tensor

from audiossl.errors import UserError

EVERY = pytest.mark.parametrize(
    "wavelet", [{"wavelet": "morlet"}, {"wavelet": "morse"}, {"wavelet": "mexican_hat"}], ids=lambda w: w["wavelet"]
)


def cwt_config(**changes) -> CwtConfig:
    plain = {"n_bins": 24, "f_min": 100.0, "f_max": 7800.0, "compress": "none", "power": 1.0}
    return CwtConfig(**{**plain, **changes})


def chirp_tone_noise(n_samples: int) -> Tensor:
    t = torch.arange(n_samples, dtype=torch.float64) / 16000
    noise = torch.randn(n_samples, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chirp = torch.sin(2 * math.pi * (100 + 3000 * t) * t)
    return 0.3 * chirp + 0.1 * torch.sin(2 * math.pi * 440 * t) + 0.05 * noise


def relative(x: Tensor, reference: Tensor) -> float:
    return float((x - reference).norm() / reference.norm())


def transform(config: CwtConfig, ratio: Tensor) -> Tensor:
    """Fourier transforms as the papers write them, divided by their peaks and doubled."""
    if config.wavelet == "morlet":
        w0, omega = config.w0, config.w0 * ratio
        shape = torch.exp(-0.5 * (omega - w0) ** 2) - math.exp(-0.5 * w0**2) * torch.exp(-0.5 * omega**2)
    elif config.wavelet == "morse":
        omega = ratio * (config.beta / config.gamma) ** (1 / config.gamma)
        shape = omega**config.beta * torch.exp(-(omega**config.gamma))
        at_peak = (config.beta / config.gamma) ** (config.beta / config.gamma) * math.exp(-config.beta / config.gamma)
        shape = shape / at_peak
    else:
        omega = math.sqrt(2) * ratio
        shape = omega**2 * torch.exp(-(omega**2) / 2) / (2 * math.exp(-1))
    return 2 * torch.where(ratio > 0, shape, 0.0)


def dense(config: CwtConfig, wave: Tensor, hz: Tensor) -> Tensor:
    """Complex transform (F, S) at every sample: one Fourier transform of a long padded clip, float64."""
    n = 2 ** math.ceil(math.log2(4 * len(wave) + 8000))
    frequency = torch.arange(n, dtype=torch.float64) * (config.sample_rate / n)
    end = (0.5 - 0.5 * torch.sin((frequency - 8000) / 200 * math.pi / 2)).where((frequency - 8000).abs() < 200, 1.0)
    response = transform(config, frequency / hz[:, None]) * end * (frequency < 8200)
    return torch.fft.ifft(torch.fft.fft(wave, n) * response)[:, : len(wave)]


def assert_exact(image: Tensor, reference: Tensor) -> None:
    """The picture to the bank's tolerance, every row to what the module promises."""
    image = image[:, : reference.shape[1]]
    assert relative(image, reference) < 1e-4
    for row, exact in zip(image, reference, strict=True):
        assert relative(row, exact) < 1e-3


@EVERY
@pytest.mark.parametrize(("n_samples", "hop_length"), [(16000, 167), (5003, 100), (60, 7)])
def test_every_hop_th_sample_of_the_dense_transform(wavelet, n_samples, hop_length):
    config = cwt_config(hop_length=hop_length, **wavelet)
    frontend = build_frontend(config)
    wave = chirp_tone_noise(n_samples)
    reference = dense(config, wave, frontend.frequencies.double()).abs()[:, ::hop_length]
    assert_exact(frontend(wave[None].float())[0, 0], reference)
    exact = frontend.transform(wave[None])[0, 0]  # float64 throughout: what is left is the tolerance
    assert exact.dtype == torch.float64
    assert_exact(exact, reference)


def test_morlet_equals_convolution_in_time_below_three_tenths_of_the_rate():
    config = cwt_config(f_max=4800.0, w0=7.0)
    frontend = build_frontend(config)
    wave = chirp_tone_noise(8000)
    rows = []
    for hz in frontend.frequencies.double().tolist():
        length = config.w0 / (2 * math.pi * hz / 16000)  # standard deviation in samples
        n = torch.arange(-math.ceil(6 * length), math.ceil(6 * length) + 1, dtype=torch.float64)
        envelope = 2 / (length * math.sqrt(2 * math.pi)) * torch.exp(-0.5 * (n / length) ** 2)
        wavelet = envelope * (torch.exp(2j * math.pi * hz / 16000 * n) - math.exp(-0.5 * config.w0**2))
        full = np.convolve(wave.numpy(), wavelet.numpy())[len(n) // 2 :][:8000]
        rows.append(torch.from_numpy(np.abs(full)[::167]))
    assert_exact(frontend(wave[None].float())[0, 0], torch.stack(rows))


def test_morse_equals_convolution_in_time_below_three_tenths_of_the_rate():
    # The wavelet in time is an integral over its Fourier transform, which is smooth and ends at three times the row's
    # frequency: a sum over 400 frequencies is exact to rounding for fifteen periods on both sides, where it is over.
    config = cwt_config(wavelet="morse", f_max=4800.0)
    frontend = build_frontend(config)
    wave = chirp_tone_noise(4000)
    ratio = torch.linspace(0.0, 3.0, 401, dtype=torch.float64)[1:]
    rows = []
    for hz in frontend.frequencies.double().tolist():
        half = math.ceil(15 * 16000 / hz)
        n = torch.arange(-half, half + 1, dtype=torch.float64)
        waves = torch.exp(2j * math.pi * hz / 16000 * n[:, None] * ratio)
        wavelet = (transform(config, ratio).to(torch.complex128) * waves).sum(1) * (hz / 16000 * 3.0 / 400)
        full = np.convolve(wave.numpy(), wavelet.numpy())[half : half + 4000]
        rows.append(torch.from_numpy(np.abs(full)[::167]))
    assert_exact(frontend(wave[None].float())[0, 0], torch.stack(rows))


@EVERY
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_sine_has_its_amplitudes_height_at_every_scale(wavelet, power):
    frontend = build_frontend(cwt_config(power=power, f_min=200.0, f_max=6000.0, n_bins=12, **wavelet))
    hz = frontend.frequencies.double()
    t = torch.arange(16000, dtype=torch.float64) / 16000
    images = frontend(0.5 * torch.sin(2 * math.pi * hz[:, None] * t).float())[:, 0, :, 40:56]
    heights = images.diagonal(dim1=0, dim2=1)
    assert torch.allclose(heights, torch.full_like(heights, 0.5**power), rtol=2e-3)
    # Row m is loudest for sine m.
    assert images.mean(-1).argmax(dim=1).tolist() == list(range(12))


def test_pywavelets_complex_morlet():
    bandwidth, centre = 1.5, 1.0
    config = cwt_config(w0=2 * math.pi * centre * math.sqrt(bandwidth / 2), n_bins=16, f_max=3000.0)
    frontend = build_frontend(config)
    wave = chirp_tone_noise(4000)
    scales = centre * 16000 / frontend.frequencies.double().numpy()
    coefficients, _ = pywt.cwt(
        wave.numpy(), scales, f"cmor{bandwidth}-{centre}", method="fft", precision=14, sampling_period=1.0
    )
    # PyWavelets' filters have the L2 norm 1 and count positive frequencies once.
    theirs = torch.from_numpy(2 * np.abs(coefficients) / np.sqrt(scales)[:, None])[:, ::167]
    assert relative(frontend(wave[None].float())[0, 0, :, :24], theirs) < 5e-2


def test_mexican_hats_real_part_is_pywavelets_real_transform():
    config = cwt_config(wavelet="mexican_hat", n_bins=5, f_max=300.0, hop_length=100)
    frontend = build_frontend(config)
    wave = chirp_tone_noise(4000)
    output = frontend.bank(wave[None])[0, :, :40].real
    # The peak of the Fourier transform of exp(-t^2 / 2) (1 - t^2) lies at sqrt(2) radians a second.
    scales = math.sqrt(2) / (2 * math.pi) * 16000 / frontend.frequencies.double().numpy()
    coefficients, _ = pywt.cwt(wave.numpy(), scales, "mexh", method="fft", precision=14)
    norm = 2 / (math.sqrt(3) * math.pi**0.25) * math.sqrt(2 * math.pi) * 2 * math.exp(-1)
    theirs = torch.from_numpy(coefficients / np.sqrt(scales)[:, None] / norm)[:, ::100]
    assert relative(output, theirs) < 5e-2  # PyWavelets lies half a sample aside, which shows in higher rows


def test_scaled_sound_scales_the_picture_along_the_rows():
    # Twice as fast a wave is the same picture an octave higher.
    t = torch.arange(16000, dtype=torch.float64) / 16000
    slow = torch.exp(-0.5 * ((t - 0.5) / 0.02) ** 2) * torch.sin(2 * math.pi * 500 * t)
    fast = torch.exp(-0.5 * ((t - 0.25) / 0.01) ** 2) * torch.sin(2 * math.pi * 1000 * t)
    config = cwt_config(n_bins=25, f_min=125.0, f_max=2000.0, hop_length=80)  # six rows an octave
    one = build_frontend(config)(slow[None].float())[0, 0]
    two = build_frontend(cwt_config(n_bins=25, f_min=125.0, f_max=2000.0, hop_length=40))(fast[None].float())[0, 0]
    assert relative(two[6:, :201], one[:-6, :201]) < 2e-3


def test_more_voices_are_more_rows_at_the_same_places():
    few, many = (build_frontend(cwt_config(n_bins=n)) for n in (13, 25))
    assert torch.allclose(few.frequencies, many.frequencies[::2], rtol=1e-6)
    wave = chirp_tone_noise(3000)[None].float()
    assert relative(few(wave), many(wave)[:, :, ::2]) < 1e-3
    assert build_frontend(cwt_config(n_bins=1)).frequencies.tolist() == [100.0]


def test_gradients_in_float64():
    frontend = build_frontend(cwt_config(n_bins=3, f_min=500.0, power=2.0, hop_length=30))
    wave = chirp_tone_noise(90)[None].requires_grad_()
    assert torch.autograd.gradcheck(frontend.transform, (wave,))


@pytest.mark.filterwarnings("ignore")
def test_compiles_whole():
    frontend = build_frontend(cwt_config(n_bins=8))
    compiled = torch.compile(frontend, fullgraph=True, backend="aot_eager")
    for n_samples in (3000, 2000):
        wave = chirp_tone_noise(n_samples)[None].float()
        assert relative(compiled(wave), frontend(wave)) < 1e-6


def test_the_small_preset_fits():
    image = build_frontend("cwt", n_bins=32, hop_length=334)(torch.randn(2, 16000))
    assert image.shape == (2, 1, 32, 48)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wavelet": "haar"}, "wavelet='haar'"),
        ({"f_min": 0.0}, "f_min=0 Hz is no row"),
        ({"f_max": 8001.0}, "f_max=8001 Hz lies above 8000 Hz"),
        ({"f_min": 7900.0}, "f_min=7900"),
        ({"n_bins": 0}, "n_bins=0"),
        ({"w0": 1.0}, "w0=1.0 must be at least 3"),
        ({"beta": 0.0}, "beta=0"),
        ({"power": 3.0}, "power=3"),
    ],
)
def test_impossible_settings_name_the_setting(changes, words):
    with pytest.raises(UserError, match=words):
        build_frontend(cwt_config(**changes))
