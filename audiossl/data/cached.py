"""Clips of one length in a memory-mapped int16 file: what training and probes read."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from audiossl.data.clips import SPLITS, check_split


class Batch(NamedTuple):
    """Raw clips as workers hand them over: `wave` (B, S) int16 and `index` (B,) int64, places in the set."""

    wave: Tensor
    index: Tensor  # type: ignore[assignment]  # a tuple's own method of this name is not needed


class WaveRows:
    """Some rows of a memory-mapped file of int16 clips, indexed like an array (N, S).

    What comes out is a copy. The file is opened anew in every process, since a pickled memory map would carry
    all of it.
    """

    def __init__(self, path: Path, n_rows: int, n_samples: int, rows: np.ndarray | None = None) -> None:
        self.path = path
        self.rows = np.arange(n_rows) if rows is None else rows
        self.shape = (len(self.rows), n_samples)
        self.dtype = np.dtype(np.int16)
        self._file_shape = (n_rows, n_samples)
        self._file: tuple[mmap.mmap, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        which, *samples = key if isinstance(key, tuple) else (key,)
        rows = self.rows[which]
        if rows.size == 0:  # nor is there a map of an empty file
            waves = np.empty((*rows.shape, self._file_shape[1]), np.int16)
        else:
            if self._file is None:
                self._file = self._open()
            announce(self._file[0], rows, 2 * self._file_shape[1])
            waves = self._file[1][rows]
            if rows.ndim == 0:
                waves = waves.copy()  # an array of rows has copied already
        return waves[(slice(None),) * rows.ndim + tuple(samples)]

    def _open(self) -> tuple[mmap.mmap, np.ndarray]:
        with open(self.path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_RANDOM"):
            # Clips are asked for in any order: the system would read their neighbours too, on some machines 8 MB.
            mapped.madvise(mmap.MADV_RANDOM)
        n_rows, n_samples = self._file_shape
        return mapped, np.frombuffer(mapped, np.int16, n_rows * n_samples).reshape(self._file_shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def subset(self, indices: np.ndarray) -> WaveRows:
        """Those of the rows, in the order of `indices`."""
        return WaveRows(self.path, *self._file_shape, self.rows[indices])


def announce(mapped: mmap.mmap, rows: np.ndarray, row_bytes: int) -> None:
    """Let the system fetch all rows at once that are about to be read, and not page after page."""
    if not hasattr(mmap, "MADV_WILLNEED"):
        return
    wanted = np.unique(rows)
    ends = np.flatnonzero(np.diff(wanted) != 1)
    firsts, lasts = wanted[np.r_[0, ends + 1]], wanted[np.r_[ends, -1]]
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        start = first * row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
        mapped.madvise(mmap.MADV_WILLNEED, start, (last + 1) * row_bytes - start)


@dataclass(frozen=True, eq=False)
class CachedClips(Dataset):
    """Clips of `waves.shape[1]` samples at `sample_rate`, with columns that say what each is.

    `waves` (N, S) int16, of which `n_valid` (N,) samples in the middle are sound and the rest padding; `ids`,
    `labels`, `speakers` and `splits` have N entries, None where unknown; `label_ids` (N,) point into
    `label_names`,
    -1 where there is no label. `skipped` lists the clips that could not be read: (id, reason).
    Made by `cache_clips`.
    """

    waves: WaveRows
    n_valid: np.ndarray
    ids: list[str]
    labels: list[str | None]
    speakers: list[str | None]
    splits: list[str | None]
    label_names: tuple[str, ...]
    sample_rate: int
    name: str
    split_rule: str
    skipped: list[tuple[str, str]]
    label_ids: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        number: dict[str | None, int] = {name: i for i, name in enumerate(self.label_names)}
        label_ids = np.array([number.get(label, -1) for label in self.labels], dtype=np.int64)
        object.__setattr__(self, "label_ids", label_ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        return torch.from_numpy(self.waves[index]), index % len(self)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A whole batch in one read; torch's loader asks for this when it exists."""
        places = np.asarray(indices, dtype=np.int64)
        return Batch(torch.from_numpy(self.waves[places]), torch.from_numpy(places))

    @property
    def clip_s(self) -> float:
        """Length of every clip in seconds."""
        return self.waves.shape[1] / self.sample_rate

    def batches(self, size: int) -> Iterator[Batch]:
        """All clips in their order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.__getitems__(range(start, min(start + size, len(self))))

    def split(self, name: str) -> CachedClips:
        """The clips of "training", "validation" or "testing"; it may be empty."""
        check_split(name)
        return self.subset([i for i, split in enumerate(self.splits) if split == name])

    def subset(self, indices: Iterable[int]) -> CachedClips:
        """These clips in this order; their index in a batch is then the place in the subset."""
        places = np.fromiter(indices, dtype=np.int64)
        return replace(
            self,
            waves=self.waves.subset(places),
            n_valid=self.n_valid[places],
            ids=[self.ids[i] for i in places],
            labels=[self.labels[i] for i in places],
            speakers=[self.speakers[i] for i in places],
            splits=[self.splits[i] for i in places],
        )

    def describe(self) -> dict[str, Any]:
        """What belongs beside every score: name, numbers of clips and speakers, labels, split rule."""
        return {
            "name": self.name,
            "clips": len(self),
            "clips_of_split": {split: self.splits.count(split) for split in SPLITS},
            "speakers": len(set(self.speakers) - {None}),
            "labels": list(self.label_names),
            "split_rule": self.split_rule,
            "sample_rate": self.sample_rate,
            "clip_s": self.clip_s,
            "skipped": len(self.skipped),
        }
