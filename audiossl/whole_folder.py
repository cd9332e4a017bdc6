"""Folders that are there whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from audiossl.errors import UserError


@contextmanager
def written_whole(place: Path, own: Collection[str]) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `place` where the block ends without an error.

    An older folder is there until then. What it holds under other names than `own` is kept.
    Raises UserError when the folder cannot be written.
    """
    beside = _free(place, "new")
    try:
        beside.mkdir(parents=True)
        yield beside
        _swap(beside, place, own)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{place} cannot be written: {error}.") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _swap(new: Path, place: Path, own: Collection[str]) -> None:
    """Rename `new` to `place`; an older folder steps aside, hands over what is not its own, and goes."""
    if not place.exists():
        os.replace(new, place)
        return
    old = _free(place, "old")
    os.replace(place, old)
    try:
        os.replace(new, place)
    except OSError:
        os.replace(old, place)
        raise
    for path in old.iterdir():
        if path.name not in own:
            os.replace(path, place / path.name)
    shutil.rmtree(old, ignore_errors=True)


def _free(place: Path, end: str) -> Path:
    """A hidden name beside `place`, of this process alone; what a killed one left under it goes."""
    beside = place.with_name(f".{place.name}.{os.getpid()}.{end}")
    shutil.rmtree(beside, ignore_errors=True)
    return beside
