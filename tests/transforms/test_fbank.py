"""Kaldi's filter bank: equal to torchaudio's, clip by clip, and to the definition frame by frame."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from audiossl.transforms import FbankConfig, build_frontend
from audiossl.transforms.fbank import mirrored

from audiossl.errors import UserError


def waves(n_samples: int = 8000, n_clips: int = 3) -> torch.Tensor:
    loudness = torch.logspace(-2, -0.3, n_clips)[:, None]
    offset = torch.linspace(-0.2, 0.3, n_clips)[:, None]  # a mean that must not show
    return loudness * torch.randn(n_clips, n_samples, generator=torch.Generator().manual_seed(0)) + offset


def kaldi(wave: torch.Tensor, config: FbankConfig, **changes) -> torch.Tensor:
    """torchaudio's pictures (B, F, T); a hop of 167 is no whole number of its milliseconds."""
    reference = pytest.importorskip("torchaudio.compliance.kaldi", reason="torchaudio is the reference")
    rows = [
        reference.fbank(
            row[None], dither=0.0, num_mel_bins=config.n_bins, low_freq=config.f_min, high_freq=config.f_max,
            sample_frequency=float(config.sample_rate), snip_edges=config.snip_edges,
            frame_shift=1e3 * config.hop_length / config.sample_rate + 1e-6,
            frame_length=1e3 * config.win_length / config.sample_rate + 1e-6, **changes,
        ).T
        for row in wave
    ]  # fmt: skip
    return torch.stack(rows)


def test_frames_and_band_begin_as_kaldis_do():
    reference = pytest.importorskip("torchaudio.compliance.kaldi", reason="torchaudio is the reference")
    theirs = {name: one.default for name, one in inspect.signature(reference.fbank).parameters.items()}
    config = FbankConfig()
    assert config.win_length == theirs["frame_length"] * config.sample_rate / 1000
    assert (config.f_min, config.sample_rate) == (theirs["low_freq"], theirs["sample_frequency"])


@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hop_length": 160, "n_bins": 80, "win_length": 400, "f_max": 7600.0},
        {"hop_length": 500, "win_length": 512, "n_bins": 23},  # frames that hardly overlap
        {"sample_rate": 32000, "hop_length": 321, "win_length": 801, "f_max": 16000.0, "n_bins": 64},
    ],
)
@pytest.mark.parametrize("n_samples", [8000, 1021])
def test_equals_torchaudio_clip_by_clip(settings, snip_edges, n_samples):
    config = FbankConfig(snip_edges=snip_edges, compress="none", **settings)
    expected = kaldi(waves(n_samples).double(), config, use_log_fbank=False)
    image = build_frontend(config)(waves(n_samples))[:, 0]
    assert image.shape == expected.shape
    for one, reference in zip(image, expected, strict=True):
        assert float((one - reference).norm() / reference.norm()) < 1e-5


def test_logarithm_equals_torchaudio_where_nothing_is_cut():
    config = FbankConfig(floor=1e-12)
    expected = kaldi(waves(), config)
    assert expected.min() > -15  # Kaldi cuts at log(1.2e-7) = -15.9
    assert (build_frontend(config)(waves())[:, 0] - expected).abs().max() < 1e-4


def test_one_frame_by_its_definition():
    wave = waves(400, 1)[0].double().numpy()
    config = FbankConfig(snip_edges=True, compress="none")
    x = wave - wave.mean()
    x = np.append(x[0] * (1 - 0.97), x[1:] - 0.97 * x[:-1])
    x = x * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)) ** 0.85
    power = np.abs(np.fft.rfft(x, 512)) ** 2
    mel = 1127 * np.log(1 + np.arange(257) * 31.25 / 700)
    edges = np.linspace(1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 8000 / 700), 66)
    rows = [power @ np.clip(np.interp(mel, edges[m : m + 3], [0, 1, 0]), 0, 1) for m in range(64)]
    image = build_frontend(config)(torch.from_numpy(wave).float()[None])
    np.testing.assert_allclose(image[0, 0, :, 0], rows, rtol=1e-4)


@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize("hop_length", [1, 100, 167, 300])
def test_frames_are_where_times_says(snip_edges, hop_length):
    frontend = build_frontend(FbankConfig(snip_edges=snip_edges, hop_length=hop_length, compress="none"))
    click = torch.zeros(1, 2000)
    click[0, 1000] = 1.0
    brightest = frontend(click)[0, 0].sum(0).argmax()
    assert abs(frontend.times(2000)[brightest] - 1000 / 16000) <= (hop_length + 2) / 2 / 16000


def test_short_clips_have_one_frame():
    for snip_edges in (True, False):
        frontend = build_frontend(FbankConfig(snip_edges=snip_edges))
        for n_samples in (1, 2, 83, 166):
            assert frontend(torch.randn(1, n_samples)).shape == (1, 1, 64, 1)


def test_mirrored_is_numpys_symmetric_padding():
    wave = torch.arange(1.0, 6.0)[None]
    expected = np.pad(wave[0].numpy(), (13, 22), mode="symmetric")
    np.testing.assert_array_equal(mirrored(wave, -13, 40)[0], expected)


@pytest.mark.parametrize("snip_edges", [True, False])
def test_gradient_is_right(snip_edges):
    frontend = build_frontend(
        FbankConfig(n_bins=4, win_length=32, hop_length=16, f_min=100.0, snip_edges=snip_edges, compress="none")
    )
    wave = torch.randn(1, 70, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(frontend.transform, wave)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_bins": 128}, "of n_bins=128 filters contain no bin of a Fourier transform of 512 samples"),
        ({"win_length": 1}, "win_length=1"),
        ({"n_bins": 0}, "n_bins=0"),
        ({"f_max": 8001.0}, "f_max=8001"),
    ],
)
def test_impossible_settings_name_the_setting(changes, words):
    with pytest.raises(UserError, match=words):
        build_frontend(FbankConfig(**changes))
