"""How a cache stands on disk: a folder that is whole or is not there, built by one process while others wait.

A cache is built in a private folder beside and renamed when it is finished. Who builds holds a lock, which the system
takes back when the process dies. Where a file system knows no locks several may build at once: the second to finish
takes what the first has made.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from audiossl.data.cached import CachedClips, WaveRows

WAVES, TABLE = "waves.int16", "table.json"
_ABANDONED_S = 3600.0  # a private folder untouched for so long belongs to a process that was killed


class DamagedError(Exception):
    """A cache that cannot be used: the message says what is wrong with it."""


def open_cache(folder: Path) -> CachedClips | None:
    """The cache in `folder`, or None when there is none; raises `DamagedError` when it is not as it was written."""
    if not os.path.lexists(folder):
        return None
    try:
        checksum, _, table_bytes = (folder / TABLE).read_bytes().partition(b"\n")
        if checksum.decode(errors="replace") != hashlib.blake2b(table_bytes).hexdigest():
            raise DamagedError(f"{TABLE} is not what was written")
        table = json.loads(table_bytes)
        n_rows, n_samples = len(table["ids"]), table.pop("n_samples")
        expected, found = n_rows * n_samples * 2, (folder / WAVES).stat().st_size
        if found != expected:
            raise DamagedError(f"{WAVES} has {found} bytes, not {expected}")
        return CachedClips(
            waves=WaveRows(folder / WAVES, n_rows, n_samples),
            n_valid=np.array(table.pop("n_valid"), dtype=np.int32),
            label_names=tuple(table.pop("label_names")),
            skipped=[(id, reason) for id, reason in table.pop("skipped")],
            **table,
        )
    except OSError as error:
        raise DamagedError(f"{Path(error.filename or folder).name}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{TABLE} is of another version: {error!r}") from error


def write_table(folder: Path, table: dict[str, Any]) -> None:
    """Write what the clips are, behind its own checksum."""
    table_bytes = json.dumps(table).encode()
    with open(folder / TABLE, "wb") as file:
        file.write(hashlib.blake2b(table_bytes).hexdigest().encode() + b"\n" + table_bytes)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def alone(folder: Path, progress: bool) -> Iterator[None]:
    """Keep others from building the same cache, or wait for who does; `progress` says so."""
    path = folder.with_name(f".{folder.name}.lock")
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                print(f"another process builds the cache {folder}: waiting for it.", file=sys.stderr)
            lock.acquire()
    except (OSError, NotImplementedError):
        pass  # no locks here; what cannot be written is said when the cache is
    try:
        yield
    finally:
        # Before others are let in: who waits for a name that is gone finds the cache, or builds it in its own folder.
        with suppress(OSError):
            path.unlink()
        lock.release()


def private_folder(folder: Path) -> Path:
    """A new folder beside, that no other process knows."""
    return Path(tempfile.mkdtemp(prefix=f"{folder.name}.building-", dir=folder.parent))


def publish(private: Path, folder: Path) -> None:
    """Give the finished folder its name, unless another process was first with a whole one."""
    try:
        os.rename(private, folder)
        return
    except OSError:
        if not os.path.lexists(folder):
            raise
    try:
        if open_cache(folder) is not None:
            return
    except DamagedError:
        damaged = private.with_name(f"{private.name}.damaged")  # a name that `remove_abandoned` knows
        os.rename(folder, damaged)
        os.rename(private, folder)
        _remove(damaged)


def remove_abandoned(parent: Path) -> None:
    """Remove what killed processes have left of caches of any data set."""
    for private in parent.glob("*.building-*"):
        with suppress(OSError):  # another process removes it too, or has just finished it
            touched = max(path.stat().st_mtime for path in [private, *private.glob("*")])
            if time.time() - touched > _ABANDONED_S:
                _remove(private)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
