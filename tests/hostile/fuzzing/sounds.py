"""Audio files of every format, their headers first of all."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

from audiossl import audio
from audiossl.featurize import featurize

from .mutations import damaged, damaged_ogg
from .target import Target

RATE = 8000
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "wav_float": ("WAV", "FLOAT"),
    "wavex": ("WAVEX", "PCM_24"),
    "flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
}
SUFFIXES = {"OGG": ".ogg", "WAVEX": ".wav"}


class Ear(torch.nn.Module):
    """An encoder that costs nothing: the level of a window."""

    sample_rate, n_samples, dim = RATE, RATE // 4, 1

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return wave.abs().mean(1, keepdim=True) * self.gain


def sound(n_channels: int = 1, seconds: float = 0.6) -> np.ndarray:
    """A chirp with some noise (S, C)."""
    t = np.arange(round(RATE * seconds)) / RATE
    wave = 0.4 * np.sin(2 * np.pi * (300 + 800 * t) * t) + 0.02 * np.random.default_rng(0).normal(size=len(t))
    return np.stack([wave] * n_channels, axis=1).astype(np.float32)


def encoded(kind: str, n_channels: int = 1) -> bytes:
    """The bytes of an audio file."""
    form, subtype = FORMATS[kind]
    content = io.BytesIO()
    soundfile.write(content, sound(n_channels), RATE, subtype=subtype, format=form)
    return content.getvalue()


def _make(kind: str, folder: Path) -> Sequence[Path]:
    suffix = SUFFIXES.get(FORMATS[kind][0], f".{FORMATS[kind][0].lower()}")
    paths = []
    for n_channels in (1, 2):
        path = folder / f"{kind}_{n_channels}{suffix}"
        path.write_bytes(encoded(kind, n_channels))
        paths.append(path)
    return paths


def open_sound(path: Path) -> None:
    """Header, whole, a part, a part resampled, and as `featurize` reads it."""
    result = featurize(path, Ear(), errors="record", workers=1)
    assert len(result) == 1
    assert (result.table[0]["status"] == "error") == (not np.isfinite(result.embeddings).all())
    found = audio.info(path)
    wave, _ = audio.load(path, channels="each")
    assert wave.shape[0] == found.n_channels
    audio.load(path, sample_rate=16000)
    audio.load(path, sample_rate=2 * RATE, start_s=0.1, duration_s=0.2)


def _target(kind: str, mutate: Callable[..., bytes] = damaged, inputs: int = 1000) -> Target:
    return Target(f"sound {kind}", partial(_make, kind), open_sound, mutate, inputs)


SOUNDS = [
    *(_target(kind) for kind in FORMATS if kind not in ("vorbis", "opus")),
    _target("vorbis", damaged_ogg),
    _target("opus", damaged_ogg),
]
