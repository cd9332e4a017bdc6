"""From `--data.*` flags to clips: which kind of data set it is, and the function that opens it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from audiossl.data.clips import ClipSet, ClipStream
from audiossl.data.config import DataConfig
from audiossl.errors import UserError


def resolve(config: DataConfig) -> DataConfig:
    """The same settings with the name "auto" replaced by the kind of data set that `root` is.

    Raises `UserError` when a root is needed and missing, or does not exist.
    """
    if config.name == "auto":
        if config.root is None:
            return replace(config, name="spoken_words")
        root = Path(os.path.expanduser(config.root))
        if config.download and not root.exists():
            return replace(config, name="speech_commands")  # the only archive there is to fetch
        _must_exist(root)
        return replace(config, name=_kind(root))
    if config.root is None and config.name in ("folder", "manifest", "hub"):
        what = {"folder": "a folder of audio", "manifest": "a CSV file", "hub": "a data set's name or folder"}
        raise UserError(f"--data.name={config.name} needs --data.root: {what[config.name]}.")
    return config


def _must_exist(root: Path) -> None:
    if not root.exists():
        raise UserError(f"--data.root {root} does not exist; give a folder of audio or a CSV manifest.")


def _kind(root: Path) -> str:
    if root.is_file():
        if root.suffix.lower() == ".csv":
            return "manifest"
        raise UserError(f"--data.root {root} is a file, but no .csv manifest; give a folder of audio or a CSV.")
    from audiossl.data import speech_commands

    return "speech_commands" if speech_commands.looks_like(root) else "folder"


def open_clips(config: DataConfig) -> ClipSet | ClipStream:
    """Open the data set that `config` describes; nothing is decoded yet.

    A hub data set comes as a `ClipStream`, every other as a `ClipSet`; `cache_clips` takes both.
    Raises `UserError` when it cannot be found or makes no sense.
    """
    config = resolve(config)
    if config.name == "hub":
        if config.lists is not None:
            raise UserError(
                "--data.lists splits folders and manifests: leave it out, a hub data set has its own splits."
            )
        from audiossl.data.hub import open_hub

        return open_hub(config)
    return _open_set(config).limited(config.limit)


def _open_set(config: DataConfig) -> ClipSet:
    # Imported late: a run needs one kind, and spoken_words brings its engine along.
    if config.name == "spoken_words":
        from audiossl.data.spoken_words import open_spoken_words

        return open_spoken_words(config)
    if config.name == "speech_commands":
        from audiossl.data.speech_commands import open_speech_commands

        return open_speech_commands(config)
    if config.name == "manifest":
        from audiossl.data.manifest import open_manifest

        return open_manifest(config)
    from audiossl.data.folder import open_folder

    return open_folder(config)
