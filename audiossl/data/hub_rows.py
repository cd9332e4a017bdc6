"""The sounds of a Hugging Face data set, one after the other, undecoded, each under a name that stays the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from audiossl.data.config import DataConfig
from audiossl.data.hub import RawAudio, from_disk, source_of
from audiossl.errors import UserError


def open_stream(root: str, split: str | None) -> Any:
    """A split of a data set by name or folder, streamed; raises `UserError` when it cannot be had."""
    try:
        if (Path(root) / "state.json").is_file():
            loaded = from_disk(root, split)
        else:
            loaded = datasets.load_dataset(root, split=split, streaming=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"the data set hf:{root} cannot be opened ({reason}); check its name, its split, the network."
        ) from error
    if isinstance(loaded, dict):
        if len(loaded) > 1:
            raise UserError(f"the data set hf:{root} has the splits {', '.join(loaded)}: name one, as hf:{root}:SPLIT.")
        return next(iter(loaded.values()))
    return loaded


def rows(table: Any, rank: int = 0, world: int = 1) -> Iterator[tuple[str, Any]]:
    """Name and audio (a path, bytes, or a decoded dictionary) of the rows that process `rank` of `world` takes.

    Names are those of the row in the whole data set (of a stream: of its shard and the row in it), so that they do not
    depend on the number of processes. Raises `UserError` when there is no column of audio.
    """
    column, raw = _audio_column(table)
    if hasattr(table, "__len__"):
        for number in range(rank, len(raw), world):
            value = raw[number][column]
            yield _named(f"{number:08d}", value)
        return
    n_shards = raw.n_shards
    by_shard = n_shards >= world
    for shard in range(n_shards):
        if by_shard and shard % world != rank:
            continue
        for number, row in enumerate(raw.shard(n_shards, shard) if n_shards > 1 else raw):
            if by_shard or number % world == rank:
                yield _named(f"{shard:05d}-{number:08d}", row[column])


def _named(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, dict) and "array" in value:
        return name, value
    path = value.get("path") if isinstance(value, dict) else None
    source = source_of(value)
    return f"{name}/{os.path.basename(path)}" if path else name, source() if callable(source) else source


def _audio_column(table: Any) -> tuple[str, Any]:
    """The name of the column of audio, and the table with it undecoded."""
    features = table.features or {}
    found = [name for name, feature in features.items() if isinstance(feature, datasets.Audio)]
    if len(found) == 1:
        return found[0], table.cast_column(found[0], RawAudio())
    usual = DataConfig.audio_column
    if not found and (usual in features or not features):  # plain dictionaries of arrays or bytes
        return usual, table
    raise UserError(
        f"the data set has {len(found)} columns of audio ({', '.join(features) or 'no columns'}): keep one, as with "
        "data.select_columns(['audio'])."
    )
