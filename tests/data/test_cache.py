import errno
import io
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl import audio
from audiossl.data import cache
from audiossl.data.cache import cache_clips, cache_key
from audiossl.data.clips import Clip, ClipSet
from audiossl.data.config import DataConfig
from audiossl.errors import UserError

RATE = 1000


@pytest.fixture
def config(tmp_path) -> DataConfig:
    return DataConfig(sample_rate=RATE, clip_s=1.0, cache=str(tmp_path / "cache"))


@pytest.fixture
def clips(tmp_path) -> ClipSet:
    return make_clips(tmp_path, [1000, 400, 1500, 1000, 999, 1000])


def make_clips(folder: Path, lengths: list[int]) -> ClipSet:
    """Clip i holds the value 100 * (i + 1) throughout."""
    made = []
    for i, n_samples in enumerate(lengths):
        path = folder / f"clip {i} ü.wav"
        soundfile.write(path, np.full(n_samples, 100 * (i + 1), dtype=np.int16), RATE)
        split = ("training", "training", "testing")[i % 3]
        made.append(Clip(path.name, path, "ab"[i % 2] if i else None, f"s{i}", split))
    return ClipSet("six clips", tuple(made), ("a", "b", "never"), "by hand")


def test_what_is_read_back(clips, config):
    cached = cache_clips(clips, config)
    waves = cached.waves[:]
    assert (waves.shape, waves.dtype) == (cached.waves.shape, np.int16)
    assert waves.shape == (6, 1000)
    assert cached.n_valid.tolist() == [1000, 400, 1000, 1000, 999, 1000]
    np.testing.assert_array_equal(waves[1], np.repeat([0, 200, 0], [300, 400, 300]))
    np.testing.assert_array_equal(waves[2], np.full(1000, 300))
    assert cached.ids == [clip.id for clip in clips]
    assert cached.labels == [None, "b", "a", "b", "a", "b"]
    assert cached.label_names == ("a", "b", "never")
    assert cached.label_ids.tolist() == [-1, 1, 0, 1, 0, 1]
    assert cached.speakers == [f"s{i}" for i in range(6)]
    assert cached.describe()["clips_of_split"] == {"training": 4, "validation": 0, "testing": 2}
    assert cached.describe()["split_rule"] == "by hand"
    assert cached.clip_s == 1.0


def test_subsets_index_their_own_rows(clips, config):
    cached = cache_clips(clips, config)
    testing = cached.split("testing")
    assert testing.ids == [clips[2].id, clips[5].id]
    assert testing.waves[:, 500].tolist() == [300, 600]
    assert testing.label_ids.tolist() == [0, 1]
    back = testing.subset([1, 0])
    assert back.waves[0][0] == 600
    batch = back.__getitems__([1, 1, 0])
    assert batch.wave[:, 500].tolist() == [300, 300, 600]
    assert batch.index.tolist() == [1, 1, 0]
    wave, index = back[1]
    assert (int(wave[0]), index) == (300, 1)
    assert len(cached.split("validation")) == 0
    with pytest.raises(IndexError):
        back[2]
    with pytest.raises(UserError, match="no split 'train'"):
        cached.split("train")


def test_a_pickled_copy_is_small_and_reads_the_same(clips, config):
    cached = cache_clips(clips, config)
    cached.waves[0]  # the file is open
    pickled = pickle.dumps(cached)
    assert len(pickled) < cached.waves[:].nbytes
    np.testing.assert_array_equal(pickle.loads(pickled).waves[:], cached.waves[:])


def test_second_opening_decodes_nothing(clips, config, monkeypatch):
    first = cache_clips(clips, config)
    monkeypatch.setattr(audio, "load", None)
    second = cache_clips(clips, config)
    assert second.waves.path == first.waves.path
    assert second.describe() == first.describe()


def test_int16_files_of_the_same_rate_are_kept_bit_for_bit(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 16000).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", samples, 16000)
    config = DataConfig(cache=str(tmp_path / "cache"))
    cached = cache_clips(ClipSet.of("one", [Clip("a", tmp_path / "a.flac")], ""), config)
    np.testing.assert_array_equal(cached.waves[0], samples)


def test_settings_and_columns_change_the_key(clips, config):
    def changed(**how) -> ClipSet:
        return replace(clips, clips=(replace(clips[0], **how), *clips.clips[1:]))

    keys = [
        cache_key(clips, config),
        cache_key(clips, replace(config, sample_rate=2000)),
        cache_key(clips, replace(config, clip_s=0.5)),
        cache_key(replace(clips, clips=clips.clips[1:]), config),
        cache_key(replace(clips, labels=("a", "b")), config),
        *(
            cache_key(changed(**{name: value}), config)
            for name, value in [
                ("id", "x"), ("label", "b"), ("speaker", "x"), ("split", "testing"),
                ("start_s", 0.1), ("duration_s", 0.1), ("gain", 0.5), ("source", clips[1].source),
            ]
        ),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert cache_key(clips, config) == keys[0]
    assert cache_key(clips, replace(config, on_error="raise", limit=3)) == keys[0]


def test_a_replaced_file_of_the_same_size_and_date_is_noticed(clips, config):
    before = cache_clips(clips, config)
    path = clips[0].source
    dates = path.stat()
    size = dates.st_size
    soundfile.write(path, np.full(1000, -7, dtype=np.int16), RATE)
    os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (size, dates.st_mtime_ns)
    after = cache_clips(clips, config)
    assert after.waves[0][0] == -7
    assert before.waves[0][0] == 100  # the old cache is still whole


def test_functions_as_sources_are_known_by_their_bytes_or_their_fingerprint(clips, config):
    content = Path(clips[0].source).read_bytes()

    def with_source(source) -> ClipSet:
        return ClipSet.of("made", [Clip("a", source)], "")

    assert cache_clips(with_source(lambda: content), config).waves[0][0] == 100
    other = Path(clips[1].source).read_bytes()
    assert cache_key(with_source(lambda: content), config) != cache_key(with_source(lambda: other), config)

    def never() -> bytes:
        raise AssertionError("the fingerprint is enough")

    never.fingerprint = "1"  # type: ignore[attr-defined]
    key = cache_key(with_source(never), config)
    never.fingerprint = "2"  # type: ignore[attr-defined]
    assert cache_key(with_source(never), config) != key


def test_gain_and_parts(clips, config):
    long = replace(clips[2], id="part", start_s=1.2, duration_s=0.2, gain=-2.0)
    silent = replace(clips[2], id="silent", gain=0.0)
    cached = cache_clips(ClipSet.of("parts", [long, silent], ""), config)
    assert cached.n_valid.tolist() == [200, 1000]
    np.testing.assert_array_equal(cached.waves[0], np.repeat([0, -600, 0], [400, 200, 400]))
    assert not cached.waves[1].any()


def damage(clips: ClipSet, n_clips: int) -> None:
    for i in range(n_clips):
        Path(clips[i].source).write_bytes(b"" if i % 2 else b"no audio")


def test_damaged_files_are_skipped_and_listed(clips, config, capsys):
    damage(clips, 2)
    cached = cache_clips(clips, config)
    assert cached.ids == [clip.id for clip in clips.clips[2:]]
    assert cached.waves[:, 500].tolist() == [300, 400, 500, 600]
    assert [id for id, _ in cached.skipped] == [clips[0].id, clips[1].id]
    assert "0 bytes" in cached.skipped[1][1]
    said = capsys.readouterr().err
    assert "2 clips" in said
    assert str(clips[0].source) in said
    with pytest.raises(audio.AudioError, match="clip 0 ü"):
        cache_clips(clips, replace(config, on_error="raise"))


def test_at_most_ten_are_printed(tmp_path, config, capsys):
    clips = make_clips(tmp_path, [10] * 15)
    damage(clips, 13)
    cached = cache_clips(clips, config)
    assert (len(cached), len(cached.skipped)) == (2, 13)
    said = capsys.readouterr().err
    assert said.count(".wav") == 10
    assert "3 more" in said


def test_refusals_leave_nothing_behind(clips, config, tmp_path):
    damage(clips, 1)
    with pytest.raises(audio.AudioError, match="clip 0 ü"):
        cache_clips(clips, replace(config, on_error="raise"))
    damage(clips, 6)
    with pytest.raises(UserError, match=r"none of its 6 clips can be read; the first: .*clip 0 ü"):
        cache_clips(clips, config)
    with pytest.raises(UserError, match="has no clips"):
        cache_clips(replace(clips, clips=()), config)
    assert list((tmp_path / "cache" / "clips").iterdir()) == []


def test_a_full_disk_is_said_before_writing(clips, config, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage._replace(free=6 * 2000 - 1))
    with pytest.raises(UserError, match=r"cache/clips.*12000 bytes.*--data\.cache"):
        cache_clips(clips, config)


def test_a_disk_that_fills_up_leaves_nothing_behind(clips, config, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "open", lambda *_: Full(), raising=False)
    with pytest.raises(UserError, match=r"no room in .*cache/clips.*12000 bytes"):
        cache_clips(clips, config)
    assert list((tmp_path / "cache" / "clips").iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_flag(clips, config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/clips.*--data\.cache"):
        cache_clips(clips, replace(config, cache=str(tmp_path / "file")))


@pytest.mark.parametrize("how", ["shorter waves", "no waves", "changed table", "cut table", "no table"])
def test_a_damaged_cache_is_built_anew(clips, config, how):
    folder = cache_clips(clips, config).waves.path.parent
    waves, table = folder / "waves.int16", folder / "table.json"
    if how == "shorter waves":
        waves.write_bytes(waves.read_bytes()[:-1])
    elif how == "no waves":
        waves.unlink()
    elif how == "changed table":
        table.write_bytes(table.read_bytes().replace(b"testing", b"testinG", 1))
    elif how == "cut table":
        table.write_bytes(table.read_bytes()[:-10])
    else:
        table.unlink()
    cached = cache_clips(clips, config)
    assert cached.waves.path.parent == folder
    assert cached.waves[:, 500].tolist() == [100, 200, 300, 400, 500, 600]
    assert cached.splits.count("testing") == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_a_killed_process_left_is_removed_when_it_is_old(clips, config):
    folder = cache_clips(clips, config).waves.path.parent
    old, young = (folder.with_name(f"{folder.name}.building-{name}") for name in ("old", "young"))
    for private in (old, young):
        private.mkdir()
        (private / "waves.int16").touch()
    for path in (old / "waves.int16", old):
        os.utime(path, (0, 0))
    shutil.rmtree(folder)
    cache_clips(clips, config)
    assert (old.exists(), young.exists(), folder.exists()) == (False, True, True)


BUILD = """
import sys, time
from pathlib import Path
from audiossl.data.cache import cache_clips
from audiossl.data.clips import Clip, ClipSet
from audiossl.data.config import DataConfig

folder, here = Path(sys.argv[1]), sys.argv[2]
clips = [Clip(path.name, path) for path in sorted(folder.glob("*.wav"))]
(folder / f"ready-{here}").touch()
while len(list(folder.glob("ready-*"))) < 2:  # both have imported everything: they start together
    time.sleep(0.005)
config = DataConfig(sample_rate=1000, cache=str(folder / "cache"))
print(int(cache_clips(ClipSet.of("shared", clips, ""), config).waves[:].astype(int).sum()))
"""


@pytest.mark.distributed
def test_two_processes_build_the_same_cache_at_once(tmp_path):
    make_clips(tmp_path, [1000] * 300)
    started = [
        subprocess.Popen([sys.executable, "-c", BUILD, str(tmp_path), name], stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    printed = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    expected = sum(100 * (i + 1) * 1000 for i in range(300))
    assert [int(text) for text in printed] == [expected, expected]
    assert len(list((tmp_path / "cache" / "clips").iterdir())) == 1
