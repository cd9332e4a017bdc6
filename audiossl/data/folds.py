"""Folds: the same clips split several times, so that each group of them is for testing once.

A group is a speaker, a recording site, an official fold: what must not stand on both sides of a split. The lists are
those of `--data.lists`.
"""

from __future__ import annotations

import csv
import os
import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from audiossl.audio import AUDIO_SUFFIXES
from audiossl.data.clips import Clip, ClipSet, ClipStream
from audiossl.data.config import LISTS
from audiossl.data.folder import recording_of
from audiossl.errors import UserError

MIN_GROUPS = 3  # one for testing, one for validation, and what is left for training


def fold_lists(clips: ClipSet | ClipStream, by: str, folder: Path) -> list[Path]:
    """Write the lists of every fold, and return their folders, one a group in the order of the groups' names.

    A group's clips are for testing, those of the next group (after the last comes the first) for validation, and the
    rest is for training. All parts of a recording are in one split. Lists that are there already are left alone.

    Args:
        clips: the data set: a folder of audio, Speech Commands' layout, or a manifest.
        by: "speaker", or FILE.csv:COLUMN, a table whose COLUMN has the group of each recording. Any other column may
            name the recordings, by their path in the data set or by the file's name alone; its suffix does not count.
        folder: where the folders of the folds go.

    Raises:
        UserError: fewer than three groups, recordings without one or with two, a table that cannot be read, has no such
            column or names none of the recordings, a data set that is read as a stream, a recording whose name is no
            UTF-8, a folder that is not writable.
    """
    if isinstance(clips, ClipStream):
        raise UserError(f"--folds {by}: {clips.name} is read as a stream: give a folder of audio or a manifest.")
    recordings = {recording_of(clip): clip for clip in clips}
    groups = _speakers(recordings) if by == "speaker" else _from_table(recordings, by)
    if odd := [id_ for id_ in recordings if id_ != id_.encode(errors="replace").decode()]:
        raise UserError(f"--folds {by} cannot list {odd[0]}, whose name is no UTF-8, as lists are: rename the file.")
    names = _sorted(set(groups.values()))
    if len(names) < MIN_GROUPS:
        raise UserError(f"--folds {by} finds {len(names)} groups ({', '.join(names)}): give at least {MIN_GROUPS}.")
    folds = []
    for number, (name, folder_name) in enumerate(zip(names, _folder_names(names), strict=True)):
        splits = {"testing": name, "validation": names[(number + 1) % len(names)]}
        for split, group in splits.items():
            listed = (_listed_name(id_, clip) for id_, clip in recordings.items() if groups[id_] == group)
            _write(folder / folder_name / LISTS[split], sorted(listed))
        folds.append(folder / folder_name)
    return folds


def _speakers(recordings: dict[str, Clip]) -> dict[str, str]:
    """The speaker of each recording, by id."""
    missing = [id_ for id_, clip in recordings.items() if clip.speaker is None]
    if missing:
        raise UserError(
            f"--folds speaker: no speaker is known of {len(missing)} of {len(recordings)} recordings, such as "
            f"{missing[0]}: give FILE.csv:COLUMN in place of speaker."
        )
    return {id_: str(clip.speaker) for id_, clip in recordings.items()}


def _from_table(recordings: dict[str, Clip], by: str) -> dict[str, str]:
    """The group of each recording, by id, as a column of a table has it."""
    path, _, column = by.rpartition(":")
    if not path or not column:
        raise UserError(f"--folds is {by!r}: give speaker, or FILE.csv:COLUMN.")
    found = _found(recordings, _rows(path, column), column)
    if not found:
        raise UserError(
            f"--folds {path} names none of the {len(recordings)} recordings, such as {next(iter(recordings))}: "
            "give a table with a column of their paths."
        )
    missing = [id_ for id_ in recordings if id_ not in found]
    if missing:
        raise UserError(
            f"--folds {by} has no group for {len(missing)} of {len(recordings)} recordings, such as {missing[0]}: "
            "fill the gap, or take the files out of the data set."
        )
    torn = [id_ for id_ in recordings if len(found[id_]) > 1]
    if torn:
        both = " and ".join(_sorted(found[torn[0]])[:2])
        raise UserError(
            f"--folds {by} puts {torn[0]} into both {both}: give one line a recording, with its path in the data set."
        )
    return {id_: next(iter(group)) for id_, group in found.items()}


def _rows(path: str, column: str) -> list[dict[str, str]]:
    """The lines of a table that has this column, without empty cells."""
    try:
        with open(Path(os.path.expanduser(path)), encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or [])
            rows = [{name: (row[name] or "").strip() for name in names} for row in reader]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"--folds {path} cannot be read as a CSV file in UTF-8 ({error}).") from None
    if column not in names:
        has = ", ".join(names) or "none"
        raise UserError(f"--folds {path} has no column {column!r} (it has: {has}): give one of them after the colon.")
    return [{name: cell for name, cell in row.items() if cell} for row in rows]


def _found(recordings: dict[str, Clip], rows: list[dict[str, str]], column: str) -> dict[str, set[str]]:
    """The groups of each recording by the column of the table that names most of them.

    Names without folders count only where no path fits: several folders may have a file of the same name.
    """
    best: dict[str, set[str]] = {}
    for with_folders in (True, False):
        # A dictionary keeps the order of the table's columns, which a set would not.
        for naming in dict.fromkeys(name for row in rows for name in row if name != column):
            groups: dict[str, set[str]] = {}
            for row in rows:
                if naming in row and column in row:
                    groups.setdefault(_key(row[naming], with_folders), set()).add(row[column])
            keys = {id_: _key(id_, with_folders) for id_ in recordings}
            found = {id_: groups[key] for id_, key in keys.items() if key in groups}
            best = max(best, found, key=len)
        if best:
            break
    return best


def _key(name: str, with_folders: bool) -> str:
    """A file's name without the suffix of its format, in which a table and a data set may differ.

    >>> _key("./dog/1-100032_nohash_0.ogg", True), _key("four/v1.2_nohash_0", False)
    ('dog/1-100032_nohash_0', 'v1.2_nohash_0')
    """
    path = PurePosixPath(name)
    if path.suffix.lower() in AUDIO_SUFFIXES:
        path = path.with_suffix("")
    return str(path) if with_folders else path.name


def _listed_name(recording: str, clip: Clip) -> str:
    """A recording as lists name it: with the suffix, which ids of Speech Commands' layout lack."""
    suffix = clip.source.suffix if isinstance(clip.source, Path) else ""
    return recording if recording.endswith(suffix) else recording + suffix


def _sorted(names: Iterable[str]) -> list[str]:
    """Names in their order, numbers in that of their values: fold 10 comes after fold 9."""
    names = sorted(names)
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def _folder_names(names: list[str]) -> list[str]:
    """A folder's name for each group, with numbers where two groups would share one.

    >>> _folder_names(["9", "10"]), _folder_names(["7", "a b", "a/b"])
    (['fold-9', 'fold-10'], ['fold-0-7', 'fold-1-a_b', 'fold-2-a_b'])
    """
    plain = [re.sub(r"[^\w.-]", "_", name) for name in names]
    # Names that differ in case alone are one folder on some file systems.
    unique = len({name.lower() for name in plain}) == len(plain)
    return [f"fold-{name}" if unique else f"fold-{number}-{name}" for number, name in enumerate(plain)]


def _write(path: Path, lines: list[str]) -> None:
    """Write a list, unless the same one is there."""
    content = "".join(f"{line}\n" for line in lines).encode()
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")  # several processes may write the same list
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): make room or choose another folder.") from error
    finally:
        with suppress(OSError):  # only after a failure is there still something to remove
            part.unlink()
