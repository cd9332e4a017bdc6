"""Long MP3s are opened by each thread once, their parts come out as from a file that is opened anew, and are closed."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import soundfile

from audiossl import audio
from audiossl.data import DataConfig, cache_clips, kept_open, open_clips
from audiossl.data.kept_open import KeptOpen

RATE = 8000


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A minute of a tone that changes every second: what is read tells where it was read."""
    path = tmp_path_factory.mktemp("long") / "minute.mp3"
    pitch = np.repeat(200 + 10 * np.arange(60), RATE)
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE), RATE)
    return path


@pytest.fixture
def n_opened(monkeypatch):
    """How often each file was opened."""
    count: Counter[str] = Counter()
    original = soundfile.SoundFile.__init__

    def counted(self, file, *arguments, **options):
        count[str(file)] += 1
        original(self, file, *arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, "__init__", counted)
    return count


def n_files():
    return len(psutil.Process().open_files())


def test_parts_in_any_order_by_many_threads_are_those_of_the_whole(recording):
    whole = soundfile.read(recording, dtype="float32")[0]
    starts_s = [*range(59), *np.random.default_rng(0).uniform(0, 59, 60)]
    kept = KeptOpen()

    def error(start_s):
        with kept.lent(recording) as file:
            part, _ = audio.load(file, RATE, start_s, 1.0)
        first = round(start_s * RATE)
        return np.abs(part - whole[first : first + len(part)]).max()

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(error, starts_s)) < 2e-6
    kept.close()


def test_caching_the_parts_of_an_mp3_opens_it_as_often_as_there_are_threads(recording, n_opened, tmp_path):
    config = DataConfig(root=str(recording.parent), sample_rate=RATE, clip_s=1.0, cache=str(tmp_path))
    before = n_files()
    cached = cache_clips(open_clips(config), config)
    assert len(cached) == 60
    assert sum(n_opened.values()) <= 1 + 8  # for its length, and by each thread
    assert n_files() == before
    expected = audio.to_int16(soundfile.read(recording, dtype="float32")[0]).reshape(60, RATE)
    assert np.abs(cached.waves[:].astype(int) - expected).max() <= 1


def test_what_is_quick_to_open_is_not_kept(tmp_path, n_opened):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), RATE)
    n_opened.clear()
    kept = KeptOpen()
    before = n_files()
    for _ in range(3):
        with kept.lent(tmp_path / "a.wav") as file:
            assert len(audio.load(file)[0]) == 100
        assert n_files() == before
    assert sum(n_opened.values()) == 3


def test_no_more_than_the_limit_stay_open_and_none_after_an_error(recording, monkeypatch):
    monkeypatch.setattr(kept_open, "_MOST", 2)
    before, kept = n_files(), KeptOpen()
    lent = [kept.lent(recording) for _ in range(4)]
    for one in lent:
        one.__enter__()
    assert n_files() == before + 4
    for one in lent:
        one.__exit__(None, None, None)
    assert n_files() == before + 2
    with pytest.raises(audio.AudioError, match="nothing can be read at 99 s"), kept.lent(recording) as file:
        audio.load(file, start_s=99.0)
    assert n_files() == before + 1
    kept.close()
    assert n_files() == before


def test_bytes_and_file_objects_pass_through():
    content = audio.encode(np.zeros(10, np.int16), RATE)
    with KeptOpen().lent(content) as source:
        assert source is content
