"""The encoder that a run begins with: statistics of the whole picture, or of every row by flag, kept with it."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from audiossl.transforms import MfccConfig, as_float

import audiossl
from audiossl.backbones import BackboneConfig
from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.run.begin import new_encoder


@pytest.fixture
def clips(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal((12, 8000)).cumsum(1)
    for number, wave in enumerate(noise / np.abs(noise).max()):
        soundfile.write(tmp_path / f"{number:02}.wav", wave, 16000)
    data = DataConfig(root=str(tmp_path), clip_s=0.5)
    return cache_clips(open_clips(data), data, progress=False)


@pytest.mark.parametrize("per_bin", [False, True])
def test_statistics_are_of_the_picture_or_of_every_row(clips, tmp_path, per_bin):
    encoder = new_encoder(MfccConfig(per_bin=per_bin), BackboneConfig("resnet10"), clips)
    assert encoder.normalize.mean.shape == ((1, 32) if per_bin else (1, 1))
    image = encoder.normalize(encoder.frontend(as_float(torch.from_numpy(np.asarray(clips.waves[:])))))
    rows = image.std(dim=(0, 1, 3))
    assert rows.allclose(torch.ones(32), atol=1e-2) if per_bin else rows.max() > 3 * rows.min()
    encoder.save_pretrained(tmp_path / "encoder")
    assert audiossl.load_model(tmp_path / "encoder").normalize.mean.equal(encoder.normalize.mean)
