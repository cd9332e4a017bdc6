"""Cepstral coefficients: equal to librosa, torchaudio and scipy's cosine transform."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.fft
import torch
from audiossl.transforms import MelConfig, MfccConfig, build_frontend
from audiossl.transforms.mfcc import cosines

from audiossl.errors import UserError


@pytest.fixture(scope="module")
def wave() -> torch.Tensor:
    return 0.3 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("n_coefficients", "n_bands"), [(1, 1), (13, 40), (64, 64)])
def test_cosines_are_the_orthonormal_dct(n_coefficients, n_bands):
    expected = scipy.fft.dct(np.eye(n_bands), axis=0, norm="ortho")[:n_coefficients]
    np.testing.assert_allclose(cosines(n_coefficients, n_bands), expected, atol=1e-12)


def test_decibels_equal_librosa(wave):
    image = build_frontend(MfccConfig(n_bins=20, compress="db", floor=1e-10))(wave)
    # A floor that is added, and librosa's that cuts, differ by nothing where all is louder than both.
    expected = librosa.feature.mfcc(
        y=wave.numpy().astype("f8"), sr=16000, n_mfcc=20, n_fft=1024, hop_length=167, n_mels=64, fmin=60.0,
        fmax=7800.0, pad_mode="constant",
    )  # fmt: skip
    assert np.linalg.norm(image[:, 0].numpy() - expected) / np.linalg.norm(expected) < 1e-5


def test_logarithm_equals_torchaudio(wave):
    torchaudio = pytest.importorskip("torchaudio")
    reference = torchaudio.transforms.MFCC(
        16000,
        n_mfcc=32,
        log_mels=True,
        melkwargs={
            "n_fft": 1024, "hop_length": 167, "n_mels": 64, "f_min": 60.0, "f_max": 7800.0, "pad_mode": "constant",
            "mel_scale": "slaney", "norm": "slaney",
        },
    )  # fmt: skip
    expected = reference(wave)
    image = build_frontend(MfccConfig())(wave)[:, 0]
    assert float((image - expected).norm() / expected.norm()) < 1e-4


def test_all_coefficients_hold_the_whole_mel_picture(wave):
    whole = build_frontend(MfccConfig(n_bins=64))(wave)
    mel = build_frontend(MelConfig())(wave)
    back = torch.matmul(cosines(64, 64).float().T, whole)
    assert torch.allclose(back, mel, atol=1e-4)
    assert torch.allclose(whole.square().sum(2), mel.square().sum(2), rtol=1e-4)  # orthonormal: energy stays


def test_a_single_coefficient_is_the_mean_level(wave):
    one, all_of_them = (build_frontend(MfccConfig(n_bins=n))(wave) for n in (1, 20))
    torch.testing.assert_close(one, all_of_them[:, :, :1])


def test_a_louder_clip_moves_the_first_coefficient_alone():
    wave = torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
    frontend = build_frontend(MfccConfig(floor=1e-12))
    change = frontend(2.0 * wave) - frontend(wave)
    assert torch.allclose(change[0, 0, 0], torch.tensor(2 * np.log(2.0) * 8.0).float(), atol=1e-3)
    assert change[0, 0, 1:].abs().max() < 1e-3


def test_trained_kernels_receive_gradients(wave):
    config = MfccConfig(backend="nnaudio", trainable=True, n_fft=256, win_length=256, n_mels=16, n_bins=8)
    frontend = build_frontend(config)
    frontend(wave).square().mean().backward()
    gradients = {name: p.grad for name, p in frontend.named_parameters()}
    assert sorted(gradients) == ["mel.filters", "mel.spectrum.stft.wcos", "mel.spectrum.stft.wsin"]
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_bins": 65}, "n_bins=65 coefficients .* n_mels=64"),
        ({"n_mels": 128, "n_fft": 256, "win_length": 256}, "n_mels=128 mel filters contain no bin"),
        ({"compress": "none"}, "compress='none' is unknown: choose one of log, db, pcen"),
        ({"mel_scale": "bark"}, "mel_scale='bark'"),
    ],
)
def test_impossible_settings_name_the_setting(changes, words):
    with pytest.raises(UserError, match=words):
        build_frontend(MfccConfig(**changes))
