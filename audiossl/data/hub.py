"""Hugging Face `datasets`, by name or from a local folder, read row by row straight into the clip cache.

Audio is never decoded by `datasets`, whose decoder (torchcodec) needs an FFmpeg of the right version: rows
hand over the bytes of their files, and `audiossl.audio` reads those. A row has a stable id, its split and its
number.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import datasets

from audiossl.data.clips import Clip, ClipStream, hash_split
from audiossl.data.config import DataConfig
from audiossl.data.folder import cut, duration_by_header
from audiossl.errors import UserError

# These encode their files with torchcodec when they are stored as a table; streamed they need not.
_ONLY_STREAMED = ("audiofolder", "webdataset")
_OUR_SPLITS = {
    "train": "training",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "testing",
}


@dataclass
class RawAudio(datasets.Audio):
    """The `Audio` column without its encoder: a path or the bytes of a file, as they are."""

    decode: bool = False

    def encode_example(self, value: Any) -> dict[str, Any]:
        """Keep a path, bytes, or a dict of both."""
        if isinstance(value, dict):
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        if isinstance(value, (bytes, bytearray)):
            return {"bytes": bytes(value), "path": None}
        return {"bytes": None, "path": os.fspath(value)}


@dataclass(frozen=True)
class _Columns:
    audio: str
    label: str | None
    speaker: str | None


def open_hub(config: DataConfig) -> ClipStream:
    """The rows of a data set on the hub, or of a local folder that `datasets` can read, as a stream of clips.

    Folders written by `save_to_disk`, and of parquet or audio files, are read. With `config.streaming`
    nothing of a remote data set is stored but the cache.
    Raises `UserError` when it cannot be found, or has no column of audio.
    """
    splits, fingerprint = _load(config)
    tables = {name: _raw(table, config) for name, table in splits.items()}
    by_speaker = all(columns.speaker for _, columns in tables.values())
    if len(tables) > 1:
        named = ", ".join(f"{name} is {_our_split(name)}" for name in tables)
        rule = f"the data set's own splits: {named}"
    else:
        rule = f"80/10/10 by the hash of the {'speaker' if by_speaker else 'row'}"

    def clips() -> Iterator[Clip]:
        limit = None if config.limit is None else max(1, config.limit // len(tables))
        for name, (table, columns) in tables.items():
            own = _our_split(name) if len(tables) > 1 else None
            yield from islice(_clips(table, name, own, columns, config), limit)

    name = str(config.root).rstrip("/").removeprefix("./")
    return ClipStream(Path(name).name if os.path.exists(name) else name, clips, rule, fingerprint)


def _load(config: DataConfig) -> tuple[dict[str, Any], str]:
    """Every split of the data set, and what stands for its content."""
    root = os.path.expanduser(str(config.root))
    columns = (config.audio_column, config.label_column, config.speaker_column)
    try:
        if (Path(root) / "state.json").is_file() or (Path(root) / "dataset_dict.json").is_file():
            loaded, version = from_disk(root, config.hub_split), ""
        else:
            builder = datasets.load_dataset_builder(root, config.hub_config)
            version = f"{builder.hash} {builder.config_id}"
            loaded = datasets.load_dataset(
                root,
                config.hub_config,
                split=config.hub_split,
                streaming=config.streaming or builder.name in _ONLY_STREAMED,
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise UserError(
            f"the data set --data.root {config.root} cannot be opened ({reason}); check its name, "
            "--data.hub_config and --data.hub_split, and the network."
        ) from error
    splits = dict(loaded) if isinstance(loaded, dict) else {config.hub_split or "all": loaded}
    stated = repr((root, config.hub_config, config.hub_split, columns, version, _state_of_folder(Path(root))))
    return splits, hashlib.blake2b(stated.encode(errors="surrogateescape"), digest_size=16).hexdigest()


def from_disk(root: str, split: str | None) -> Any:
    """What `save_to_disk` wrote into a folder, or its split by name; raises ValueError for one that is not there."""
    loaded = datasets.load_from_disk(root)
    if not split:
        return loaded
    splits = loaded if isinstance(loaded, dict) else {} if loaded.split is None else {str(loaded.split): loaded}
    if split not in splits:
        raise ValueError(f"it has no split {split!r}, there are: {', '.join(splits) or 'none'}")
    return {split: splits[split]}


def _state_of_folder(root: Path) -> list[tuple[str, int, int, int]]:
    """Sizes and times of the files of a local data set; a remote one has its commit for a version."""
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
    stats = [(path, path.stat()) for path in files]
    return [(str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in stats]


def _raw(table: Any, config: DataConfig) -> tuple[Any, _Columns]:
    """The table with its audio undecoded, and the names of the columns that matter."""
    features = table.features or {}
    chosen = config.audio_column
    if chosen not in features:
        candidates = [name for name, feature in features.items() if isinstance(feature, datasets.Audio)]
        if len(candidates) != 1 or chosen != DataConfig.audio_column:
            has = ", ".join(features) or "none that it declares"
            raise UserError(
                f"the data set {config.root} has no column {chosen!r} (it has: {has}); "
                "choose the one of the audio with --data.audio_column."
            )
        chosen = candidates[0]
    label = _optional(features, config.label_column, DataConfig.label_column, "label_column")
    speaker = _optional(features, config.speaker_column, DataConfig.speaker_column, "speaker_column")
    return table.cast_column(chosen, RawAudio()), _Columns(chosen, label, speaker)


def _optional(features: Any, name: str, usual: str, flag: str) -> str | None:
    """The column if it is there; one that was asked for by its flag has to be."""
    if name in features:
        return name
    if name != usual:
        has = ", ".join(features)
        raise UserError(f"there is no column {name!r} (there are: {has}); choose one with --data.{flag}.")
    return None


def _clips(table: Any, split: str, own: str | None, columns: _Columns, config: DataConfig) -> Iterator[Clip]:
    feature = table.features.get(columns.label) if columns.label else None
    try:
        for number, row in enumerate(table):
            label = row[columns.label] if columns.label else None
            if isinstance(feature, datasets.ClassLabel):
                label = feature.int2str(label) if label is not None and label >= 0 else None
            speaker = row[columns.speaker] if columns.speaker else None
            clip = Clip(
                id=f"{split}/{number:08d}",
                source=source_of(row[columns.audio]),
                label=None if label is None or label == "" or label != label else str(label),  # no label, or NaN
                speaker=None if speaker is None else str(speaker),
            )
            clip = replace(clip, split=own or hash_split(clip.speaker or clip.id))
            yield from cut(clip, duration_by_header(clip), config.clip_s)
    except OSError as error:
        raise UserError(f"reading {config.root} broke off ({error}); try again.") from error


def source_of(value: dict[str, Any] | None) -> Any:
    """A function that returns the bytes of a row's file, or the path of a local one."""
    value = value or {}
    if value.get("bytes") is not None:
        return lambda content=value["bytes"]: content
    path = value.get("path") or ""
    if "://" not in path:
        return Path(path) if path else bytes
    from datasets.utils.file_utils import xopen

    with xopen(path, "rb") as file:
        content = file.read()
    return lambda: content


def _our_split(name: str) -> str:
    """training, validation or testing, by how the name of a data set's split begins; training otherwise."""
    return next((ours for begin, ours in _OUR_SPLITS.items() if name.lower().startswith(begin)), "training")
