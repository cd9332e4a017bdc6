from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import nn

from audiossl.errors import UserError
from audiossl.probes.features import extract, standardise


def fake_clips(n=10, n_samples=64, sample_rate=16000):
    waves = np.random.default_rng(0).integers(-32768, 32767, (n, n_samples)).astype(np.int16)
    waves.setflags(write=False)
    names = ["training", "validation", "testing"]
    return SimpleNamespace(
        waves=waves,
        ids=[f"clip{i}" for i in range(n)],
        label_ids=np.arange(n) % 2,
        speakers=[None] * n,
        splits=[names[i % 3] for i in range(n)],
        label_names=("no", "yes"),
        sample_rate=sample_rate,
        name="fake",
    )


class Clips:
    """What extract reads of CachedClips."""

    def __init__(self, **changes):
        self.__dict__.update({**fake_clips().__dict__, **changes})

    def __len__(self):
        return len(self.waves)


class Moments(nn.Module):
    """Mean and peak of a wave, wrong on purpose in training mode."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, wave):
        assert wave.dtype == torch.float32
        assert not self.training
        return torch.stack([wave.mean(1), wave.abs().amax(1)], 1) * self.scale


def test_standardise_equals_scikit_learn():
    rng = np.random.default_rng(0)
    train, test = rng.normal(3, 5, (200, 8)), rng.normal(1, 2, (50, 8))
    scaler = StandardScaler().fit(train)
    ours = standardise(train, test)
    assert np.allclose(ours[0], scaler.transform(train), atol=1e-5)
    assert np.allclose(ours[1], scaler.transform(test), atol=1e-5)


def test_a_constant_dimension_does_not_explode():
    train = np.full((100, 1), 0.1, dtype=np.float32)
    scaled, other = standardise(train, np.array([[0.1], [0.2]], dtype=np.float32))
    assert np.abs(scaled).max() < 1e-6
    assert np.allclose(other, [[0.0], [0.1]], atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_extract_keeps_order_and_restores_the_mode(batch_size):
    clips, encoder = Clips(), Moments().train()
    table = extract(encoder, clips, batch_size=batch_size)
    expected = clips.waves.astype(np.float64) / 32768
    assert np.allclose(table.x[:, 0], expected.mean(1), atol=1e-6)
    assert np.allclose(table.x[:, 1], np.abs(expected).max(1), atol=1e-6)
    assert encoder.training
    assert table.ids == clips.ids


def test_splits_hold_labelled_rows_only():
    clips = Clips(label_ids=np.array([0, 1, 0, -1, 1, 1, 0, 1, 0, 1]))
    data = extract(Moments(), clips).probe_data()
    assert [len(part.y) for part in (data.train, data.validation, data.test)] == [3, 3, 3]
    assert np.allclose(data.train.x.mean(0), 0, atol=1e-6)
    assert np.allclose(data.train.x.std(0), 1, atol=1e-5)
    assert data.train.y.tolist() == [0, 0, 1]


def test_a_missing_split_is_said():
    table = extract(Moments(), Clips(splits=["training"] * 10))
    with pytest.raises(UserError, match="validation split holds no labelled clip"):
        table.probe_data()


def test_values_that_are_not_finite_are_said():
    encoder = Moments()
    encoder.scale.data.fill_(float("nan"))
    with pytest.raises(UserError, match="10 of 10 clips, first 'clip0'"):
        extract(encoder, Clips())


def test_an_empty_set_and_a_wrong_rate_are_said():
    with pytest.raises(UserError, match="no clips"):
        extract(Moments(), Clips(waves=np.zeros((0, 64), np.int16)))
    encoder = Moments()
    encoder.sample_rate = 8000
    with pytest.raises(UserError, match="wants 8000 Hz and the cached clips have 16000 Hz"):
        extract(encoder, Clips())
