"""Noises and impulse responses for augmentations: right rows, and a sentence for every wrong folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from audiossl.transforms import WaveAugmentConfig

from audiossl import audio
from audiossl.data.recordings import NOISE_S, open_augment, read_impulses, read_noises
from audiossl.errors import UserError

RATE = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, n_samples in (("long", 25_000), ("short", 3_000)):
        wave = np.full(n_samples, 1000, np.int16)
        wave[::100] = -1000
        audio.write(tmp_path / f"{name}.wav", wave, RATE)
    return tmp_path


def test_noises_are_rows_of_ten_seconds(folder):
    noises = read_noises(folder, RATE)
    assert noises.shape == (3, 10_000)  # two whole rows of the long one, and the short one over and over
    assert noises.dtype == torch.int16
    assert torch.equal(noises[2, :3000], noises[2, 3000:6000])


def test_only_the_first_minute_of_a_noise_is_kept(tmp_path):
    audio.write(tmp_path / "hour.wav", np.ones(round(2 * NOISE_S * RATE), np.int16), RATE)
    assert read_noises(tmp_path, RATE).shape == (6, 10_000)


def test_impulse_responses_are_padded_to_the_longest(tmp_path):
    for name, n_samples in (("room", 50), ("hall", 400)):
        audio.write(tmp_path / f"{name}.wav", np.ones(n_samples, np.int16), RATE)
    assert read_impulses(tmp_path, RATE).shape == (2, 400)


def test_an_augmentation_hears_the_folder(folder):
    config = WaveAugmentConfig(noise=1.0, noise_colour="folder", noise_folder=str(folder), noise_snr_db=[0.0, 0.0])
    wave = torch.sin(torch.arange(2000.0))[None]
    heard = open_augment(config, RATE)(wave, torch.Generator().manual_seed(0)) - wave
    assert heard.square().mean() == pytest.approx(float(wave.square().mean()), rel=1e-3)
    assert heard.unique().numel() < 20  # the noise has two values


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"noise": 1.0, "noise_colour": "folder", "noise_folder": "nowhere"}, "--wave.noise_folder 'nowhere' is not"),
        ({"noise": 1.0, "noise_colour": "folder"}, "--wave.noise_folder '' is not a folder"),
        ({"reverb": 1.0, "reverb_folder": "nowhere"}, "--wave.reverb_folder 'nowhere' is not a folder"),
    ],
)
def test_wrong_folders(flags, words):
    with pytest.raises(UserError, match=words):
        open_augment(WaveAugmentConfig(**flags), RATE)


def test_a_folder_without_audio(tmp_path):
    with pytest.raises(UserError, match=r"--wave.reverb_folder .* holds no audio file"):
        open_augment(WaveAugmentConfig(reverb=1.0, reverb_folder=str(tmp_path)), RATE)
