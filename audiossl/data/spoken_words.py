"""The embedded data set: the 35 words of Speech Commands in many synthetic voices, made on this machine.

A speaker is an accent, a voice variant and a pitch, at a place (room, microphone and noise); the three splits
share no voice variant. As in Speech Commands, pace and melody differ from clip to clip, and the word lies about the
middle of its second, which was cut around the loudest part.

The set is written once, as FLAC files in the Speech Commands layout with the two lists, into the cache
folder. The engine keeps state, so a fresh process says every word in one fixed order: then the same
specification gives the same bytes (`python -m audiossl.data.spoken_words FOLDER SPECIFICATION` is that
process).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from audiossl import audio
from audiossl.data import espeak
from audiossl.data.acoustics import N_SAMPLES, SAMPLE_RATE, Place
from audiossl.data.clips import SPLITS, ClipSet
from audiossl.data.config import LISTS, DataConfig, cache_root
from audiossl.data.speech_commands import open_speech_commands
from audiossl.errors import UserError, errors_for_people

# The words of Speech Commands v0.02 (table 1 of arXiv:1804.03209).
WORDS = (
    *("backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go"),
    *("happy", "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven"),
    *("sheila", "six", "stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero"),
)
ACCENTS = (
    *("en", "en-us", "en-029", "en-us-nyc"),
    *("en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd"),
)
# Counted up with any change of what is written for a specification, so that no old set passes for a new one.
FORMAT = 2
# Word over noise: quiet rooms. In louder ones (8 to 35 dB), and with words anywhere in their second, an encoder of a
# few hundred steps told noises and places apart and not words: it has only so many clips to learn more from.
SNR_DB = (30.0, 50.0)
# How far the middle of a word may lie from the middle of its clip.
JITTER_S = 0.1
RATE_WPM = (100.0, 165.0)  # words of 0.3 to 0.8 s


@dataclass(frozen=True)
class SpokenWords:
    """What to speak: the words, and how many speakers a split has; every speaker says each word once.

    The default makes 35 x (120 + 24 + 24) = 5,880 clips.
    """

    seed: int = 0
    training: int = 120
    validation: int = 24
    testing: int = 24
    words: tuple[str, ...] = WORDS

    def __post_init__(self) -> None:
        if min(self.seed, self.training, self.validation, self.testing) < 0 or self.n_clips == 0:
            raise UserError(f"{self} is no data set: give words, speakers, and no number below 0.")

    @property
    def n_clips(self) -> int:
        """Clips of the whole set."""
        return len(self.words) * (self.training + self.validation + self.testing)


@dataclass(frozen=True)
class Speaker:
    """One synthetic speaker: voice, way of speaking, room and microphone."""

    name: str
    split: str
    voice: str
    pitch: int
    rate_wpm: float
    level_db: float
    place: Place


def open_spoken_words(config: DataConfig, spec: SpokenWords | None = None) -> ClipSet:
    """The set of `spec` (default: 5,880 clips), built in the cache on first use; `config.task` is 35 or 10.

    Raises UserError when `espeakng-loader` is missing or the set cannot be written.
    """
    root = ensure(spec or SpokenWords(), cache_root(config))
    clips = open_speech_commands(replace(config, name="speech_commands", root=str(root), download=False))
    rule = "synthetic speakers whose voice variants are disjoint between the splits"
    if config.lists is not None:
        rule = clips.split_rule
    return replace(clips, name=clips.name.replace("speech_commands", "spoken_words"), split_rule=rule)


def ensure(spec: SpokenWords, cache: Path, progress: bool = True) -> Path:
    """The folder of `spec` under `cache`, written by a fresh process where it is not there yet.

    Two processes may ask at once: the second waits. The folder appears when it is whole.
    """
    espeak.loader()  # says what to install before anything else is tried
    folder = cache / f"spoken_words-{fingerprint(spec)}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                for dead in cache.glob(f"{folder.name}.*.part"):  # of a process that was killed
                    shutil.rmtree(dead, ignore_errors=True)
                staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=cache))
                try:
                    _build_apart(spec, staging, progress)
                    staging.chmod(0o755)
                    os.replace(staging, folder)
                finally:
                    shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"the data set spoken_words cannot be written to {cache} ({error.strerror or error}): "
            "make room there, or choose another folder with --data.cache."
        ) from error
    return folder


def fingerprint(spec: SpokenWords) -> str:
    """Twelve hex digits that stand for the specification, this module's format and the engine's version."""
    what = {**asdict(spec), "format": FORMAT, "engine": metadata.version("espeakng-loader")}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def _build_apart(spec: SpokenWords, folder: Path, progress: bool) -> None:
    """Run `main` in a fresh process, whose engine has said nothing yet, and show how far it is."""
    command = [sys.executable, "-m", "audiossl.data.spoken_words", str(folder), json.dumps(asdict(spec))]
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, text=True) as process,
        tqdm(total=spec.n_clips, desc="speaking spoken_words", unit=" clips", disable=not progress or None) as bar,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            bar.update(int(line))
        if process.wait() != 0:
            complaints.seek(0)
            last = (complaints.read().strip().splitlines() or [f"exit code {process.returncode}"])[-1]
            raise UserError(
                f"the data set spoken_words could not be made ({last.removeprefix('audiossl: error: ')}): "
                "mend that, or give recordings of your own with --data.root."
            )


def build(spec: SpokenWords, folder: Path) -> Iterator[int]:
    """Write the set into `folder`; yields its number of clips after each speaker. For a fresh process."""
    for word in spec.words:
        (folder / word).mkdir()
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    with closing(espeak.Espeak()) as engine:
        for i, speaker in enumerate(cast(spec)):
            for j, word in enumerate(spec.words):
                draw = np.random.default_rng([spec.seed, 1, i, j])
                name = f"{word}/{speaker.name}_nohash_0.flac"
                audio.write(folder / name, record(engine, speaker, word, draw), SAMPLE_RATE)
                lists[speaker.split].append(name)
            yield len(spec.words)
    for split, file_name in LISTS.items():
        (folder / file_name).write_text("".join(f"{name}\n" for name in sorted(lists[split])))
    (folder / "spoken_words.json").write_text(json.dumps(asdict(spec), indent=1) + "\n")


def cast(spec: SpokenWords) -> list[Speaker]:
    """Draw the speakers: voice variants are divided among the splits first, accents and the rest after."""
    draw = np.random.default_rng([spec.seed, 0])
    shares = _variants_by_split(spec, draw)
    speakers: list[Speaker] = []
    for split in SPLITS:
        voices = [(accent, variant) for variant in shares[split] for accent in ACCENTS]
        n = getattr(spec, split)
        rounds = -(-n // len(voices)) if n else 0  # a very large set uses a voice again, at another pitch
        order = [voices[k] for _ in range(rounds) for k in draw.permutation(len(voices))]
        speakers += [_speaker(len(speakers) + k, split, order[k], draw) for k in range(n)]
    return speakers


def _variants_by_split(spec: SpokenWords, draw: np.random.Generator) -> dict[str, list[str]]:
    """Divide the voice variants in proportion to the speakers; variants of one family stay together."""
    families: dict[str, list[str]] = {}
    for variant in espeak.variants():
        # robosoft1 ... robosoft8 are nearly one voice; f1 ... f5 and m1 ... m8 are different people
        families.setdefault(re.sub(r"(?<=\w\w)\d+$", "", variant), []).append(variant)
    names = sorted(families)
    order = [names[k] for k in draw.permutation(len(names))]
    total = spec.training + spec.validation + spec.testing
    shares: dict[str, list[str]] = {split: [] for split in SPLITS}
    begin = 0
    for split in ("testing", "validation", "training"):
        n = getattr(spec, split)
        size = max(1, round(len(order) * n / total)) if n else 0
        end = len(order) if split == "training" else begin + size
        shares[split] = [variant for family in order[begin:end] for variant in families[family]]
        begin = end
    return shares


def _speaker(number: int, split: str, voice: tuple[str, str], draw: np.random.Generator) -> Speaker:
    accent, variant = voice
    pitch = int(draw.integers(20, 81))
    plain = re.sub(r"[^A-Za-z0-9]+", "-", f"{accent}-{variant}")
    return Speaker(
        name=f"{number:04d}-{plain}-p{pitch}",
        split=split,
        voice=f"{accent}+{variant}",
        pitch=pitch,
        rate_wpm=float(draw.uniform(*RATE_WPM)),
        level_db=float(draw.uniform(-18, -4)),
        place=Place.draw(draw),
    )


def record(engine: espeak.Espeak, speaker: Speaker, word: str, draw: np.random.Generator) -> np.ndarray:
    """One clip, int16 (16000,): the word about the middle of its second, at the speaker's place, with noise."""
    rate_wpm = speaker.rate_wpm * draw.uniform(0.85, 1.15)
    pitch = int(np.clip(speaker.pitch + draw.integers(-8, 9), 0, 99))
    melody = int(draw.integers(20, 81))
    spoken = _speak(engine, speaker.voice, word, rate_wpm, pitch, melody)
    start = (N_SAMPLES - len(spoken)) // 2 + round(draw.uniform(-JITTER_S, JITTER_S) * SAMPLE_RATE)
    start = min(max(start, 0), N_SAMPLES - len(spoken))
    heard = speaker.place.record(spoken, start, draw.uniform(*SNR_DB), draw)
    gain_db = speaker.level_db + draw.uniform(-3, 3)
    return audio.to_int16((heard * 10 ** (gain_db / 20)).astype(np.float32))


def _speak(engine: espeak.Espeak, voice: str, word: str, rate_wpm: float, pitch: int, melody: int) -> np.ndarray:
    """The word at 16 kHz without the silence around it; spoken faster when it is too long for its second."""
    for _ in range(3):
        raw = engine.say(word, voice, round(rate_wpm), pitch, melody, volume=100)
        size = np.abs(raw.astype(np.int32))
        loud = np.flatnonzero(size > 0.02 * size.max(initial=1))
        if len(loud) == 0:
            raise UserError(f"the speech engine is silent for {word!r} as {voice}: take other words or seeds.")
        wave = raw[loud[0] : loud[-1] + 1].astype(np.float32) / 32768
        resampled = audio.resample(wave, engine.sample_rate, SAMPLE_RATE)
        if len(resampled) <= 0.9 * N_SAMPLES:
            return resampled
        rate_wpm *= 1.1 * len(resampled) / (0.9 * N_SAMPLES)
    return resampled[:N_SAMPLES]


@errors_for_people
def main() -> None:
    """Build a set in an empty folder; prints the number of clips as they are finished."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("specification", help="the fields of SpokenWords as JSON")
    arguments = parser.parse_args()
    fields = json.loads(arguments.specification)
    for n in build(SpokenWords(**{**fields, "words": tuple(fields["words"])}), arguments.folder):
        print(n, flush=True)


if __name__ == "__main__":
    main()
