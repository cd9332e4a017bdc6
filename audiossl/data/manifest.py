"""A CSV file that lists recordings: path, label, split and speaker, one recording a line.

Only the path is needed. Paths are relative to the CSV file, and stay in its folder unless `--data.outside` allows more:
a list that came with recordings shall not read what else is on the machine. Where a line names no split, its speaker
decides, or its file where no speaker is known. With `--data.lists` two lists of paths, as they stand here, decide in
place of that. Long recordings are cut as in a folder.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from audiossl.data.clips import SPLIT_WORDS, Clip, ClipSet, hash_split
from audiossl.data.config import DataConfig
from audiossl.data.folder import cut_recordings, split_by_lists
from audiossl.data.inside import way_out
from audiossl.errors import UserError


def open_manifest(config: DataConfig) -> ClipSet:
    """The recordings that the CSV file `config.root` lists, cut into clips of `config.clip_s`.

    Raises `UserError`, with the line where there is one, for a column that is missing, a file that does not
    exist, is listed twice or lies outside of the CSV file's folder, and a split of an unknown name.
    """
    path = Path(os.path.expanduser(config.root or ""))
    recordings = _read(path, config)
    if config.lists is not None:
        rule, recordings = split_by_lists(recordings, path, config.lists_folder(path.parent))
    else:
        rule, recordings = _split(recordings)
    return ClipSet.of(path.stem, cut_recordings(recordings, config.clip_s), rule)


def _read(path: Path, config: DataConfig) -> list[Clip]:
    recordings: list[Clip] = []
    first_line: dict[str, int] = {}
    leaves = way_out(path.parent)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            columns = _columns(rows.fieldnames or [], path, config)
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                clip = _clip(row, columns, path, where)
                if not config.outside and leaves(clip.source):  # type: ignore[arg-type]
                    raise UserError(
                        f"{where}: {clip.id} lies outside of the folder of {path.name}: mend the path, or allow it "
                        "with --data.outside true."
                    )
                same = first_line.setdefault(os.path.normpath(path.parent / clip.id), rows.line_num)
                if same != rows.line_num:
                    raise UserError(f"{where}: {clip.id} is in line {same} already; remove one of the two.")
                recordings.append(clip)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV file in UTF-8 ({error}).") from error
    if not recordings:
        raise UserError(f"{path} lists no recordings; write one a line below the line of column names.")
    return recordings


def _columns(found: Sequence[str], path: Path, config: DataConfig) -> dict[str, str]:
    """Which of our columns the file has: "path" -> its name there; one named by a flag must exist."""
    usual = {field.name: field.default for field in fields(DataConfig)}
    columns: dict[str, str] = {}
    for what in ("path", "label", "split", "speaker"):
        flag = f"{what}_column"
        name = getattr(config, flag)
        if name in found:
            columns[what] = name
        elif what == "path" or name != usual[flag]:
            has = ", ".join(found) or "none"
            raise UserError(f"{path} has no column {name!r} (it has: {has}); choose one with --data.{flag}.")
    return columns


def _clip(row: dict[str, str | None], columns: dict[str, str], path: Path, where: str) -> Clip:
    cell = {what: (row.get(name) or "").strip() for what, name in columns.items()}
    if not cell["path"]:
        raise UserError(f"{where}: the column {columns['path']!r} is empty; give the path of a recording.")
    source = path.parent / os.path.expanduser(cell["path"])
    if not source.is_file():
        raise UserError(f"{where}: the file {source} does not exist; mend the path or remove the line.")
    split = cell.get("split")
    if split and split.lower() not in SPLIT_WORDS:
        raise UserError(f"{where}: the split is {split!r}; write training, validation or testing.")
    return Clip(
        id=cell["path"],
        source=source,
        label=cell.get("label") or None,
        speaker=cell.get("speaker") or None,
        split=SPLIT_WORDS[split.lower()] if split else None,
    )


def _split(recordings: list[Clip]) -> tuple[str, list[Clip]]:
    """The sentence for `split_rule`, and the recordings with a split for those that have none."""
    without = [clip for clip in recordings if clip.split is None]
    if not without:
        return "as the manifest's column says", recordings
    known = [clip.speaker is not None for clip in without]
    by = "speaker" if all(known) else "speaker, or of the path where a speaker is missing" if any(known) else "path"
    how = f"80/10/10 by the hash of the {by}"
    split = [replace(clip, split=clip.split or hash_split(clip.speaker or clip.id)) for clip in recordings]
    if all(clip.split != "training" for clip in split):
        how = "for training, since they are too few to split"
        split = [replace(clip, split=clip.split or "training") for clip in recordings]
    listed = "" if len(without) == len(recordings) else f"as the manifest's column says, {len(without)} without one "
    return listed + how, split
