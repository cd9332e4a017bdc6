"""Keep pictures that took long to compute: in memory up to a size, or in a folder that several processes share."""

from __future__ import annotations

import os
import uuid
from collections import OrderedDict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audiossl.errors import UserError

Picture = npt.NDArray[np.float32]


class MemoryCache:
    """The pictures that were used last, at most `limit_bytes` of them.

    >>> cache = MemoryCache(limit_bytes=8)
    >>> for key in ("a", "b", "c"):
    ...     cache.put(key, np.zeros((1, 1), dtype=np.float32))
    >>> [cache.get(key) is None for key in ("a", "b", "c")]
    [True, False, False]
    """

    def __init__(self, limit_bytes: int):
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.pictures: OrderedDict[str, Picture] = OrderedDict()

    def get(self, key: str) -> Picture | None:
        """The picture of that key, or None."""
        if key in self.pictures:
            self.pictures.move_to_end(key)
        return self.pictures.get(key)

    def put(self, key: str, picture: Picture) -> None:
        """Keep a picture, and forget those that were not used for longest."""
        self.used_bytes += picture.nbytes - (self.pictures[key].nbytes if key in self.pictures else 0)
        self.pictures[key] = picture
        self.pictures.move_to_end(key)
        while self.used_bytes > self.limit_bytes:
            self.used_bytes -= self.pictures.popitem(last=False)[1].nbytes


class FolderCache:
    """Pictures as files `ab/abcdef....npy` below a folder, one a key; a damaged file counts as missing.

    A file is written beside and then renamed: another process sees all of it or nothing.
    Raises UserError when the folder cannot be written.
    """

    def __init__(self, folder: str):
        self.folder = Path(os.path.expanduser(folder))

    def place(self, key: str) -> Path:
        """File of a key."""
        return self.folder / key[:2] / f"{key}.npy"

    def get(self, key: str) -> Picture | None:
        """The picture of that key, or None."""
        try:
            picture = np.load(self.place(key), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return picture if isinstance(picture, np.ndarray) and picture.dtype == np.float32 else None

    def put(self, key: str, picture: Picture) -> None:
        """Write a picture."""
        place = self.place(key)
        beside = place.with_suffix(f".{uuid.uuid4().hex}.part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(beside, "wb") as file:
                np.save(file, picture)
            os.replace(beside, place)
        except OSError as error:
            raise UserError(f"cache={self.folder} cannot be written ({error}): give another folder.") from error
        finally:
            # Only after a failure is there still something to remove.
            if beside.exists():
                beside.unlink()
