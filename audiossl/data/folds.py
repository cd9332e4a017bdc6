"""Folds: the same clips split several times, so that each group of them is the test once.

A group is a speaker, a recording site, an official fold: what must not stand on both sides. The lists are those of
`--data.lists`.
"""

from __future__ import annotations

import csv
from pathlib import Path

from audiossl.data.clips import ClipSet
from audiossl.data.config import LISTS
from audiossl.errors import UserError

MIN_GROUPS = 3


def fold_lists(clips: ClipSet, by: str, folder: Path) -> list[Path]:
    """Write the lists of every fold, and return their folders, one a group in the order of their names.

    A group's clips are for testing, those of the next group (after the last comes the first) for validation, and the
    rest is for training.

    Args:
        clips: the data set, a folder of audio or Speech Commands.
        by: "speaker", or FILE.csv:COLUMN, a table whose column names each file's group; files are named in any of its
            other columns, by their path below the root or by their name.
        folder: where the folders of the folds go.

    Raises UserError for fewer than three groups, clips without one, and a table that has no such column or names none
    of the clips.
    """
    groups = _speakers(clips) if by == "speaker" else _from_table(clips, by)
    names = sorted(set(groups.values()))
    if len(names) < MIN_GROUPS:
        raise UserError(f"--folds {by} makes {len(names)} groups of the clips: give at least {MIN_GROUPS}.")
    folds = []
    for number, name in enumerate(names):
        fold = folder / f"fold-{name}"
        fold.mkdir(parents=True, exist_ok=True)
        for split, group in (("testing", name), ("validation", names[(number + 1) % len(names)])):
            lines = sorted(_listed_name(id_) for id_, other in groups.items() if other == group)
            (fold / LISTS[split]).write_text("\n".join(lines) + "\n", encoding="utf-8")
        folds.append(fold)
    return folds


def _recordings(clips: ClipSet) -> list[str]:
    """Ids of the recordings, which parts of one recording share."""
    return sorted({clip.id.split("@")[0] for clip in clips})


def _listed_name(recording: str) -> str:
    """A recording as lists name it: Speech Commands has .wav there, whatever the file is."""
    return recording if Path(recording).suffix else f"{recording}.wav"


def _speakers(clips: ClipSet) -> dict[str, str]:
    missing = [clip.id for clip in clips if clip.speaker is None]
    if missing:
        raise UserError(
            f"--folds speaker: {len(missing)} of {len(clips)} clips have no speaker, such as {missing[0]}: give "
            "FILE.csv:COLUMN in its place."
        )
    return {clip.id.split("@")[0]: str(clip.speaker) for clip in clips}


def _from_table(clips: ClipSet, by: str) -> dict[str, str]:
    path, _, column = by.rpartition(":")
    if not path:
        raise UserError(f"--folds is {by!r}: give speaker, or FILE.csv:COLUMN.")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"--folds {path} cannot be read ({error}).") from None
    if not rows or column not in rows[0]:
        known = ", ".join(rows[0]) if rows else "none"
        raise UserError(f"--folds {path} has no column {column!r}; its columns are {known}.")
    group_of = {
        str(value): row[column]
        for row in rows
        for name, value in row.items()
        if name != column and value and row[column]
    }
    recordings = _recordings(clips)
    groups = {id_: group_of.get(id_, group_of.get(Path(id_).name, "")) for id_ in recordings}
    missing = [id_ for id_, group in groups.items() if not group]
    if missing:
        raise UserError(
            f"--folds {path} names no group for {len(missing)} of {len(recordings)} recordings, such as {missing[0]}."
        )
    return groups
