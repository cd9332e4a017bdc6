"""What is said of training clips that teach little, and of a set as it should be."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl.data import DataConfig, cache_clips, open_clips, unusual
from audiossl.data.cached import WaveRows
from audiossl.data.unusual import unusual_clips

RATE, SAMPLES = 8000, 4000
T = np.arange(SAMPLES) / RATE
KINDS = {
    "silent": lambda number: np.zeros(SAMPLES),
    "clipped": lambda number: np.clip(30 * np.sin(2 * np.pi * (200 + 10 * number) * T), -1, 1),
    "a constant offset": lambda number: 0.3 + 0.001 * number + 0.01 * np.sin(2 * np.pi * 300 * T),
    "the same sound": lambda number: 0.3 * np.sin(2 * np.pi * 440 * T),
}


def cached(folder: Path, waves):
    for number, wave in enumerate(waves):
        soundfile.write(folder / f"{number:03d}.wav", wave.astype(np.float32), RATE)
    config = DataConfig(name="folder", root=str(folder), sample_rate=RATE, clip_s=0.5, cache=str(folder / "cache"))
    return cache_clips(open_clips(config), config, progress=False)


def noise(number):
    return 0.1 * np.random.default_rng(number).standard_normal(SAMPLES)


def test_nothing_is_said_of_sounds_that_differ(tmp_path):
    assert unusual_clips(cached(tmp_path, map(noise, range(20)))) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_of_one_kind_is_named_once(tmp_path, kind):
    (sentence,) = unusual_clips(cached(tmp_path, map(KINDS[kind], range(20))))
    count = 19 if kind == "the same sound" else 20  # the first one is no copy
    assert sentence.startswith(f"{count} of 20 training clips that were looked at are {kind}")
    assert ("001.wav" if kind == "the same sound" else "000.wav") in sentence


def test_a_few_among_many_are_no_news(tmp_path):
    waves = [*map(noise, range(40)), KINDS["silent"](0), KINDS["clipped"](0), KINDS["a constant offset"](0)]
    assert unusual_clips(cached(tmp_path, waves)) == []


def test_long_clips_are_looked_at_a_few_at_a_time(tmp_path, monkeypatch):
    kinds = [make(number) for number in range(5) for make in (*KINDS.values(), noise)]
    clips = cached(tmp_path, kinds)
    asked, read = [], WaveRows.__getitem__
    monkeypatch.setattr(WaveRows, "__getitem__", lambda rows, key: asked.append(len(key)) or read(rows, key))
    at_once = unusual_clips(clips)
    monkeypatch.setattr(unusual, "AT_A_TIME", 3 * SAMPLES)
    assert unusual_clips(clips) == at_once
    assert [sentence.split(" ")[0] for sentence in at_once] == ["5", "5", "5", "4"]
    assert asked == [25, *[3] * 8, 1]


def test_a_clip_that_stands_in_a_set_again_and_again_is_no_copy(tmp_path):
    clips = cached(tmp_path, map(noise, range(5)))
    assert unusual_clips(clips.subset([0, 1, 2, 3, 4] * 8)) == []
    assert unusual_clips(clips.subset([])) == []
