"""The points of a map: what is known of each, and its sound; from clips, or from embeddings and their files."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiossl import audio
from audiossl.data.cached import CachedClips
from audiossl.data.clips import unit_hash
from audiossl.embeddings import printable
from audiossl.errors import UserError

Wave = tuple[np.ndarray, int]  # (S,) int16, and its rate in Hz
CUT = re.compile(r"@[\d.e+]+s$")  # what `audiossl.data.folder.cut` adds to a recording's name
SILENCE_DB = -100.0  # level of a clip of zeros


@dataclass(frozen=True)
class Column:
    """What is known of each point under one name: `texts` with None for nothing, or `numbers` (N,) with NaN."""

    name: str
    texts: Sequence[str | None] | None = None
    numbers: np.ndarray | None = None
    unit: str = ""

    def rows(self, kept: np.ndarray) -> Column:
        """The same for some of the points."""
        texts = None if self.texts is None else [self.texts[row] for row in kept]
        return replace(self, texts=texts, numbers=None if self.numbers is None else self.numbers[kept])


@dataclass(frozen=True)
class Points:
    """N sounds: `names`, `columns`, and `sound`, which gives the wave of a point, or None where it cannot be read.

    `of` says in a few words what they are; `recordings` the file that each is from, where that is not its name.
    """

    names: list[str]
    columns: list[Column]
    sound: Callable[[int], Wave | None]
    of: str
    recordings: Sequence[str] = ()

    def __len__(self) -> int:
        """Count the points."""
        return len(self.names)

    def texts(self, name: str) -> Sequence[str | None] | None:
        """A column of texts, None where there is none."""
        return next((column.texts for column in self.columns if column.name == name), None)

    def rows(self, kept: np.ndarray) -> Points:
        """Some of the points, in the order of `kept`."""
        names, columns = [self.names[row] for row in kept], [column.rows(kept) for column in self.columns]
        recordings = [self.recordings[row] for row in kept] if self.recordings else ()
        return Points(names, columns, lambda n: self.sound(int(kept[n])), self.of, recordings)

    def telling(self) -> Points:
        """The points without columns that say the same of all, but for labels."""
        return replace(
            self, columns=[item for item in self.columns if item.name == "label" or len(_distinct(item)) > 1]
        )


def from_clips(clips: CachedClips, sound_s: float) -> Points:
    """Clips of a data set, of each at most `sound_s` seconds to hear; columns that say the same of all are left out."""

    def sound(row: int) -> Wave:
        wave = _middle(clips.waves[row], int(clips.n_valid[row]))
        return wave[: round(sound_s * clips.sample_rate)], clips.sample_rate

    texts = {"label": clips.labels, "split": clips.splits, "speaker": clips.speakers}
    columns = [Column(name, texts=values) for name, values in texts.items() if any(values)]
    levels = np.array(
        [_level_db(_middle(clips.waves[n], int(clips.n_valid[n]))) for n in range(len(clips))], np.float32
    )
    columns.append(Column("duration", numbers=clips.n_valid.astype(np.float32) / clips.sample_rate, unit="s"))
    columns.append(Column("level", numbers=levels, unit="dB"))
    names = [printable(name) for name in clips.ids]
    return Points(names, columns, sound, clips.name, [CUT.sub("", name) for name in names])


def _middle(wave: np.ndarray, n_valid: int) -> np.ndarray:
    """A clip without the zeros that it was centred in."""
    first = (len(wave) - n_valid) // 2
    return wave[first : first + n_valid]


def _level_db(wave: np.ndarray) -> float:
    power = float(np.mean(np.square(wave.astype(np.float32) / 32768))) if len(wave) else 0.0
    return 10 * math.log10(power) if power > 0 else SILENCE_DB


def from_rows(table: Sequence[Mapping[str, Any]], of: str, sound_s: float) -> Points:
    """Rows of the table that `featurize` wrote, of each at most `sound_s` seconds to hear."""
    whole = len({row["file"] for row in table}) == len(table)

    def name(row: Mapping[str, Any]) -> str:
        channel = f" channel {row['channel']}" if str(row["channel"]).isdigit() else ""
        return printable(f"{row['file']}{channel}" if whole else f"{row['file']}{channel} {row['start_s']:.2f} s")

    def sound(n: int) -> Wave | None:
        row = table[n]
        try:
            wave, rate = audio.load(row["file"], None, row["start_s"], min(sound_s, row["end_s"] - row["start_s"]))
        except audio.AudioError:  # moved since, or never a file
            return None
        return audio.to_int16(wave), rate

    columns = [Column("folder", texts=[Path(str(row["file"])).parent.name or None for row in table])]
    columns.append(Column("status", texts=[str(row["status"]) for row in table]))
    for key, shown, unit in (("start_s", "start", "s"), ("valid_s", "duration", "s"), ("peak_db", "peak", "dB")):
        columns.append(Column(shown, numbers=_numbers([row[key] for row in table]), unit=unit))
    return Points([name(row) for row in table], columns, sound, of, [printable(row["file"]) for row in table])


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float32)


def _distinct(column: Column) -> set[object]:
    return set(column.texts) if column.texts is not None else set(np.unique(np.asarray(column.numbers)).tolist())


def joined(points: Points, path: str) -> Points:
    """The points with further columns of a CSV, matched by its column `file` or `path`.

    A name fits that is a point's own, or else its recording's, or the end of one of them behind a slash. A column whose
    cells are all numbers or empty is one of numbers. Raises UserError for a file that cannot be read, has no such
    column, or names none of the points.
    """
    rows, key = _read_table(path)
    names = {row[key]: row for row in rows if row.get(key)}
    found = [names.get(_known_end(name, names)) for name in points.names]
    if points.recordings:
        of_recordings = [names.get(_known_end(name, names)) for name in points.recordings]
        found = [own or other for own, other in zip(found, of_recordings, strict=True)]
    if not any(found):
        raise UserError(f"--table {path}: none of its {len(rows)} rows names one of the {len(points)} points.")
    new = []
    for column in rows[0]:
        if column in (key, None):
            continue
        cells = [(row.get(column) or "").strip() if row else "" for row in found]
        numbers = [_number(cell) for cell in cells]
        if any(cells) and all(number is not None for number, cell in zip(numbers, cells, strict=True) if cell):
            new.append(Column(column, numbers=_numbers(numbers)))
        else:
            new.append(Column(column, texts=[cell or None for cell in cells]))
    replaced = {column.name for column in new}
    return replace(points, columns=[*new, *(column for column in points.columns if column.name not in replaced)])


def _read_table(path: str) -> tuple[list[dict[str, str]], str]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--table {path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    key = next((name for name in ("file", "path") if rows and name in rows[0]), None)
    if key is None:
        raise UserError(f"--table {path} needs a column file or path, and rows below it.")
    return rows, key


def _known_end(name: str, known: Mapping[str, object]) -> str:
    """The longest end of a path that is known; the path itself where none is."""
    parts = name.split("/")
    return next((end for n in range(len(parts)) if (end := "/".join(parts[n:])) in known), name)


def _number(cell: str) -> float | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return None


def drawn(names: Sequence[str], rows: np.ndarray, limit: int | None) -> np.ndarray:
    """At most `limit` of the rows, by the hash of their names, in their old order."""
    if limit is None or len(rows) <= limit:
        return rows
    return np.sort(np.array(sorted(rows.tolist(), key=lambda row: unit_hash(names[row]))[:limit], dtype=np.int64))
