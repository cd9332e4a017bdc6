"""The gammatone front end: its impulse response written out, the ERB scale, and nnAudio's picture beside it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from audiossl.transforms import GammatoneConfig, build_frontend
from audiossl.transforms.gammatone import erb_number

from audiossl.errors import UserError


def noise(batch: int, n_samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(batch, n_samples, generator=torch.Generator().manual_seed(0))


def written_out(wave: np.ndarray, hz: float, sample_rate: int, hop_length: int) -> np.ndarray:
    """Convolution with t^3 exp(-2 pi b t) exp(2 pi i f t), peak of its spectrum 2, moved ahead by its time to peak."""
    decay = 2 * math.pi * 1.019 * 24.7 * (4.37 * hz / 1000 + 1) / sample_rate
    n = np.arange(math.ceil(40 / decay))
    envelope = n**3 * np.exp(-decay * n)
    output = np.convolve(wave, 2 / envelope.sum() * envelope * np.exp(2j * np.pi * hz / sample_rate * n))
    return output[round(3 / decay) :][: len(wave) + 1 : hop_length]


def test_the_floor_lies_90_db_under_a_sine():
    assert 10 * math.log10(GammatoneConfig().floor) == pytest.approx(-90)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize(("rate", "n_samples"), [(16000, 8000), (16000, 301), (32000, 7919)])
def test_picture_equals_the_filters_written_out(power, rate, n_samples):
    wave = noise(1, n_samples)
    gammatone = build_frontend("gammatone", sample_rate=rate, n_bins=12, power=power, compress="none")
    image = gammatone(wave)[0, 0].numpy()
    for hz, row in zip(gammatone.frequencies.tolist(), image, strict=True):
        padded = np.pad(wave[0].numpy().astype("f8"), (0, 2000))
        expected = np.abs(written_out(padded, hz, rate, 167)[: len(row)]) ** power
        assert np.linalg.norm(row - expected) < 3e-3 * np.linalg.norm(expected)


def test_rows_are_equally_spaced_on_the_erb_scale():
    gammatone = build_frontend("gammatone")
    steps = erb_number(gammatone.frequencies.double()).diff()
    assert torch.allclose(steps, steps[0].expand_as(steps), rtol=1e-3)
    assert gammatone.frequencies[[0, -1]].tolist() == pytest.approx([60.0, 7800.0])


def test_equivalent_rectangular_bandwidth_is_one_erb():
    gammatone = build_frontend("gammatone")
    frequency = torch.arange(-4000, 12000, dtype=torch.float64) / 16000
    for row in (10, 30, 50):
        power = gammatone.bank.response(slice(row, row + 1), frequency)[0].abs().square()
        erb = 24.7 * (4.37e-3 * float(gammatone.frequencies[row]) + 1)
        assert float(power.sum() / power.max()) == pytest.approx(erb, rel=0.01)  # bins of 1 Hz


@pytest.mark.parametrize("backend", ["fft", "nnaudio"])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_sine_has_height_1_in_its_row(backend, power):
    gammatone = build_frontend("gammatone", backend=backend, power=power, compress="none")
    for row in (30, 45, 60):
        hz = float(gammatone.frequencies[row])
        image = gammatone(torch.sin(2 * torch.pi * hz / 16000 * torch.arange(16000))[None])[0, 0, :, 20:-20]
        assert image.mean(1).argmax() == row
        # Under nnAudio's curves the window's own width takes from the narrower rows.
        assert float(image[row].mean()) == pytest.approx(1.0, abs=0.01 if backend == "fft" else 0.12)


def test_both_backends_agree_in_the_mean_and_differ_in_sharpness():
    waves = noise(4, 32000)
    pictures = [build_frontend("gammatone", backend=backend, compress="none")(waves) for backend in ("fft", "nnaudio")]
    ours, theirs = (picture[..., 10:-10].mean((0, 1, 3)) for picture in pictures)
    assert (theirs / ours - 1.0).abs().mean() < 0.03
    seconds = torch.arange(32000) / 16000
    chirp = torch.sin(2 * torch.pi * 100 * (2 ** (2.5 * seconds) - 1) / (2.5 * math.log(2)))
    for wave, least in ((chirp[None], 0.99), (waves[:1], 0.6)):  # of noise, one shows the flicker and one the mean
        logs = [build_frontend("gammatone", backend=backend, floor=1e-5)(wave) for backend in ("fft", "nnaudio")]
        assert torch.corrcoef(torch.stack([log.flatten() for log in logs]))[0, 1] > least


def test_click_lies_at_one_time_in_all_rows():
    wave = torch.zeros(1, 8000)
    wave[0, 4000] = 1.0
    gammatone = build_frontend("gammatone", hop_length=4, compress="none")
    late = (gammatone(wave)[0, 0].argmax(1) - 1000).abs() * 4
    assert late.max() <= 4


def test_clip_of_a_shifted_sound_is_the_shifted_picture():
    wave = torch.zeros(2, 16000)
    wave[0, 2000:6000] = noise(1, 4000)
    wave[1, 2000 + 20 * 167 : 6000 + 20 * 167] = wave[0, 2000:6000]
    first, second = build_frontend("gammatone", compress="none")(wave)[:, 0]
    assert torch.allclose(first[:, :70], second[:, 20:90], atol=1e-6)


def test_trained_kernels_receive_gradients():
    gammatone = build_frontend("gammatone", backend="nnaudio", trainable=True)
    gammatone(noise(2, 4000)).mean().backward()
    gradients = {name: value.grad for name, value in gammatone.named_parameters()}
    assert len(gradients) == 3  # weights, sines, cosines
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("backend", ["fft", "nnaudio"])
@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("n_samples", [1, 100, 3001])
def test_silence_is_finite_in_value_and_gradient(backend, power, n_samples):
    silence = torch.zeros(2, n_samples, requires_grad=True)
    gammatone = build_frontend("gammatone", backend=backend, power=power)
    image = gammatone(silence)
    image.sum().backward()
    assert image.shape == (2, 1, 64, 1 + n_samples // 167)
    assert image.isfinite().all()
    assert silence.grad.isfinite().all()


def test_impossible_settings_say_what_to_do():
    with pytest.raises(UserError, match="backend='scipy' is unknown: choose one of fft, nnaudio"):
        build_frontend("gammatone", backend="scipy")
    with pytest.raises(UserError, match="f_max=9000 Hz lies above 8000 Hz, half of sample_rate"):
        build_frontend("gammatone", f_max=9000.0)
    with pytest.raises(UserError, match="trainable=true needs backend=nnaudio"):
        build_frontend("gammatone", trainable=True)
    with pytest.raises(UserError, match="n_fft=1023 must be even"):
        build_frontend("gammatone", n_fft=1023)
