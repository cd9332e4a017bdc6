"""The discrete wavelet transform: PyWavelets' coefficients in every mode, and where the picture puts their energy."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import pywt
import torch
from audiossl.transforms import DwtConfig, build_frontend
from audiossl.transforms.dwt import PAD_MODES, mean_over_frames, wavedec

from audiossl.errors import UserError

WAVELETS = ["haar", "db4", "sym8", "bior2.4", "rbio3.9", "dmey"]
pytestmark = pytest.mark.filterwarnings("ignore:Level value")


def noise(batch: int, n_samples: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, n_samples, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_coefficients_equal_pywavelets(pad_mode, wavelet):
    # Down to one sample, far shorter than a filter; of one sample PyWavelets refuses to reflect.
    for n_samples in (2, 3, 7, 20, 101, 1000) if "reflect" in pad_mode else (1, 2, 3, 7, 20, 101, 1000):
        for level in (1, 4) if "reflect" not in pad_mode or n_samples > 20 else (1,):
            wave = noise(2, n_samples)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = pywt.wavedec(wave.numpy().astype("f8"), wavelet, pad_mode, level)
            rows = wavedec(wave, wavelet, level, pad_mode)
            assert [row.shape for row in rows] == [row.shape for row in expected]
            # The two modes that continue a slope grow far beyond the clip: relative to the largest.
            scale = max(1.0, *(np.abs(row).max() for row in expected))
            for row, same in zip(rows, expected, strict=True):
                np.testing.assert_allclose(row.numpy(), same, atol=1e-5 * scale)


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym8", "bior2.4", "rbio3.9"])  # dmey is only nearly exact
@pytest.mark.parametrize("n_samples", [5, 1000, 1001])
def test_pywavelets_gives_the_wave_back(pad_mode, wavelet, n_samples):
    wave = noise(2, n_samples)
    rows = [row.double().numpy() for row in wavedec(wave, wavelet, 3, pad_mode)]
    again = pywt.waverec(rows, wavelet, "periodization" if pad_mode == "periodization" else "symmetric")
    np.testing.assert_allclose(again[:, :n_samples], wave.numpy(), rtol=0.0, atol=1e-5)


def test_transform_is_linear_and_orthogonal():
    one, two = noise(2, 1024, torch.float64).split(1)
    rows = [torch.cat(wavedec(wave, "db4", 5, "periodization"), dim=-1) for wave in (one, two, 3 * one - two)]
    assert torch.allclose(rows[2], 3 * rows[0] - rows[1])
    assert torch.allclose(rows[0].square().sum(), one.square().sum())


def test_mean_over_frames_is_the_overlap_written_out():
    energy, step, start, hop, n_samples = noise(1, 9, torch.float64).square(), 8, -5.0, 7, 50
    means = mean_over_frames(energy[None], torch.tensor([start]), step, n_samples, hop)[0, 0]
    held = torch.cat([energy[0, :1].repeat(9), energy[0], energy[0, -1:].repeat(9)]) / step
    lengths = []
    for t in range(1 + n_samples // hop):
        left = max(0.0, (t - 0.5) * hop)
        right = n_samples if t == n_samples // hop else (t + 0.5) * hop
        total = 0.0
        for k, density in enumerate(held.tolist()):
            begin = start + (k - 9) * step
            total += density * max(0.0, min(right, begin + step) - max(left, begin))
        lengths.append(right - left)
        assert math.isclose(means[t].item(), total / lengths[-1], rel_tol=1e-9)
    assert sum(lengths) == n_samples


@pytest.mark.parametrize("hop_length", [64, 167, 500])
def test_picture_holds_the_energy_of_the_clip(hop_length):
    wave = 0.1 * noise(2, 16000)
    dwt = build_frontend("dwt", compress="none", hop_length=hop_length, pad_mode="periodization")
    edges = (torch.arange(dwt.n_frames(16000) + 1) - 0.5) * hop_length
    edges[0], edges[-1] = 0.0, 16000
    energy = (dwt(wave)[:, 0] * edges.diff()).sum((1, 2))
    assert torch.allclose(energy, wave.square().sum(1), rtol=0.01)  # what is beyond the ends is only held


@pytest.mark.parametrize("wavelet", ["haar", "db4", "db20", "bior2.4"])
@pytest.mark.parametrize("pad_mode", ["symmetric", "periodization"])
def test_click_lies_in_its_frame_in_every_fine_row(wavelet, pad_mode):
    wave = torch.zeros(1, 16000)
    wave[0, 60 * 100] = 1.0
    dwt = build_frontend("dwt", wavelet=wavelet, pad_mode=pad_mode, compress="none", hop_length=100, level=5)
    image = dwt(wave)[0, 0]
    assert image[2:].argmax(dim=1).tolist() == [60] * 4
    centre = (image * torch.arange(image.shape[1])).sum(1) / image.sum(1)
    assert (centre - 60).abs().max() < 0.5


@pytest.mark.parametrize("row", range(1, 6))
def test_tone_lies_in_its_octave(row):
    dwt = build_frontend("dwt", wavelet="db10", level=5, compress="none")
    seconds = torch.arange(16000) / 16000
    image = dwt(torch.sin(2 * torch.pi * dwt.frequencies[row] * seconds)[None])[0, 0]
    assert (image.argmax(dim=0) == row).all()
    assert torch.allclose(image[row, 5:-5].mean(), torch.tensor(0.5), rtol=0.05)


def test_gradient_is_right():
    dwt = build_frontend("dwt", level=3, hop_length=10, compress="none")
    wave = noise(1, 41, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(dwt.transform, wave)


def test_impossible_settings_say_what_to_do():
    with pytest.raises(UserError, match="wavelet='db99' is no discrete wavelet: choose one of bior"):
        build_frontend("dwt", wavelet="db99")
    with pytest.raises(UserError, match="pad_mode='mirror' is unknown: choose one of symmetric"):
        build_frontend("dwt", pad_mode="mirror")
    with pytest.raises(UserError, match="level=0 must be at least 1"):
        build_frontend("dwt", level=0)
    with pytest.raises(UserError, match="level=17 is more than 16: lower level"):
        build_frontend(DwtConfig(level=17))
