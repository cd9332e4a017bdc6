"""A folder of embeddings that grows shard by shard and outlives whoever writes it.

A shard is a Parquet file that is written beside its place and renamed into it at the end of a recording: what the
folder holds is whole, whenever the writer dies, and a recording is in one shard or in none.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from audiossl.embed.config import EmbedConfig
from audiossl.embed.rows import Rows
from audiossl.embeddings import SHARD, FeaturizeResult, written
from audiossl.errors import UserError
from audiossl.reading import read_json

SETTINGS, LOCK = "featurize.json", ".lock"
SHARD_ROWS, SHARD_S = 8192, 30.0  # a shard is closed after so many rows or seconds: at most that is done again
GROUP_ROWS = 1024  # are written at a time, as one of Parquet's groups of rows


def open_corpus(out: Path, inputs: Sequence[str], meta: dict[str, Any], config: EmbedConfig) -> FileLock:
    """Make the folder, or go on in it where model, settings and inputs are the same, and perhaps more inputs.

    Returns the lock that keeps other calls out until it is released, or its process ends.
    Raises `UserError` for a folder of anything else, and one that another call is writing.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder, or a name that ends in .parquet, .npz or .csv.")
    known = out / SETTINGS
    if known.is_file():
        _refuse_others(known, inputs, meta, config)
    elif out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
        raise UserError(f"{out} holds files but no {SETTINGS} of embeddings: choose another folder.")
    facts = {name: meta[name] for name in ("model", "model_sha256", "encoder")} | {"inputs": list(inputs)}
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK, blocking=False)
        lock.acquire()
        for part in out.glob(f".{SHARD}*.part"):  # of a writer that was killed
            part.unlink()
    except Timeout:
        raise UserError(f"{out} is being written by another call: wait for it, or choose another folder.") from None
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}): choose another folder.") from error
    with written(known) as part:
        part.write_text(json.dumps({**facts, "settings": asdict(config)}, indent=1, default=str) + "\n", "utf-8")
    return lock


def _refuse_others(known: Path, inputs: Sequence[str], meta: dict[str, Any], config: EmbedConfig) -> None:
    try:
        before = read_json(known)
        if not isinstance(before["settings"], dict):
            raise ValueError("it holds no settings")
        other = config.differences(before["settings"])
        same_encoder = before["encoder"] == json.loads(json.dumps(meta["encoder"], default=str))
        if before["model_sha256"] != meta["model_sha256"] or not same_encoder:
            other.insert(0, "model")
        other += ["input"] if set(before["inputs"]) - set(inputs) else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{known} cannot be read ({error}): choose another folder.") from error
    if other:
        raise UserError(f"{known.parent} holds embeddings with another {' and '.join(other)}: choose another folder.")


def finished(out: Path) -> frozenset[str]:
    """Names of the recordings that the folder's shards hold, those among them whose rows say why they were not read."""
    from pyarrow import parquet

    names: set[str] = set()
    for shard in sorted(out.glob(f"{SHARD}*.parquet")):
        try:
            names.update(parquet.read_table(shard, columns=["file"])["file"].unique().to_pylist())
        except Exception as error:  # a damaged file can make its reader trip over anything
            raise UserError(
                f"{shard} cannot be read ({error}): remove it, and its recordings are done again."
            ) from error
    return frozenset(names)


def next_attempt(out: Path) -> int:
    """Number of this writing, one above those that left shards."""
    numbers = [shard.name.removeprefix(SHARD).split("-")[0] for shard in out.glob(f"{SHARD}*.parquet")]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)


class ShardWriter:
    """Write rows as they come: a context manager that closes its last shard when all went well.

    Args:
        out: the folder.
        prefix: of this writer's shards, as no other writer has it.
        meta: kept in every shard.
    """

    def __init__(self, out: Path, prefix: str, meta: dict[str, Any]) -> None:
        self.out, self.prefix, self.meta = out, prefix, meta
        self.n_shards = self.n_rows = 0
        self._writer: Any = None
        self._part = Path()
        self._waiting: list[Rows] = []
        self._begun, self._here = time.monotonic(), 0

    def __enter__(self) -> ShardWriter:
        """Begin."""
        return self

    def add(self, rows: Rows) -> None:
        """Take rows; at the end of a recording the shard may be closed."""
        self._waiting.append(rows)
        if sum(len(some.table) for some in self._waiting) >= GROUP_ROWS:
            self._write()
        old = time.monotonic() - self._begun >= SHARD_S
        if rows.last and (old or self._here >= SHARD_ROWS):
            self.close()

    def _write(self) -> None:
        from pyarrow import parquet

        table = [row for rows in self._waiting for row in rows.table]
        if not table:
            return
        vectors = np.concatenate([rows.embeddings for rows in self._waiting])
        self._waiting.clear()
        arrow = FeaturizeResult(vectors, table, self.meta).to_arrow()
        with self._naming_the_folder():
            if self._writer is None:
                self._part = self.out / f".{SHARD}{self.prefix}-{self.n_shards:05d}.part"
                self._writer = parquet.ParquetWriter(self._part, arrow.schema)
            self._writer.write_table(arrow)
        self._here += len(table)

    @contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise UserError(
                f"{self.out} cannot be written ({reason}): mend that and give the command again."
            ) from error

    def close(self) -> None:
        """Write what waits, and give the shard its name."""
        self._write()
        if self._writer is not None:
            with self._naming_the_folder():
                self._writer.close()
                os.replace(self._part, self.out / f"{SHARD}{self.prefix}-{self.n_shards:05d}.parquet")
            self.n_shards, self.n_rows, self._writer = self.n_shards + 1, self.n_rows + self._here, None
        self._begun, self._here = time.monotonic(), 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the last shard; after an error it may end within a recording, and is left out."""
        if kind is None:
            self.close()
        elif self._writer is not None:
            self._writer.close()
            self._part.unlink(missing_ok=True)
