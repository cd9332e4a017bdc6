"""Manifests of recordings to embed: tables with a column of paths, relative to the table and inside of its folder."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiossl.data.inside import way_out
from audiossl.errors import UserError
from audiossl.reading import parse_json

MANIFESTS = (".csv", ".tsv", ".jsonl", ".parquet")
PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath")


def listed(manifest: str, outside: bool = False) -> list[str]:
    """Paths that a manifest's column names, each once; those outside of its folder where `outside` allows it.

    Raises `UserError` for a table that cannot be read, has no such column, or names a file outside of its folder.
    """
    rows = _rows(manifest)
    columns = list(rows[0]) if rows else []
    column = next((name for name in PATH_COLUMNS if name in columns), None)
    if column is None:
        has = ", ".join(map(str, columns)) or "none"
        raise UserError(f"{manifest} has no column of paths (it has: {has}): name it {' or '.join(PATH_COLUMNS[:2])}.")
    folder = os.path.dirname(manifest)
    names = [os.path.join(folder, os.path.expanduser(str(row[column]))) for row in rows if row.get(column)]
    names = list(dict.fromkeys(names))  # a table of windows names its file many times
    leaves = way_out(folder or ".")
    if not outside and (out := [name for name in names if leaves(name)]):
        raise UserError(
            f"{manifest} names {len(out)} of {len(names)} files outside of its own folder, such as {out[0]}: mend the "
            "paths, or allow it (--outside, or outside=True)."
        )
    return names


def _rows(manifest: str) -> Sequence[dict[str, Any]]:
    ending = Path(manifest).suffix.lower()
    try:
        if ending == ".parquet":
            return _parquet_rows(manifest)
        with open(manifest, newline="", encoding="utf-8-sig") as file:
            if ending == ".jsonl":
                rows = [parse_json(line) for line in file if line.strip()]
                if odd := [row for row in rows if not isinstance(row, dict)]:
                    raise ValueError(f"a line holds {str(odd[0])[:40]!r} in place of an object with a path")
                return rows
            return list(csv.DictReader(file, delimiter="\t" if ending == ".tsv" else ","))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{manifest} cannot be read as a list of recordings ({error}).") from error


def _parquet_rows(manifest: str) -> list[dict[str, Any]]:
    from pyarrow import parquet

    try:
        known = parquet.read_schema(manifest).names
        columns = [name for name in PATH_COLUMNS if name in known] or known[:1]
        return list(parquet.read_table(manifest, columns=columns).to_pylist())
    except OSError:
        raise
    except Exception as error:  # a damaged file can make its reader trip over anything
        raise ValueError(str(error)) from None
