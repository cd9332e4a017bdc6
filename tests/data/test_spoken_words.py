from __future__ import annotations

import builtins
import hashlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audiossl import audio
from audiossl.data import spoken_words
from audiossl.data.acoustics import N_FFT, Place
from audiossl.data.clips import SPLITS
from audiossl.data.config import DataConfig
from audiossl.data.folds import fold_lists
from audiossl.data.spoken_words import ACCENTS, WORDS, SpokenWords, ensure, fingerprint, open_spoken_words
from audiossl.errors import UserError

pytest.importorskip("espeakng_loader", reason="the extra `speech` is not installed")
from audiossl.data import espeak

SMALL = SpokenWords(seed=3, training=8, validation=2, testing=3, words=("bed", "six", "yes", "zero"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    ensure(SMALL, folder, progress=False)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_builds_are_equal_byte_for_byte(cache: Path, tmp_path: Path) -> None:
    first, second = ensure(SMALL, cache), ensure(SMALL, tmp_path, progress=False)
    assert first != second
    assert digests(first) == digests(second)
    assert len(digests(first)) == SMALL.n_clips + 3


SPEAK_ALL = """
import hashlib
from audiossl.data import espeak
engine = espeak.Espeak()
for variant in espeak.variants():
    spoken = engine.say("house", "en+" + variant, 200, 50, 50, 100)
    print(variant, hashlib.sha256(spoken.tobytes()).hexdigest())
"""


def test_every_voice_repeats_in_a_fresh_process() -> None:
    runs = [subprocess.run([sys.executable, "-c", SPEAK_ALL], capture_output=True, text=True, check=True)]
    time.sleep(1.1)  # the engine's own seed is the time of day in seconds
    runs += [subprocess.run([sys.executable, "-c", SPEAK_ALL], capture_output=True, text=True, check=True)]
    first, second = (run.stdout.splitlines() for run in runs)
    assert len(first) > 50
    assert first == second


def test_another_seed_makes_other_clips(cache: Path, tmp_path: Path) -> None:
    other = replace(SMALL, seed=4, words=("bed",))
    assert fingerprint(other) != fingerprint(SMALL)
    ours = set(digests(ensure(SMALL, cache)).values())
    assert not ours & set(digests(ensure(other, tmp_path, progress=False) / "bed").values())


def test_it_is_a_speech_commands_set_with_disjoint_speakers_and_voices(cache: Path) -> None:
    clips = open_spoken_words(DataConfig(cache=str(cache)), SMALL)
    assert (clips.name, clips.labels) == ("spoken_words", SMALL.words)
    assert [len(clips.split(split)) for split in SPLITS] == [32, 8, 12]
    speakers = [set(clips.split(split).speakers) for split in SPLITS]
    assert [len(names) for names in speakers] == [8, 2, 3]
    assert len(set.union(*speakers)) == 13
    assert "voice variants are disjoint" in clips.split_rule


def test_other_lists_split_it_and_the_rule_says_so(cache: Path, tmp_path: Path) -> None:
    config = DataConfig(cache=str(cache))
    first, second, *_ = fold_lists(open_spoken_words(config, SMALL), "speaker", tmp_path)
    clips = open_spoken_words(replace(config, lists=str(first)), SMALL)
    assert [len(clips.split(split).speakers) for split in SPLITS] == [11, 1, 1]
    assert [f"fold-{clips.split(split).speakers[0]}" for split in SPLITS[1:]] == [second.name, first.name]
    assert clips.split_rule == f"validation_list.txt and testing_list.txt of {first.name}, training the rest"


def test_default_cast_shares_no_variant_between_splits_and_uses_every_accent() -> None:
    people = spoken_words.cast(SpokenWords())
    assert [sum(person.split == split for person in people) for split in SPLITS] == [120, 24, 24]
    assert len({person.name for person in people}) == len(people) == len({person.voice for person in people})
    variants = [{p.voice.split("+")[1] for p in people if p.split == split} for split in SPLITS]
    assert sum(map(len, variants)) == len(set.union(*variants))
    assert {person.voice.split("+")[0] for person in people} == set(ACCENTS)
    assert len(WORDS) == len(set(WORDS)) == 35
    assert SpokenWords().n_clips == 5880


def test_a_cast_larger_than_the_voices_repeats_voices_but_not_names() -> None:
    people = spoken_words.cast(SpokenWords(training=900, validation=100, testing=100))
    assert len({person.name for person in people}) == 1100
    variants = [{p.voice.split("+")[1] for p in people if p.split == split} for split in SPLITS]
    assert sum(map(len, variants)) == len(set.union(*variants))


def test_every_clip_is_one_second_of_sound(cache: Path) -> None:
    for clip in open_spoken_words(DataConfig(cache=str(cache)), SMALL):
        wave = clip.wave(16000)
        assert wave.shape == (16000,)
        assert 0.05 < np.abs(wave).max() < 1.0
        # a word stands out of its noise: the loudest tenth of a second over the quietest
        level = np.sqrt(np.mean(wave.reshape(10, 1600) ** 2, axis=1))
        assert level.max() > 1.5 * level.min()


def log_mel_like(wave: np.ndarray) -> np.ndarray:
    """Log energies of 20 bands in 16 parts of the clip: enough to tell words apart."""
    frames = np.abs(np.fft.rfft(wave.reshape(16, 1000) * np.hanning(1000))) ** 2
    edges = np.geomspace(4, 480, 21).astype(int)
    return np.log(np.add.reduceat(frames, edges[:-1], axis=1) + 1e-6)


def test_words_differ_more_than_speakers() -> None:
    """Without room and noise, the nearest mean picture names the word of a voice that it has not heard."""
    words, known, unknown = ("six", "zero", "yes", "down"), ("m1", "m3", "f2", "klatt"), ("f4", "m7", "steph")

    def picture(engine: espeak.Espeak, variant: str, word: str) -> np.ndarray:
        spoken = audio.resample(
            engine.say(word, f"en-us+{variant}", 150, 50, 50, 100) / np.float32(32768),
            engine.sample_rate,
            16000,
        )
        image = log_mel_like(audio.fit_length(spoken, 16000))
        return image - image.mean()

    with closing(espeak.Espeak()) as engine:
        means = {word: np.mean([picture(engine, v, word) for v in known], axis=0) for word in words}
        right = [
            min(words, key=lambda name: np.sum((means[name] - picture(engine, variant, word)) ** 2)) == word
            for variant in unknown
            for word in words
        ]
    assert np.mean(right) > 0.7  # chance 0.25


def test_two_processes_at_once_build_one_set(tmp_path: Path) -> None:
    spec = replace(SMALL, words=("up",))
    code = (
        "import json, sys; from pathlib import Path; from audiossl.data.spoken_words import *\n"
        "fields = json.loads(sys.argv[1]); fields['words'] = tuple(fields['words'])\n"
        "print(ensure(SpokenWords(**fields), Path(sys.argv[2]), progress=False))"
    )
    command = [sys.executable, "-c", code, json.dumps(spoken_words.asdict(spec)), str(tmp_path)]
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(subprocess.run, command, capture_output=True, text=True) for _ in range(2)]
    assert [future.result().returncode for future in done] == [0, 0], done[0].result().stderr
    folders = [path for path in tmp_path.iterdir() if path.suffix != ".lock"]
    assert {future.result().stdout.strip() for future in done} == {str(path) for path in folders}
    assert len(list(folders[0].rglob("*.flac"))) == spec.n_clips


def test_what_is_there_is_not_built_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_words, "_build_apart", lambda *arguments: pytest.fail("built again"))
    assert ensure(SMALL, cache).is_dir()


def test_a_build_that_fails_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    spec = replace(SMALL, words=("no/such/folder",))
    with pytest.raises(UserError, match=r"spoken_words could not be made \(.+\): mend that, or .*--data.root"):
        ensure(spec, tmp_path, progress=False)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def refuse(name: str, *arguments: object, **options: object) -> object:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r'pip install "audiossl-toolkit\[speech\]", or give .*--data.root'):
        open_spoken_words(DataConfig(cache=str(tmp_path)))


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written to .*file.*--data.cache"):
        ensure(SMALL, tmp_path / "file" / "cache", progress=False)


@pytest.mark.parametrize("wrong", [{"words": ()}, {"training": -1}, {"training": 0, "validation": 0, "testing": 0}])
def test_an_empty_specification_is_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="is no data set"):
        SpokenWords(**wrong)


def test_the_engine_checks_voices_and_starts_from_a_long_path(tmp_path: Path, monkeypatch) -> None:
    long = tmp_path / ("x" * 150)
    long.mkdir()
    (long / "espeak-ng-data").symlink_to(espeak.loader().get_data_path())
    monkeypatch.setattr(espeak.loader(), "get_data_path", lambda: str(long / "espeak-ng-data"))
    with closing(espeak.Espeak()) as engine:
        fast, slow = (engine.say("house", "en-us+f3", rate, 50, 50, 100) for rate in (400, 100))
        assert fast.dtype == np.int16
        assert len(slow) > 2 * len(fast) > 0
        with pytest.raises(UserError, match="no voice variant 'nobody'"):
            engine.say("house", "en-us+nobody", 150, 50, 50, 100)
        with pytest.raises(UserError, match="choosing the voice 'martian'"):
            engine.say("house", "martian", 150, 50, 50, 100)
    monkeypatch.setattr(espeak.loader(), "get_data_path", lambda: "/nowhere")
    with pytest.raises(UserError, match=r"does not start with the voices in /nowhere"):
        espeak.Espeak()


def test_noise_has_the_asked_level() -> None:
    random = np.random.default_rng(0)
    word = np.sin(2 * np.pi * 500 / 16000 * np.arange(8000))
    dry = Place(np.ones(N_FFT // 2 + 1))
    for snr_db in (0.0, 20.0):
        heard = dry.record(word, 4000, snr_db, random)
        assert heard.shape == (16000,)
        assert np.abs(heard).max() == 1
        # in the half second without the word there is noise alone
        alone = np.concatenate([heard[:4000], heard[12000:]])
        both = np.mean(heard[4000:12000] ** 2)
        measured_db = 10 * np.log10((both - np.mean(alone**2)) / np.mean(alone**2))
        assert measured_db == pytest.approx(snr_db, abs=1.5)
