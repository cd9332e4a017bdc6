"""The chroma front end: librosa's filters, and pitches in their classes."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from audiossl.transforms import ChromaConfig, build_frontend
from audiossl.transforms.chroma import chroma_filters

from audiossl.errors import UserError

SECONDS = torch.arange(16000) / 16000


@pytest.mark.parametrize(("rate", "n_fft"), [(16000, 2048), (16000, 512), (32000, 4096)])
@pytest.mark.parametrize("n_bins", [12, 24, 32])
def test_filters_equal_librosa(rate, n_fft, n_bins):
    config = ChromaConfig(sample_rate=rate, n_fft=n_fft, n_bins=n_bins, f_min=0.0, f_max=rate / 2)
    expected = librosa.filters.chroma(sr=rate, n_fft=n_fft, n_chroma=n_bins, tuning=0.0, dtype=np.float64)
    np.testing.assert_allclose(chroma_filters(config), expected, atol=1e-9)


@pytest.mark.parametrize("backend", ["fft", "nnaudio"])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_picture_equals_librosa(backend, power):
    wave = 0.1 * torch.randn(2, 7919, generator=torch.Generator().manual_seed(0))
    chroma = build_frontend("chroma", backend=backend, power=power, f_min=0.0, f_max=8000.0, compress="none")
    spectrum = np.abs(librosa.stft(wave.numpy().astype("f8"), n_fft=2048, hop_length=167, pad_mode="constant")) ** power
    expected = librosa.feature.chroma_stft(S=spectrum, sr=16000, n_fft=2048, tuning=0.0, norm=None)
    error = np.linalg.norm(chroma(wave)[:, 0].numpy() - expected) / np.linalg.norm(expected)
    assert error < 1e-5


@pytest.mark.parametrize("octave", [1, 2, 4])
def test_every_octave_of_a_pitch_lies_in_its_row(octave):
    chroma = build_frontend("chroma", n_fft=8192, win_length=8192)
    for row, hz in enumerate(chroma.frequencies.tolist()):
        image = chroma(torch.sin(2 * torch.pi * hz * 2**octave * SECONDS)[None])[0, 0]
        assert (image[:, 20:-20].argmax(0) == row).all()


def test_rows_are_named_by_the_lowest_octave_of_the_band():
    assert build_frontend("chroma").frequencies[[0, 11]].tolist() == pytest.approx([65.406, 123.471], rel=1e-4)
    assert build_frontend("chroma", f_min=70.0).frequencies[0].item() == pytest.approx(130.813, rel=1e-4)


def test_what_lies_outside_of_the_band_is_left_out():
    chroma = build_frontend("chroma", f_min=1000.0, compress="none")
    inside, outside = (chroma(torch.sin(2 * torch.pi * hz * SECONDS)[None])[..., 20:-20].sum() for hz in (1760, 440))
    assert outside < 1e-5 * inside


def test_trained_kernels_receive_gradients():
    chroma = build_frontend("chroma", backend="nnaudio", trainable=True)
    chroma(0.1 * torch.randn(2, 4000)).mean().backward()
    gradients = {name: value.grad for name, value in chroma.named_parameters()}
    assert len(gradients) == 3
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients.values())


def test_impossible_settings_say_what_to_do():
    with pytest.raises(UserError, match="no Fourier bin lies from f_min=441 to f_max=442 Hz: raise n_fft"):
        build_frontend("chroma", f_min=441.0, f_max=442.0)
    with pytest.raises(UserError, match="n_bins=0 must be at least 1"):
        build_frontend("chroma", n_bins=0)
    with pytest.raises(UserError, match="trainable=true needs backend=nnaudio"):
        build_frontend("chroma", trainable=True)
    with pytest.raises(UserError, match=r"power=3\.0 is unknown"):
        build_frontend("chroma", power=3.0)
