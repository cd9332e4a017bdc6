"""Spectra by matrix products beside those by FFT."""

import pytest
import torch
from audiossl.transforms import MelConfig, StftConfig
from audiossl.transforms.stft import FftSpectrum

from audiossl.export.fourier import GraphSpectrum, dft, factors


@pytest.mark.parametrize("n_fft", [1024, 400, 30, 14])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("n_samples", [1, 7, 513, 4000])
def test_parts_are_those_of_the_fft(n_fft, pad_mode, n_samples):
    spectrum = FftSpectrum(StftConfig(n_fft=n_fft, win_length=n_fft - 2, hop_length=50, pad_mode=pad_mode))
    wave = torch.randn(2, n_samples)
    expected, found = spectrum.parts(wave), GraphSpectrum(spectrum).parts(wave)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6 * float(expected.abs().max().clamp(min=1.0)))


def test_power_is_the_square_of_the_parts():
    graph = GraphSpectrum(FftSpectrum(MelConfig()))
    wave = torch.randn(1, 3000)
    torch.testing.assert_close(graph(wave), graph.parts(wave).square().sum(-1))


def test_the_transform_of_two_steps_is_exact_to_float32():
    spectrum = FftSpectrum(StftConfig())
    wave = torch.randn(1, 16000)
    padded = torch.nn.functional.pad(wave.double(), (512, 512)).unfold(-1, 1024, 167) * spectrum.window.double()
    exact = torch.view_as_real(torch.fft.rfft(padded))
    assert (GraphSpectrum(spectrum).parts(wave) - exact).norm() < 5e-7 * exact.norm()


def test_angles_stay_exact_where_products_are_large():
    cosines, sines = dft(torch.tensor([1_000_003]), torch.tensor([999_983]), 1_000_001)
    angle = 2 * torch.pi * (1_000_003 * 999_983 % 1_000_001) / 1_000_001
    assert abs(float(cosines) - torch.tensor(angle, dtype=torch.float64).cos().item()) < 1e-6
    assert abs(float(sines) - torch.tensor(angle, dtype=torch.float64).sin().item()) < 1e-6


def test_factors_of_a_prime():
    assert factors(13) == (1, 13)
