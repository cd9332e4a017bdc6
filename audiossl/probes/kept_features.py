"""Features that are written as they come: a pass over the clips that was interrupted goes on behind its last batch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from audiossl.errors import UserError
from audiossl.probes.feature_file import write_features
from audiossl.probes.features import Batches, Embed

FLOAT_BYTES = 4
LONGEST_HEAD = 100  # bytes: a key of 32 digits and two numbers


class KeptFeatures(dict[str, np.ndarray]):
    """Features (N, D) by name, in a file: each kind is written when it is complete, and batch after batch before.

    Args:
        path: of the .npz file. Beside it lies, as long as a kind is incomplete, `.rows` with the batches so far.
        hashes: of the encoder and of the clips.
        known: what the file holds already.
    """

    def __init__(self, path: str | os.PathLike[str], hashes: tuple[str, str], known: Mapping[str, np.ndarray]):
        super().__init__(known)
        self.path, self.hashes = Path(path), hashes
        self.growing = self.path.with_name(f"{self.path.name}.rows")

    def __setitem__(self, name: str, features: np.ndarray) -> None:
        """Take features, and write the file anew."""
        super().__setitem__(name, features)
        write_features(self.path, self, *self.hashes)
        self.growing.unlink(missing_ok=True)

    def batches(self, name: str) -> Batches:
        """What embeds the clips for `name`, and writes every batch as it comes."""
        key = hashlib.blake2b("\n".join([*self.hashes, name]).encode(), digest_size=16).hexdigest()
        return written_in_order(self.growing, key)


def written_in_order(path: Path, key: str) -> Batches:
    """`in_order`, but the batches go to a file as they come, and those that are there are not embedded again.

    The file is a line with key, batch size and D, and the rows behind it as little-endian float32. Whole batches count:
    a network may give a clip other last digits in a batch of another size. Raises `UserError` where the file cannot be
    written.
    """

    def batches(embed: Embed, n: int, batch_size: int) -> np.ndarray:
        head, dim, n_there = _what_is_there(path, key, batch_size)
        first = n if n_there >= n else n_there // batch_size * batch_size
        for start in range(first, n, batch_size):
            rows = embed(start, min(start + batch_size, n)).cpu().numpy().astype("<f4")
            if start == 0:
                dim = rows.shape[1]
                head = f"{key} {batch_size} {dim}\n".encode()
            try:
                _put(path, head, start * dim * FLOAT_BYTES, rows)
            except OSError as error:
                raise UserError(
                    f"{path} cannot be written ({error.strerror or error}): make room or choose another place."
                ) from error
        return np.fromfile(path, "<f4", n * dim, offset=len(head)).reshape(n, dim).astype(np.float32, copy=False)

    return batches


def _put(path: Path, head: bytes, offset: int, rows: np.ndarray) -> None:
    """Write rows so many bytes behind the head, and nothing behind them; the first ones begin the file anew."""
    with path.open("r+b" if offset else "wb") as file:
        if not offset:
            file.write(head)
        file.seek(len(head) + offset)
        file.truncate()
        file.write(rows.tobytes())


def _what_is_there(path: Path, key: str, batch_size: int) -> tuple[bytes, int, int]:
    """The head of the file, D, and how many whole rows stand in it: none in a file of other features, or damaged."""
    try:
        with path.open("rb") as file:
            head = file.readline(LONGEST_HEAD)
    except OSError:
        return b"", 0, 0
    parts = head.split()
    if len(parts) != 3 or parts[:2] != [key.encode(), b"%d" % batch_size] or not parts[2].isdigit():
        return b"", 0, 0
    dim = int(parts[2])
    return head, dim, (path.stat().st_size - len(head)) // (FLOAT_BYTES * dim) if dim else 0
