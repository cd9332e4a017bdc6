from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from audiossl.transforms import build_frontend
from audiossl.transforms.config import MfccConfig

from audiossl.probes.baselines import (
    chance,
    deltas,
    log_mel_frontend,
    log_mel_tables,
    majority,
    mean_and_std,
    mfcc_statistics,
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


@pytest.mark.parametrize("n_frames", [9, 10, 101])
def test_deltas_are_librosas(n_frames):
    x = torch.randn(2, 1, 20, n_frames)
    expected = librosa.feature.delta(x.numpy(), width=9, axis=-1)
    assert np.allclose(deltas(x), expected, atol=1e-5)


@pytest.mark.parametrize(("n_frames", "width"), [(8, 7), (4, 3), (3, 3)])
def test_deltas_of_short_pictures_are_lines_through_what_there_is(n_frames, width):
    x = torch.randn(1, 1, 2, n_frames)
    assert np.allclose(deltas(x), librosa.feature.delta(x.numpy(), width=width, axis=-1), atol=1e-5)


@pytest.mark.parametrize("n_frames", [1, 2])
def test_deltas_of_fewer_than_three_frames_are_zero(n_frames):
    assert torch.equal(deltas(torch.randn(1, 1, 2, n_frames)), torch.zeros(1, 1, 2, n_frames))


def test_mfcc_statistics_equal_plain_formulas(make_clips):
    wave = make_clips(n=4).waves.astype(np.float32) / 32768
    mel = librosa.feature.melspectrogram(y=wave, sr=16000, n_fft=1024, hop_length=160, n_mels=64, fmin=60, fmax=7800)
    mfcc = librosa.feature.mfcc(S=np.log(mel + np.finfo(np.float32).eps), n_mfcc=20)
    slopes = librosa.feature.delta(mfcc, width=9)
    expected = np.concatenate([mfcc.mean(-1), slopes.mean(-1), mfcc.std(-1), slopes.std(-1)], axis=1)
    ours = mfcc_statistics(log_mel_frontend(16000)(torch.from_numpy(wave))).numpy()
    assert ours.shape == (4, 80)
    assert np.abs(ours - expected).max() < 0.01


def test_the_coefficients_are_those_of_our_front_end(make_clips):
    wave = torch.from_numpy(make_clips(n=2).waves.astype(np.float32) / 32768)
    same = {"n_fft": 1024, "win_length": 1024, "hop_length": 160, "f_min": 60.0, "f_max": 7800.0}
    floor = float(np.finfo(np.float32).eps)
    mfcc = build_frontend(MfccConfig(n_bins=20, n_mels=64, compress="log", floor=floor, **same))(wave)
    expected = mean_and_std(torch.cat([mfcc, deltas(mfcc)], dim=2))
    assert torch.allclose(mfcc_statistics(log_mel_frontend(16000)(wave)), expected, atol=1e-3)


def test_tables_hold_all_rows_and_silence_is_finite(make_clips):
    clips = make_clips(n=12)
    clips.waves.setflags(write=True)
    clips.waves[3] = 0
    tables = log_mel_tables(clips, batch_size=5)
    assert {name: table.x.shape for name, table in tables.items()} == {
        "log-mel mean + std": (12, 128),
        "log-mel, 8 time segments": (12, 512),
        "MFCC mean + std": (12, 80),
    }
    assert all(np.isfinite(table.x).all() for table in tables.values())
    image = log_mel_frontend(16000)(torch.from_numpy(clips.waves.astype(np.float32) / 32768))
    for table, statistic in zip(tables.values(), (mean_and_std, segment_means, mfcc_statistics), strict=True):
        assert np.allclose(table.x, statistic(image), atol=1e-4)
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
