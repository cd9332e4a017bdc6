"""Wavelet packets: PyWavelets' coefficients in order of frequency, and where tones and clicks lie in the picture."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
from audiossl.transforms import build_frontend
from audiossl.transforms.dwt import PAD_MODES
from audiossl.transforms.wavelet_packet import wavelet_packet

from audiossl.errors import UserError


def noise(batch: int, n_samples: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(batch, n_samples, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize(("wavelet", "level"), [("haar", 3), ("db4", 4), ("bior2.4", 2)])
@pytest.mark.parametrize("n_samples", [11, 200, 1001])
def test_coefficients_equal_pywavelets(pad_mode, wavelet, level, n_samples):
    wave = noise(2, n_samples)
    leaves = wavelet_packet(wave, wavelet, level, pad_mode)
    for clip, rows in zip(wave.numpy().astype("f8"), leaves.numpy(), strict=True):
        nodes = pywt.WaveletPacket(clip, wavelet, pad_mode, level).get_level(level, "freq")
        expected = np.stack([node.data for node in nodes])
        np.testing.assert_allclose(rows, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize(("wavelet", "level"), [("haar", 3), ("db4", 4), ("sym8", 3), ("coif3", 3), ("bior2.4", 2)])
@pytest.mark.parametrize("n_samples", [11, 999, 1000])
def test_pywavelets_gives_the_wave_back(pad_mode, wavelet, level, n_samples):
    wave = noise(1, n_samples)
    leaves = wavelet_packet(wave, wavelet, level, pad_mode)
    tree = pywt.WaveletPacket(np.zeros(n_samples), wavelet, pad_mode, level)
    for node, row in zip(tree.get_level(level, "freq"), leaves[0].double().numpy(), strict=True):
        tree[node.path] = row
    np.testing.assert_allclose(tree.reconstruct(update=False)[:n_samples], wave[0].numpy(), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("row", [0, 1, 2, 7, 21, 42, 63])
def test_tone_lies_in_its_band(row):
    packets = build_frontend("wavelet_packet", wavelet="db20", compress="none")
    seconds = torch.arange(16000) / 16000
    image = packets(torch.sin(2 * torch.pi * packets.frequencies[row] * seconds)[None])[0, 0, :, 10:-10]
    assert image.mean(1).argmax() == row
    assert image[row].mean() > 0.7 * image.sum(0).mean()


@pytest.mark.parametrize("pad_mode", ["symmetric", "periodization"])
def test_click_lies_in_its_frame(pad_mode):
    wave = torch.zeros(1, 16000)
    wave[0, 60 * 100] = 1.0
    packets = build_frontend("wavelet_packet", pad_mode=pad_mode, compress="none", hop_length=100, level=4)
    image = packets(wave)[0, 0]
    centre = (image * torch.arange(image.shape[1])).sum(1) / image.sum(1)
    assert (centre - 60).abs().max() < 0.3
    assert image.sum(0).argmax() == 60


def test_energy_of_the_clip_is_that_of_the_picture():
    wave = 0.1 * noise(3, 16000)
    packets = build_frontend("wavelet_packet", compress="none", pad_mode="periodization", hop_length=100)
    image = packets(wave)[:, 0]
    lengths = torch.full((161,), 100.0)
    lengths[0] = lengths[-1] = 50.0
    assert torch.allclose((image * lengths).sum((1, 2)), wave.square().sum(1), rtol=0.01)


def test_gradient_is_right():
    packets = build_frontend("wavelet_packet", level=2, hop_length=10, compress="none")
    wave = noise(1, 31, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(packets.transform, wave)


def test_impossible_settings_say_what_to_do():
    with pytest.raises(UserError, match="wavelet='morl' is no discrete wavelet"):
        build_frontend("wavelet_packet", wavelet="morl")
    with pytest.raises(UserError, match="level=11 is more than 10: lower level"):
        build_frontend("wavelet_packet", level=11)
