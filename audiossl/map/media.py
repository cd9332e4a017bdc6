"""Pictures and sounds of the points, made as they are written: memory holds a block of them at a time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from audiossl.map.points import Points, Wave
from audiossl.map.sounds import MIME, encode_sound, sprite_sheet, thumbnail

WIDTH, HEIGHT = 64, 40  # of a picture, in pixels
ACROSS, EACH = 16, 256  # pictures in a row of a sheet, and in a sheet
SOUNDS = 32  # sounds that a page reads together when the first of them is played
THREADS = min(8, os.cpu_count() or 1)  # encoders release the interpreter's lock
SUFFIX = {"opus": "opus", "flac": "flac", "none": ""}


class Block(NamedTuple):
    """Points from number `first` on: their pictures as one PNG, and the file of each sound, None without one."""

    first: int
    sheet: bytes
    sounds: list[bytes | None]


class Media:
    """Spectrograms and sounds of points; of those whose file cannot be read, `silent` keeps the numbers.

    Args:
        points: whose they are.
        form: opus, flac, or none.
        kept: is given what `blocks` makes, for another writer.
    """

    def __init__(self, points: Points, form: str, kept: Kept | None = None) -> None:
        self.points, self.form, self.suffix = points, form, SUFFIX[form]
        self.silent: list[int] = []
        self._kept = kept

    def blocks(self, progress: Callable[[int], object]) -> Iterator[Block]:
        """Blocks of `EACH` points, the last one of fewer; `progress` is told how many points are done."""
        for start in range(0, len(self.points), EACH):
            waves = [self.points.sound(n) for n in range(start, min(start + EACH, len(self.points)))]
            self.silent += [start + n for n, wave in enumerate(waves) if wave is None]
            tiles = _tiles(waves)
            with ThreadPoolExecutor(THREADS) as pool:
                sounds = list(pool.map(self._encoded, waves))
            if self._kept is not None:
                self._kept.add(tiles, sounds)
            yield Block(start, sprite_sheet(tiles, ACROSS), sounds)
            progress(len(waves))

    def _encoded(self, wave: Wave | None) -> bytes | None:
        if wave is None or self.form == "none":
            return None
        return encode_sound(*wave, cast(Literal["opus", "flac"], self.form))

    def described(self, folder: bool) -> dict[str, Any]:
        """What the page must know to find them."""
        pictures = {"width": WIDTH, "height": HEIGHT, "columns": ACROSS, "each": EACH}
        sounds = {"sounds": self.form != "none", "mime": MIME.get(self.form, ""), "suffix": self.suffix, "each": SOUNDS}
        return {"folder": folder, "pictures": pictures, "silent": self.silent, **sounds}


class Kept:
    """Pictures and sounds in a temporary file, which goes when nobody needs it any more."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115  (closed when it is let go)
        self.places: list[tuple[int, int | None]] = []  # where a picture begins, and the length of the sound behind it

    def add(self, tiles: np.ndarray, sounds: Sequence[bytes | None]) -> None:
        """Keep pictures (n, HEIGHT, WIDTH) and as many sounds."""
        self.file.seek(0, os.SEEK_END)
        for tile, sound in zip(tiles, sounds, strict=True):
            self.places.append((self.file.tell(), None if sound is None else len(sound)))
            self.file.write(tile.tobytes() + (sound or b""))

    def pictures(self) -> Iterator[bytes]:
        """A PNG of each point."""
        for place, _ in self.places:
            tile = np.frombuffer(self._read(place, HEIGHT * WIDTH), np.uint8)
            yield sprite_sheet(tile.reshape(1, HEIGHT, WIDTH), 1)

    def sounds(self) -> Iterator[bytes | None] | None:
        """The file of each sound, None where it cannot be read; none at all where there is not one."""
        if all(length is None for _, length in self.places):
            return None
        return (None if length is None else self._read(place + HEIGHT * WIDTH, length) for place, length in self.places)

    def _read(self, place: int, length: int) -> bytes:
        self.file.seek(place)
        return self.file.read(length)


def _tiles(waves: Sequence[Wave | None]) -> np.ndarray:
    """Pictures (n, height, width) of the waves, those of one rate and length together; black where there is none."""
    tiles = np.zeros((len(waves), HEIGHT, WIDTH), np.uint8)

    def kind(n: int) -> tuple[int, int]:
        wave = waves[n]
        return (0, 0) if wave is None else (wave[1], len(wave[0]))

    for (rate, length), group in groupby(sorted(range(len(waves)), key=kind), key=kind):
        numbers = list(group)
        if length:
            alike = np.stack([cast(Wave, waves[n])[0] for n in numbers])
            tiles[numbers] = thumbnail(alike, rate, WIDTH, HEIGHT)
    return tiles
