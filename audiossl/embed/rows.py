"""From recordings to rows: windows of all recordings share the batches, and rows come in the order of the inputs."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from audiossl import audio
from audiossl.embed.embedder import Embedder
from audiossl.embed.items import Item
from audiossl.embed.windows import Block, Cut, Read, read_blocks

CHUNK_ROWS = 4096  # of a long recording that are handed on before it is over
FULL_SCALE, CLIPPED_SHARE = 0.9999, 0.001  # so many samples at full scale are no accident
# Float files and resampling overshoot full scale a little; far above it the samples are no waves in [-1, 1].
LOUD = 4.0


class Rows(NamedTuple):
    """Neighbouring rows of one recording; `last`: it has no more. `problem`: why it, or its rest, was not read."""

    name: str
    table: list[dict[str, Any]]
    embeddings: np.ndarray
    last: bool
    problem: str | None


class Sound(NamedTuple):
    """What a window sounds like: samples of sound, peak, samples at full scale."""

    n_valid: int
    peak: float
    n_clipped: int


@dataclass
class _Pool:
    """One channel of a recording: windows that were embedded, or their sums alone at the level of clips."""

    channel: str
    n_windows: int = 0
    n_valid: int = 0
    peak: float = 0.0
    n_clipped: int = 0
    total: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0
    largest: np.ndarray | float = -math.inf
    rows: deque[tuple[int, np.ndarray, Sound]] = field(default_factory=deque)

    def add(self, embedding: np.ndarray, sound: Sound, keep: bool) -> None:
        """Take the embedding (D,), or frames (T', D), of the channel's next window."""
        if keep:
            self.rows.append((self.n_windows, embedding, sound))
        else:
            x = embedding.astype(np.float64)
            self.total = self.total + x * sound.n_valid
            self.squares = self.squares + x**2 * sound.n_valid
            self.largest = np.maximum(self.largest, x)
        self.n_windows += 1
        self.n_valid += sound.n_valid
        self.peak = max(self.peak, sound.peak)
        self.n_clipped += sound.n_clipped

    def pooled(self, pool: str) -> np.ndarray:
        """One vector of all windows, weighted by how much sound each holds."""
        mean, largest = np.asarray(self.total) / self.n_valid, np.asarray(self.largest)
        if pool == "max":
            return largest
        if pool == "mean_max":
            return mean + largest
        if pool == "mean_std":
            variance = np.asarray(self.squares) / self.n_valid - mean**2
            return np.concatenate([mean, np.sqrt(np.maximum(variance, 0.0))])
        return mean


@dataclass
class _Recording:
    """One input while its windows pass through the encoder."""

    item: Item
    pools: list[_Pool] = field(default_factory=list)
    n_total: int = 0
    rate_in: int | None = None
    n_pending: int = 0
    read: bool = False  # to its end, or to where it broke
    problem: str | None = None


class RowMaker:
    """Turn recordings into rows with one encoder.

    Attributes: dim of a row; waited_s, how long the device waited for sound.

    Args:
        embedder: of windows.
        cut: into windows.
    """

    def __init__(self, embedder: Embedder, cut: Cut) -> None:
        self.embedder, self.cut, self.config = embedder, cut, embedder.config
        self.dim = embedder.dim * (2 if self.config.pool == "mean_std" else 1)
        self.waited_s = 0.0
        self._windows: deque[tuple[_Recording, _Pool, np.ndarray, Sound]] = deque()

    def rows(self, items: Iterable[Item]) -> Iterator[Rows]:
        """Embed recordings; raises `AudioError` for the first that cannot be read where errors are "raise"."""
        running: deque[_Recording] = deque()
        for read in self._timed(read_blocks(items, self.cut, self.config.workers)):
            if not running or running[-1].read:
                running.append(_Recording(read.item))
            self._take(running[-1], read)
            while len(self._windows) >= self.config.batch_size:
                self._embed(self.config.batch_size)
            yield from self._finished(running)
        while self._windows:
            self._embed(min(len(self._windows), self.config.batch_size))
        yield from self._finished(running)

    def look(self, items: Iterable[Item]) -> None:
        """Measure the statistics of all pictures, which takes one reading of the recordings."""
        for read in read_blocks(items, self.cut, self.config.workers):
            if isinstance(read.found, Block):
                for channel in read.found.windows:
                    self.embedder.look(torch.from_numpy(channel), torch.from_numpy(read.found.n_valid))

    def _timed(self, reads: Iterator[Read]) -> Iterator[Read]:
        while True:
            asked = time.monotonic()
            read = next(reads, None)
            self.waited_s += time.monotonic() - asked
            if read is None:
                return
            yield read

    def _take(self, recording: _Recording, read: Read) -> None:
        recording.read = read.last
        if isinstance(read.found, audio.AudioError):
            if self.config.errors == "raise":
                raise read.found
            recording.problem = str(read.found)
            return
        block = read.found
        recording.n_total, recording.rate_in = block.n_total, block.rate_in
        if not recording.pools:
            names = (
                [str(n) for n in range(len(block.windows))] if self.config.channels == "each" else [self.cut.channels]
            )
            recording.pools = [_Pool(name) for name in names]
        for n, n_valid in enumerate(block.n_valid):
            for pool, windows in zip(recording.pools, block.windows, strict=True):
                level = np.abs(windows[n])
                sound = Sound(int(n_valid), float(level.max()), int((level >= FULL_SCALE).sum()))
                self._windows.append((recording, pool, windows[n], sound))
                recording.n_pending += 1

    def _embed(self, n: int) -> None:
        taken = [self._windows.popleft() for _ in range(n)]
        batch = torch.from_numpy(np.stack([window for _, _, window, _ in taken]))
        n_valid = torch.tensor([sound.n_valid for *_, sound in taken])
        embeddings = self.embedder(batch, n_valid).numpy()
        for (recording, pool, _, sound), embedding in zip(taken, embeddings, strict=True):
            pool.add(embedding, sound, keep=self.config.level != "clip")
            recording.n_pending -= 1

    def _finished(self, running: deque[_Recording]) -> Iterator[Rows]:
        """Rows of the recordings at the front that are over, and of a long one that has many."""
        while running:
            first = running[0]
            over = first.read and not first.n_pending
            if not over and sum(len(pool.rows) for pool in first.pools) < CHUNK_ROWS:
                return
            yield self._rows_of(first, over)
            if not over:
                return
            running.popleft()

    def _rows_of(self, recording: _Recording, over: bool) -> Rows:
        made = list(self._kept(recording))
        if self.config.level == "clip" and over and recording.problem is None:
            made = [self._clip(recording, pool) for pool in recording.pools]
        bad = [row["file"] for row, vector in made if not np.isfinite(vector).all()]
        if bad and recording.problem is None:
            recording.problem = f"{recording.item.name}: the encoder gives values that are not finite."
            made = [(row, vector) for row, vector in made if np.isfinite(vector).all()]
        if recording.problem is not None and over and self.config.errors == "record":
            made.append((_row(recording, None, None, None, None, None, "error", recording.problem), self._nothing()))
        table = [row for row, _ in made]
        vectors = np.array([vector for _, vector in made], dtype=np.float32).reshape(len(made), self.dim)
        return Rows(recording.item.name, table, vectors, over, recording.problem if over else None)

    def _nothing(self) -> np.ndarray:
        return np.full(self.dim, np.nan, dtype=np.float32)

    def _clip(self, recording: _Recording, pool: _Pool) -> tuple[dict[str, Any], np.ndarray]:
        length_s = recording.n_total / self.cut.sample_rate
        status = _status(pool.n_valid, pool.peak, pool.n_clipped)
        return _row(recording, pool, 0.0, length_s, length_s, pool.peak, *status), pool.pooled(self.config.pool)

    def _kept(self, recording: _Recording) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Rows of windows or frames, in the order of time, the channels of a window one after the other."""
        n_ready = min((len(pool.rows) for pool in recording.pools), default=0)
        for _ in range(n_ready):
            for pool in recording.pools:
                number, embedding, sound = pool.rows.popleft()
                start_s = number * self.cut.n_hop / self.cut.sample_rate
                status = _status(*sound)
                if self.config.level == "frame":
                    yield from self._frames(recording, pool, start_s, embedding, sound, status)
                    continue
                if sound.n_valid < self.cut.n_samples and status[0] == "ok":
                    status = ("padded", status[1])
                end_s = start_s + self.cut.n_samples / self.cut.sample_rate
                valid_s = sound.n_valid / self.cut.sample_rate
                yield _row(recording, pool, start_s, end_s, valid_s, sound.peak, *status), embedding

    def _frames(
        self,
        recording: _Recording,
        pool: _Pool,
        window_s: float,
        frames: np.ndarray,
        sound: Sound,
        status: tuple[str, str],
    ) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        edges = self.embedder.frame_edges_s(self.cut.n_samples, len(frames)).tolist()
        before_s = (self.cut.n_samples - sound.n_valid) // 2 / self.cut.sample_rate
        length_s = sound.n_valid / self.cut.sample_rate
        spans = [(max(0.0, a - before_s), min(length_s, b - before_s)) for a, b in pairwise(edges)]
        for (start_s, end_s), frame in zip(spans, frames, strict=True):
            if end_s > start_s:
                row = _row(recording, pool, window_s + start_s, window_s + end_s, end_s - start_s, sound.peak, *status)
                yield row, frame


def _row(
    recording: _Recording,
    pool: _Pool | None,
    start_s: float | None,
    end_s: float | None,
    valid_s: float | None,
    peak: float | None,
    status: str,
    message: str,
) -> dict[str, Any]:
    return {
        "file": recording.item.name,
        "channel": None if pool is None else pool.channel,
        "start_s": start_s,
        "end_s": end_s,
        "valid_s": valid_s,
        "sample_rate_in": recording.rate_in,
        "peak_db": round(20 * math.log10(peak), 2) if peak else None,
        "status": status,
        "message": message,
    }


def _status(n_valid: int, peak: float, n_clipped: int) -> tuple[str, str]:
    if peak == 0:
        return "silent", "all samples are zero"
    loud = f"samples reach {peak:.4g} where full scale is 1" if peak > LOUD else ""
    if n_clipped > CLIPPED_SHARE * n_valid:
        share = f"{100 * n_clipped / n_valid:.2g} % of the samples are at full scale"
        return "clipped", loud or share
    return "ok", loud
