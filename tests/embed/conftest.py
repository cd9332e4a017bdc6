"""Sounds, and an encoder whose embeddings a test can compute."""

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig

RATE = 16000


class Levels(nn.Module):
    """Mean, power, and mean of the first half of a window of 0.1 s."""

    sample_rate, clip_s, n_samples, dim = RATE, 0.1, 1600, 3

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, wave):
        assert not self.training
        assert wave.dtype == torch.float32
        half = wave.shape[1] // 2
        return torch.stack([wave.mean(1), wave.square().mean(1), wave[:, :half].mean(1)], 1) * self.scale


@pytest.fixture
def levels():
    return Levels()


@pytest.fixture(scope="session")
def resnet():
    torch.manual_seed(0)
    return AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10"))).eval()


@pytest.fixture
def noise():
    def make(duration_s=0.1, seed=0, rate=RATE):
        return (0.1 * np.random.default_rng(seed).normal(size=round(duration_s * rate))).astype(np.float32)

    return make


@pytest.fixture
def sounds(tmp_path, noise):
    """Three files of different length in a folder."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for n, duration_s in enumerate([0.1, 0.25, 0.05]):
        soundfile.write(folder / f"{n}.wav", noise(duration_s, n), RATE, subtype="FLOAT")
    return folder
