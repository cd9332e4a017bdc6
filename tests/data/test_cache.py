import errno
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl import audio
from audiossl.data import cache, cache_folder
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


DAMAGE = {
    "shorter waves": r"waves\.int16 has 11999 bytes, not 12000",
    "longer waves": r"waves\.int16 has 12001 bytes, not 12000",
    "empty waves": r"waves\.int16 has 0 bytes",
    "no waves": r"waves\.int16: No such file",
    "changed table": r"table\.json is not what was written",
    "cut table": r"table\.json is not what was written",
    "empty table": r"table\.json is not what was written",
    "no table": r"table\.json: No such file",
    "other columns": r"table\.json is of another version",
    "a number": r"table\.json is of another version",
    "a file": r"table\.json: Not a directory",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_cache_is_built_anew_with_a_sentence(clips, config, how, capsys):
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
    elif how == "longer waves":
        waves.write_bytes(waves.read_bytes() + b"0")
    elif how.startswith("empty"):
        (waves if how == "empty waves" else table).write_bytes(b"")
    elif how == "no table":
        table.unlink()
    elif how == "a file":
        shutil.rmtree(folder)
        folder.touch()
    else:
        content = {"ids": []} if how == "other columns" else 7
        cache_folder.write_table(folder, content)  # type: ignore[arg-type]
    cached = cache_clips(clips, config)
    assert re.search(rf"{folder.name} is damaged \({DAMAGE[how]}.*\): it is built anew", capsys.readouterr().err)
    assert cached.waves.path.parent == folder
    assert cached.waves[:, 500].tolist() == [100, 200, 300, 400, 500, 600]
    assert cached.splits.count("testing") == 2
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_a_killed_process_left_is_removed_when_it_is_old(clips, config):
    folder = cache_clips(clips, config).waves.path.parent
    # Of this data set or of another one, that nobody may ever build again; also what was about to be replaced.
    names = (f"{folder.name}.building-old", "other-0123.building-old", f"{folder.name}.building-old.damaged")
    old = [folder.with_name(name) for name in names]
    young = folder.with_name(f"{folder.name}.building-young")
    for private in (*old, young):
        private.mkdir()
        (private / "waves.int16").touch()
    for private in old:
        for path in (private / "waves.int16", private):
            os.utime(path, (0, 0))
    shutil.rmtree(folder)
    cache_clips(clips, config)
    assert sorted(folder.parent.iterdir()) == sorted([folder, young])


def test_a_cache_is_replaced_beside_what_a_killed_replacement_left(clips, config):
    folder = cache_clips(clips, config).waves.path.parent
    for _ in range(2):
        (folder / "table.json").unlink()
        left = folder.with_name(f"{folder.name}.damaged")
        left.mkdir(exist_ok=True)
        (left / "waves.int16").touch()
        assert len(cache_clips(clips, config)) == 6


def test_a_file_system_without_locks_is_no_hindrance(clips, config, monkeypatch):
    def no_locks(*_, **__):
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(cache_folder.FileLock, "acquire", no_locks)
    assert len(cache_clips(clips, config)) == 6


BUILD = """
import sys, time
from pathlib import Path
from audiossl import audio
from audiossl.data.cache import cache_clips
from audiossl.data.clips import Clip, ClipSet
from audiossl.data.config import DataConfig

folder, here, n_processes, wait_s = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
load, n_decoded = audio.load, 0
def counted(*given):
    global n_decoded
    n_decoded += 1
    (folder / f"building-{here}").touch()
    time.sleep(wait_s)
    return load(*given)
audio.load = counted
clips = [Clip(path.name, path) for path in sorted(folder.glob("*.wav"))]
(folder / f"ready-{here}").touch()
while len(list(folder.glob("ready-*"))) < n_processes:  # all have imported everything: they start together
    time.sleep(0.005)
config = DataConfig(sample_rate=1000, cache=str(folder / "cache"))
cached = cache_clips(ClipSet.of("shared", clips, ""), config)
print(int(cached.waves[:].astype(int).sum()), n_decoded)
"""


def start(folder: Path, name: str, n_processes: int, wait_s: float = 0.0) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILD, str(folder), name, str(n_processes), str(wait_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.distributed
def test_of_two_processes_one_builds_and_the_other_waits(tmp_path):
    make_clips(tmp_path, [1000] * 300)
    started = [start(tmp_path, name, 2, wait_s=0.005) for name in "ab"]
    said = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0]
    expected = sum(100 * (i + 1) * 1000 for i in range(300))
    assert sorted(out.strip() for out, _ in said) == [f"{expected} 0", f"{expected} 300"]
    waited = [err for out, err in said if out.strip().endswith(" 0")]
    assert "another process builds the cache" in waited[0]
    assert len(list((tmp_path / "cache" / "clips").iterdir())) == 1


@pytest.mark.distributed
def test_who_waits_builds_when_the_builder_is_killed(tmp_path):
    make_clips(tmp_path, [1000] * 300)
    first = start(tmp_path, "a", 1, wait_s=1000.0)
    while not (tmp_path / "building-a").exists():
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.01)
    second = start(tmp_path, "b", 1)
    assert "another process builds the cache" in second.stderr.readline()
    first.kill()
    first.communicate()
    out, _ = second.communicate(timeout=300)
    assert out.split()[1] == "300"
    left = {path.name for path in (tmp_path / "cache" / "clips").iterdir()}
    assert len([name for name in left if ".building-" not in name]) == 1
