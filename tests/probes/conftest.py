"""Clips and an encoder with the few attributes that probes read: no cache, no network needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from audiossl.data.clips import SPLITS


class FakeClips:
    """Noise in different bands, one a label, three splits, as CachedClips would give it."""

    def __init__(self, n=120, classes=3, sample_rate=16000, **changes):
        rng = np.random.default_rng(0)
        self.label_ids = np.arange(n) % classes
        self.label_names = tuple(f"band{i}" for i in range(classes))
        spectrum = np.fft.rfft(rng.normal(size=(n, sample_rate)))
        hz = np.fft.rfftfreq(sample_rate, 1 / sample_rate)
        inside = np.abs(hz[None] - 500 * (1 + self.label_ids[:, None])) < 400
        noisy = np.fft.irfft(spectrum * (inside + 0.3 * rng.random((n, 1))))
        self.waves = (3000 * noisy / noisy.std(1, keepdims=True)).clip(-32768, 32767).astype(np.int16)
        self.waves.setflags(write=False)
        self.splits = [SPLITS[0 if i % 4 < 2 else i % 4 - 1] for i in range(n)]
        self.ids = [f"clip{i}" for i in range(n)]
        self.speakers = [None] * n
        self.name, self.split_rule, self.sample_rate = "fake", "by number", sample_rate
        self.__dict__.update(changes)

    def __len__(self):
        return len(self.waves)

    def describe(self):
        return {
            "name": self.name,
            "clips": len(self),
            "speakers": 0,
            "labels": list(self.label_names),
            "split_rule": self.split_rule,
        }


class FakeEncoder(nn.Module):
    """Band energies through a random matrix; wrong on purpose in training mode."""

    sample_rate = 16000

    def __init__(self, seed=0, width=5):
        super().__init__()
        weight = torch.randn(64, width, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight)

    def forward(self, wave):
        assert wave.dtype == torch.float32
        assert not self.training
        power = torch.fft.rfft(wave).abs()[:, :8000].view(len(wave), 64, -1).mean(-1)
        return torch.log(power + 1e-3) @ self.weight

    def randomised(self, seed):
        return FakeEncoder(seed=100 + seed)


@pytest.fixture
def make_clips():
    return FakeClips


@pytest.fixture
def encoder():
    return FakeEncoder()
