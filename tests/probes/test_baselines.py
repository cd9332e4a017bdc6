from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from audiossl.probes.baselines import (
    chance,
    log_mel_frontend,
    log_mel_tables,
    majority,
    mean_and_std,
    segment_means,
)
from audiossl.probes.features import Labelled, ProbeData


def test_statistics_equal_plain_formulas():
    image = torch.randn(2, 1, 64, 96)
    plain = image.numpy()[:, 0]
    expected = np.concatenate([plain.mean(2), plain.std(2)], axis=1)
    assert np.allclose(mean_and_std(image), expected, atol=1e-5)
    parts = np.stack([plain[:, :, 12 * i : 12 * i + 12].mean(2) for i in range(8)], axis=2)
    assert np.allclose(segment_means(image), parts.reshape(2, -1), atol=1e-5)


def test_segments_of_few_frames_are_finite():
    assert torch.isfinite(segment_means(torch.randn(1, 1, 64, 3))).all()


def test_the_picture_is_librosas(make_clips):
    clips = make_clips(n=4)
    wave = clips.waves.astype(np.float32) / 32768
    mel = librosa.feature.melspectrogram(y=wave, sr=16000, n_fft=1024, hop_length=160, n_mels=64, fmin=60, fmax=7800)
    expected = np.log(mel + np.finfo(np.float32).eps)
    ours = log_mel_frontend(16000)(torch.from_numpy(wave))[:, 0].numpy()
    assert ours.shape == expected.shape == (4, 64, 101)
    assert np.abs(ours - expected).max() < 0.01


def test_tables_hold_both_rows_and_silence_is_finite(make_clips):
    clips = make_clips(n=12)
    clips.waves.setflags(write=True)
    clips.waves[3] = 0
    tables = log_mel_tables(clips, batch_size=5)
    assert {name: table.x.shape for name, table in tables.items()} == {
        "log-mel mean + std": (12, 128),
        "log-mel, 8 time segments": (12, 512),
    }
    assert all(np.isfinite(table.x).all() for table in tables.values())
    again = log_mel_tables(clips, batch_size=12)
    for name, table in tables.items():
        assert np.allclose(table.x, again[name].x, atol=1e-4)


@pytest.mark.parametrize("sample_rate", [8000, 22050, 48000])
def test_other_sample_rates_keep_their_times(sample_rate):
    image = log_mel_frontend(sample_rate)(torch.randn(1, sample_rate) * 0.1)
    assert image.shape[2] == 64
    assert abs(image.shape[3] - 101) <= 1


def test_chance_and_majority():
    train, test = np.array([0, 0, 0, 1, 2]), np.array([0, 1, 1, 2])
    empty = np.zeros((4, 1), np.float32)
    rows = Labelled(empty, test)
    data = ProbeData(Labelled(np.zeros((5, 1), np.float32), train), rows, rows, 3)
    assert chance(data) == pytest.approx(1 / 3)
    assert majority(data) == 0.25
