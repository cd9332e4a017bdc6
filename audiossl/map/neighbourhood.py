"""A recording among the clips of a data set: the map that opens at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from audiossl import audio
from audiossl.encoder import AudioEncoder
from audiossl.map.build import Result, Say, clips_for, features_of, write
from audiossl.map.config import MapConfig
from audiossl.map.points import Column, Points, from_clips

ROLE = "asked for"  # what the column `split` says of it, so that it can be told apart


def of_clip(
    clip: str, encoders: Mapping[str, Mapping[str, AudioEncoder]], config: MapConfig, path: Path, say: Say
) -> Result:
    """Write the map of `config.data` with a recording added, of a long one as much as a clip is long.

    Raises AudioError for a recording that cannot be read, and UserError as `write` does.
    """
    first = next(iter(next(iter(encoders.values())).values()))
    clips = clips_for(first, config)
    wave = _wave(clip, first.sample_rate, clips.clip_s)
    features = {
        name: {
            frame: np.concatenate([x, _embedded(clip, encoders[name][frame], clips.clip_s)])
            for frame, x in frames.items()
        }
        for name, frames in features_of(encoders, clips, config, say).items()
    }
    points = with_one_more(from_clips(clips, config.sound_s), clip, wave, first.sample_rate)
    return write(points, features, config, path, say, start=len(points) - 1)


def with_one_more(points: Points, name: str, wave: np.ndarray, sample_rate: int) -> Points:
    """The points, and a sound of which nothing is known but its length."""
    last = len(points)

    def column(known: Column) -> Column:
        if known.texts is not None:
            return replace(known, texts=[*known.texts, ROLE if known.name == "split" else None])
        value = len(wave) / sample_rate if known.name == "duration" else np.nan
        return replace(known, numbers=np.append(np.asarray(known.numbers), np.float32(value)))

    def sound(n: int) -> tuple[np.ndarray, int] | None:
        return (wave, sample_rate) if n == last else points.sound(n)

    columns, recordings = [column(known) for known in points.columns], [*(points.recordings or points.names), name]
    return Points([*points.names, name], columns, sound, points.of, recordings)


def _wave(clip: str, sample_rate: int, clip_s: float) -> np.ndarray:
    wave, _ = audio.load(clip, sample_rate, 0.0, clip_s)
    return audio.to_int16(wave)


def _embedded(clip: str, encoder: AudioEncoder, clip_s: float) -> np.ndarray:
    """Features (1, D), padded as the clips of the data set are."""
    wave = audio.fit_length(_wave(clip, encoder.sample_rate, clip_s), round(clip_s * encoder.sample_rate))
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        return encoder.eval()(torch.from_numpy(wave)[None].to(device)).float().cpu().numpy()
