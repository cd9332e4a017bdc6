"""The interface of every data set: clips with label, speaker, stable id and split, and sets of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiossl import audio
from audiossl.data.kept_open import KeptOpen
from audiossl.errors import UserError

SPLITS = ("training", "validation", "testing")
# What data sets call their splits -> our three words.
SPLIT_WORDS = {
    **dict.fromkeys(("training", "train"), "training"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "eval"), "validation"),
    **dict.fromkeys(("testing", "test"), "testing"),
}


@dataclass(frozen=True)
class Clip:
    """One clip: where its sound is and what is known about it.

    `source` is a file, or a function that returns the bytes of one; a function may have an attribute
    `fingerprint` that stands for its bytes, so that a cache need not read them to know them. `start_s` and
    `duration_s` choose a part of a long recording. `gain` 0.0 makes digital silence of the source's length.
    """

    id: str
    source: Path | Callable[[], bytes]
    label: str | None = None
    speaker: str | None = None
    split: str | None = None
    start_s: float = 0.0
    duration_s: float | None = None
    gain: float = 1.0

    def wave(self, sample_rate: int, at_most_s: float | None = None, kept: KeptOpen | None = None) -> np.ndarray:
        """The clip's sound, mixed to one channel: float32 (S,) at `sample_rate`, not padded.

        `at_most_s` stops reading after so many seconds; `kept` has the recordings that are open from other clips.
        Raises `AudioError` when the source cannot be read.
        """
        known = [value for value in (self.duration_s, at_most_s) if value is not None]
        given: audio.Source = self.source() if callable(self.source) else self.source
        is_part = self.duration_s is not None
        try:
            with kept.lent(given) if kept and is_part else nullcontext(given) as source:
                wave, _ = audio.load(source, sample_rate, self.start_s, min(known) if known else None)
        except audio.AudioError as error:
            if callable(self.source):
                raise audio.AudioError(f"clip {self.id}: {error}") from error
            raise
        return wave if self.gain == 1.0 else wave * np.float32(self.gain)


@dataclass(frozen=True)
class ClipSet:
    """A named data set: its clips, the sorted names of its labels, and one sentence on how it was split.

    >>> both = ClipSet("pair", (Clip("a", Path("a.wav"), "x", None, "training"),
    ...                         Clip("b", Path("b.wav"), "y", None, "testing")), ("x", "y"), "by hand")
    >>> len(both), both.split("testing")[0].id
    (2, 'b')
    """

    name: str
    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    split_rule: str

    @classmethod
    def of(cls, name: str, clips: Iterable[Clip], split_rule: str) -> ClipSet:
        """A set whose label names are those that occur in `clips`."""
        clips = tuple(clips)
        return cls(name, clips, tuple(sorted({c.label for c in clips if c.label is not None})), split_rule)

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def __getitem__(self, index: int) -> Clip:
        return self.clips[index]

    def split(self, name: str) -> ClipSet:
        """The clips of "training", "validation" or "testing", with the same label names; it may be empty."""
        check_split(name)
        return replace(self, clips=tuple(clip for clip in self.clips if clip.split == name))

    @property
    def speakers(self) -> tuple[str, ...]:
        """Sorted names of the speakers that are known."""
        return tuple(sorted({clip.speaker for clip in self.clips if clip.speaker is not None}))

    def describe(self) -> dict[str, Any]:
        """What belongs beside every score: name, numbers of clips and speakers, labels, split rule."""
        return {
            "name": self.name,
            "clips": len(self),
            "speakers": len(self.speakers),
            "labels": list(self.labels),
            "split_rule": self.split_rule,
        }

    def limited(self, limit: int | None) -> ClipSet:
        """At most `limit` clips, those with the smallest hash of their id, in their old order."""
        if limit is None or limit >= len(self):
            return self
        kept = set(sorted(range(len(self)), key=lambda i: unit_hash(self.clips[i].id))[:limit])
        return replace(self, clips=tuple(clip for i, clip in enumerate(self.clips) if i in kept))


@dataclass(frozen=True)
class ClipStream:
    """Clips that can only be read one after the other and are not counted before; they go into the cache.

    `fingerprint` stands for the content: another content has another fingerprint. `clips` starts a new pass.
    """

    name: str
    clips: Callable[[], Iterator[Clip]]
    split_rule: str
    fingerprint: str

    def __iter__(self) -> Iterator[Clip]:
        return self.clips()


def check_split(name: str) -> None:
    """Raise `UserError` unless `name` is one of the three splits."""
    if name not in SPLITS:
        raise UserError(f"there is no split {name!r}; choose one of {', '.join(SPLITS)}.")


def unit_hash(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone, the same on every machine.

    >>> round(unit_hash("speaker 7"), 3) == round(unit_hash("speaker 7"), 3)
    True
    """
    digest = hashlib.blake2b(os.fsencode(key), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


def hash_split(key: str) -> str:
    """Split by the hash of a speaker's or a file's name: 80 % training, 10 % validation, 10 % testing.

    New files never move old ones to another split.
    """
    place = unit_hash(key)
    return "training" if place < 0.8 else "validation" if place < 0.9 else "testing"
