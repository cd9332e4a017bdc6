import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl import audio
from audiossl.data.clips import Clip, ClipSet
from audiossl.data.config import DataConfig, cache_root
from audiossl.errors import UserError


@pytest.fixture
def file(tmp_path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.arange(2000, dtype=np.int16), 1000)
    return tmp_path / "a.wav"


def test_a_clip_reads_its_part_from_a_file_or_a_function(file):
    for source in (file, file.read_bytes):
        part = Clip("a", source, start_s=0.5, duration_s=1.0, gain=2.0)
        np.testing.assert_allclose(part.wave(1000) * 32768, 2 * np.arange(500, 1500))
        assert len(part.wave(1000, at_most_s=0.25)) == 250
        assert len(part.wave(2000)) == 2000
        assert not Clip("a", source, gain=0.0).wave(1000).any()


def test_an_error_from_bytes_names_the_clip():
    with pytest.raises(audio.AudioError, match="clip row 7: "):
        Clip("row 7", lambda: b"no audio").wave(1000)


def test_a_set_and_its_splits(file):
    clips = [Clip(str(i), file, "ab"[i % 2], f"s{i % 3}", ("training", "testing")[i % 2]) for i in range(6)]
    data = ClipSet.of("six", [*clips, Clip("x", file)], "by hand")
    assert (len(data), data.labels, data.speakers) == (7, ("a", "b"), ("s0", "s1", "s2"))
    testing = data.split("testing")
    assert [clip.id for clip in testing] == ["1", "3", "5"]
    assert testing.labels == ("a", "b")
    assert len(data.split("validation")) == 0
    assert data.describe() == {
        "name": "six",
        "clips": 7,
        "speakers": 3,
        "labels": ["a", "b"],
        "split_rule": "by hand",
    }
    with pytest.raises(UserError, match="no split 'train'"):
        data.split("train")


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ({"name": "folders"}, "name"),
        ({"on_error": "ignore"}, "on_error"),
        ({"version": "v2"}, "version"),
        ({"task": 20}, "task"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"clip_s": 0.0}, "clip_s"),
        ({"clip_s": float("nan")}, "clip_s"),
        ({"clip_s": float("inf")}, "clip_s"),
        ({"clip_s": 1e305}, "clip_s"),
        ({"clip_s": -1.0}, "clip_s"),
        ({"limit": 0}, "limit"),
    ],
)
def test_settings_without_sense_name_their_flag(setting, flag):
    with pytest.raises(UserError, match=rf"--data\.{flag} is "):
        DataConfig(**setting)


def test_where_the_cache_lies(tmp_path, monkeypatch):
    monkeypatch.delenv("AUDIOSSL_CACHE", raising=False)
    assert "audiossl" in str(cache_root(DataConfig()))
    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path / "env"))
    assert cache_root(DataConfig()) == tmp_path / "env"
    assert cache_root(DataConfig(cache=str(tmp_path / "flag"))) == tmp_path / "flag"


def test_settings_and_clips_need_no_torch():
    code = "import audiossl.data, sys; assert 'torch' not in sys.modules and 'datasets' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
