"""Recordings that waveform augmentations draw from, noises and impulse responses: read once, into one tensor each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from audiossl import audio
from audiossl.errors import UserError
from audiossl.transforms.wave_augment import WaveAugment
from audiossl.transforms.wave_config import WaveAugmentConfig

ROW_S = 10.0  # of a noise; shorter recordings begin anew in it
NOISE_S = 60.0  # at most so much of each recording: a folder of hours must fit into memory
IMPULSE_S = 2.0  # longer rooms than any but cathedrals


def open_augment(config: WaveAugmentConfig, sample_rate: int) -> WaveAugment:
    """The augmentations of a configuration, with the recordings of its folders at `sample_rate`.

    Raises UserError for a folder that is missing, holds no audio, or holds a file that cannot be read.
    """
    noises = impulses = None
    if config.noise and config.noise_colour == "folder":
        noises = read_noises(_folder(config.noise_folder, "--wave.noise_folder"), sample_rate)
    if config.reverb and config.reverb_folder:
        impulses = read_impulses(_folder(config.reverb_folder, "--wave.reverb_folder"), sample_rate)
    return WaveAugment(config, sample_rate, noises, impulses)


def read_noises(folder: Path, sample_rate: int) -> Tensor:
    """Rows of 10 s (N, S) int16 of the recordings in a folder, the first minute of each."""
    n_samples = round(ROW_S * sample_rate)
    rows = []
    for wave in _waves(folder, sample_rate, NOISE_S):
        whole = [wave[start : start + n_samples] for start in range(0, len(wave) - n_samples + 1, n_samples)]
        rows += whole or [np.resize(wave, n_samples)]
    return torch.from_numpy(audio.to_int16(np.stack(rows)))


def read_impulses(folder: Path, sample_rate: int) -> Tensor:
    """Impulse responses (N, R) float32 of a folder, the first 2 s of each, zeros behind the shorter ones."""
    waves = list(_waves(folder, sample_rate, IMPULSE_S))
    longest = max(map(len, waves))
    return torch.from_numpy(np.stack([np.pad(wave, (0, longest - len(wave))) for wave in waves]))


def _folder(name: str, flag: str) -> Path:
    folder = Path(os.path.expanduser(name))
    if not name or not folder.is_dir():
        raise UserError(f"{flag} {name!r} is not a folder: give a folder of recordings.")
    if not audio.find_audio(folder):
        raise UserError(f"{flag} {name} holds no audio file: give a folder of recordings.")
    return folder


def _waves(folder: Path, sample_rate: int, most_s: float) -> Iterator[np.ndarray]:
    for path in audio.find_audio(folder):
        duration_s = min(most_s, audio.info(path).duration_s)
        yield audio.load(path, sample_rate, duration_s=duration_s)[0]
