import errno
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl import audio
from audiossl.data import DataConfig, open_clips
from audiossl.data.cache import cache_clips
from audiossl.data.clips import Clip, hash_split
from audiossl.data.folder import cut, recording_of
from audiossl.errors import UserError

RATE = 1000
DATA = Path(__file__).parents[3] / "shared" / "data"


def sound(path: Path, duration_s: float, value: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(duration_s * RATE), value, dtype=np.int16), RATE)


def opened(root: Path, **how):
    return open_clips(DataConfig(name="folder", root=str(root), sample_rate=RATE, **how))


def test_labels_are_the_first_folder_below_the_root(tmp_path):
    for name in ("top ü.wav", "bird/one.flac", "bird/deep/two.wav", "frog/one.wav"):
        sound(tmp_path / name, 0.5)
    clips = opened(tmp_path)
    assert {clip.id: clip.label for clip in clips} == {
        "bird/deep/two.wav": "bird",
        "bird/one.flac": "bird",
        "frog/one.wav": "frog",
        "top ü.wav": None,
    }
    assert clips.labels == ("bird", "frog")
    assert clips.speakers == ()


def test_lists_of_another_folder_split_the_recordings(tmp_path):
    for name in ("a", "b", "c"):
        sound(tmp_path / "sounds" / f"{name}.wav", 1)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "testing_list.txt").write_text("b.wav\n")
    clips = open_clips(DataConfig(root=str(tmp_path / "sounds"), lists=str(tmp_path / "lists")))
    assert {clip.id: clip.split for clip in clips} == {"a.wav": "training", "b.wav": "testing", "c.wav": "training"}


def test_auto_takes_a_folder_for_a_folder(tmp_path):
    sound(tmp_path / "a.wav", 1)
    assert len(open_clips(DataConfig(root=str(tmp_path)))) == 1


@pytest.mark.parametrize(
    ("duration_s", "starts"),
    [
        (0.2, [0.0]),
        (1.0, [0.0]),
        (1.499, [0.0]),
        (1.5, [0.0, 1.0]),
        (2.4, [0.0, 1.0]),
        (2.5, [0.0, 1.0, 2.0]),
        (3.0, [0.0, 1.0, 2.0]),
    ],
)
def test_where_long_files_are_cut(tmp_path, duration_s, starts):
    sound(tmp_path / "a.wav", duration_s)
    assert [clip.start_s for clip in opened(tmp_path)] == starts


def test_parts_of_the_longest_recordings_have_ids_of_their_own():
    parts = cut(Clip("a.wav", Path("a.wav")), 100_002.0, 0.5)  # 28 hours
    assert [part.id for part in parts[-3:]] == ["a.wav@100000.5s", "a.wav@100001s", "a.wav@100001.5s"]
    assert len({part.id for part in parts}) == len(parts)
    assert recording_of(parts[-1]) == "a.wav"
    assert recording_of(Clip("b.wav@1000001s", Path("b.wav"), start_s=1_000_001.0, duration_s=1.0)) == "b.wav"


@pytest.mark.parametrize("clip_s", [0.1, 0.5, 1.0, 10.0])
def test_ids_of_ordinary_parts_stay_as_they_were(clip_s):
    parts = cut(Clip("a.wav", Path("a.wav")), 20_000 * clip_s, clip_s)
    assert [part.id for part in parts] == [f"a.wav@{i * clip_s:.6g}s" for i in range(20_000)]


def test_the_parts_of_a_file_hold_all_of_it_in_order_and_share_a_split(tmp_path, monkeypatch):
    wave = np.arange(1, 3601, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", wave, RATE)
    for i in range(30):
        sound(tmp_path / f"{i}.wav", 2.0)
    with monkeypatch.context() as patch:
        patch.setattr(audio, "load", None)  # headers are enough
        clips = opened(tmp_path)
    assert len({clip.id for clip in clips}) == len(clips) == 4 + 60
    for clip in clips:
        assert clip.split == hash_split(clip.id.partition("@")[0])
    config = DataConfig(sample_rate=RATE, cache=str(tmp_path / ".cache"))
    cached = cache_clips(clips, config)
    rows = [row for row, id in enumerate(cached.ids) if id.startswith("a.wav")]
    assert cached.n_valid[rows].tolist() == [1000, 1000, 1000, 600]
    np.testing.assert_array_equal(np.concatenate(cached.waves[rows])[:3000], wave[:3000])
    np.testing.assert_array_equal(cached.waves[rows[3]][200:800], wave[3000:])


def test_the_split_is_80_10_10_and_never_moves():
    names = [f"recording {i}" for i in range(4000)]
    splits = [hash_split(name) for name in names]
    shares = [splits.count(split) / 4000 for split in ("training", "validation", "testing")]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.02)
    # Written down once: another machine, or a later version, must agree.
    assert " ".join(hash_split(f"{i}.wav")[:2] for i in range(12)) == "tr tr tr tr tr tr tr tr tr tr tr tr"


def test_a_single_file_is_for_training_whatever_its_hash(tmp_path):
    name = next(f"{i}.wav" for i in range(100) if hash_split(f"{i}.wav") == "testing")
    sound(tmp_path / name, 1)
    clips = opened(tmp_path)
    assert clips[0].split == "training"
    assert "too few" in clips.split_rule


def test_lists_in_the_folder_decide(tmp_path):
    for name in ("x/a.wav", "x/b.wav", "y/c d.wav", "y/e.wav"):
        sound(tmp_path / name, 2.0)
    (tmp_path / "validation_list.txt").write_text("x/a.wav\r\n\r\nx/not_here.wav\n")
    (tmp_path / "testing_list.txt").write_text("y/c d.wav\n")
    clips = opened(tmp_path)
    assert {clip.id.partition("@")[0]: clip.split for clip in clips} == {
        "x/a.wav": "validation",
        "x/b.wav": "training",
        "y/c d.wav": "testing",
        "y/e.wav": "training",
    }
    assert "validation_list.txt" in clips.split_rule
    (tmp_path / "validation_list.txt").write_text("other/a.wav\n")
    (tmp_path / "testing_list.txt").unlink()
    with pytest.raises(UserError, match="name none of the 4 audio files"):
        opened(tmp_path)


def test_damaged_files_stay_in_until_they_are_decoded(tmp_path):
    sound(tmp_path / "good.wav", 1)
    (tmp_path / "bad.wav").write_text("no audio")
    clips = opened(tmp_path)
    assert [clip.id for clip in clips] == ["bad.wav", "good.wav"]
    cached = cache_clips(clips, DataConfig(sample_rate=RATE, cache=str(tmp_path / ".cache")))
    assert [id for id, _ in cached.skipped] == ["bad.wav"]


def test_a_folder_that_cannot_be_listed_is_left_out_and_named(tmp_path, monkeypatch):
    sound(tmp_path / "sounds" / "good.wav", 1)
    sound(tmp_path / "sounds" / "locked" / "hidden.wav", 1)
    scandir = os.scandir

    def refuse(folder):
        if Path(folder).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    clips = opened(tmp_path / "sounds")
    cached = cache_clips(clips, DataConfig(sample_rate=RATE, cache=str(tmp_path / "cache")))
    assert cached.ids == ["good.wav"]
    ((name, reason),) = cached.skipped
    assert name == "locked"
    assert "cannot be listed (Permission denied)" in reason


def test_folders_without_audio_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"--data\.root .* holds no files"):
        opened(tmp_path)
    (tmp_path / "a.m4a").write_bytes(b"x")
    with pytest.raises(UserError, match=r"1 \.m4a.*ffmpeg"):
        opened(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        open_clips(DataConfig(root=str(tmp_path / "missing")))
    with pytest.raises(UserError, match=r"needs --data\.root"):
        open_clips(DataConfig(name="folder"))


def test_a_limit_is_a_draw_that_does_not_depend_on_the_rest(tmp_path):
    for i in range(20):
        sound(tmp_path / f"{i}.wav", 0.1)
    few = [clip.id for clip in opened(tmp_path, limit=5)]
    assert len(few) == 5
    assert set(few) < {clip.id for clip in opened(tmp_path, limit=10)}
    assert len(opened(tmp_path, limit=100)) == 20


@pytest.mark.data
def test_esc10_as_a_folder():
    if not (DATA / "esc10").is_dir():
        pytest.skip(f"needs the recordings in {DATA / 'esc10'}")
    clips = open_clips(DataConfig(name="folder", root=str(DATA / "esc10"), clip_s=5.0))
    assert len(clips) == 400
    assert len(clips.labels) == 10
    assert len(clips.split("testing")) == len((DATA / "esc10" / "testing_list.txt").read_text().split())
    wave = clips[0].wave(16000, at_most_s=5.0)  # some are a millisecond longer
    assert wave.shape == (80000,)
    assert 0 < np.abs(wave).max() <= 1.5


@pytest.mark.parametrize("name", ["auto", "folder", "manifest", "speech_commands"])
def test_the_home_of_nobody_is_no_folder(name):
    with pytest.raises(UserError, match="~nobody-of-that-name"):
        open_clips(DataConfig(name=name, root="~nobody-of-that-name"))
