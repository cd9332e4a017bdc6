"""From recordings to windows of sound, decoded a little ahead by a few threads.

Long files are read in blocks by seeking, so that memory stays bounded whatever their length.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audiossl import audio
from audiossl.data.kept_open import KeptOpen
from audiossl.embed.items import Item

# Windows decoded at a time of one file: bounds memory for recordings of any length (64 s of 16 kHz is 4 MB).
BLOCK_WINDOWS = 64
# A rest below 10 ms after the last whole window (or a tenth of a shorter window) is left out: resampling rounds, and
# nothing is heard in it.
SMALLEST_REST_S, SMALLEST_REST = 0.01, 0.1


@dataclass(frozen=True)
class Cut:
    """How a recording is cut: windows of `n_samples` every `n_hop` samples, at `sample_rate` Hz."""

    sample_rate: int
    n_samples: int
    n_hop: int
    channels: audio.Channels = "mix"

    def n_windows(self, n_total: int) -> int:
        """Windows of a recording of `n_total` samples: at least one, and a last short one for what is left.

        >>> cut = Cut(sample_rate=1000, n_samples=100, n_hop=100)
        >>> [cut.n_windows(n) for n in (1, 100, 109, 110, 200, 250)]
        [1, 1, 1, 2, 2, 3]
        """
        rest = n_total - self.n_samples
        if rest <= 0:
            return 1
        whole = rest // self.n_hop
        # What the next window would hear, and of that what no window has heard yet.
        heard = n_total - (whole + 1) * self.n_hop
        new = min(heard, rest - whole * self.n_hop)
        return 1 + whole + (new >= min(SMALLEST_REST_S * self.sample_rate, SMALLEST_REST * self.n_samples, self.n_hop))


@dataclass
class Block:
    """Neighbouring windows of one recording: `windows` (C, N, S) float32, of which `n_valid` (N,) are sound."""

    windows: np.ndarray
    n_valid: np.ndarray
    n_total: int
    rate_in: int


class Read(NamedTuple):
    """What was read of a recording: a block, or why not; `last` of the recording."""

    item: Item
    found: Block | audio.AudioError
    last: bool


def read_block(item: Item, cut: Cut, block: int = 0, kept: KeptOpen | None = None) -> tuple[Block, int]:
    """Read the `block`-th BLOCK_WINDOWS windows of a file, or all of a wave, and count its blocks.

    `kept` has the files that are open from other blocks. Raises `AudioError`.
    """
    if item.problem is not None:
        raise item.problem
    if item.wave is not None:
        wave = audio.as_wave(item.wave, item.name)
        assert item.sample_rate is not None
        wave = audio.resample(wave, item.sample_rate, cut.sample_rate)
        return _block(wave, len(wave), item.sample_rate, cut, cut.n_windows(len(wave))), 1
    assert item.source is not None
    # A file object has one place to read from; most files have one block, and need not stay open.
    with item.lock, kept.lent(item.source) if kept and block else nullcontext(item.source) as source:
        found = audio.info(source)
        n_total = max(1, math.ceil(found.n_samples * cut.sample_rate / found.sample_rate))
        start_s = block * BLOCK_WINDOWS * cut.n_hop / cut.sample_rate
        span_s = ((BLOCK_WINDOWS - 1) * cut.n_hop + cut.n_samples) / cut.sample_rate
        wave, rate_in = audio.load(source, cut.sample_rate, start_s, span_s, cut.channels)
    n_windows = cut.n_windows(n_total)
    n_here = min(BLOCK_WINDOWS, n_windows - block * BLOCK_WINDOWS)
    return _block(wave, n_total, rate_in, cut, n_here), math.ceil(n_windows / BLOCK_WINDOWS)


def _block(wave: np.ndarray, n_total: int, rate_in: int, cut: Cut, n_here: int) -> Block:
    channels = wave.reshape(-1, wave.shape[-1])
    parts = [channels[:, i * cut.n_hop : i * cut.n_hop + cut.n_samples] for i in range(n_here)]
    # An MP3 may be a little shorter than its header says: windows without a sample are left out.
    parts = [part for part in parts if part.shape[1]]
    windows = [[audio.fit_length(channel, cut.n_samples) for channel in part] for part in parts]
    return Block(
        windows=np.ascontiguousarray(np.array(windows, dtype=np.float32).swapaxes(0, 1)),
        n_valid=np.array([part.shape[1] for part in parts]),
        n_total=n_total,
        rate_in=rate_in,
    )


def read_blocks(items: Iterable[Item], cut: Cut, workers: int = 0) -> Iterator[Read]:
    """All blocks of all recordings, in order; `workers` threads decode ahead (0: two a core, at most 8)."""
    n_threads = workers or min(8, 2 * (os.cpu_count() or 1))  # decoding releases the interpreter's lock

    def attempt(item: Item, block: int) -> tuple[Block | audio.AudioError, int]:
        try:
            return read_block(item, cut, block, kept)
        except audio.AudioError as error:
            return error, 0

    pool, kept = ThreadPoolExecutor(n_threads), KeptOpen()
    try:
        waiting: deque[tuple[Item, Future[tuple[Block | audio.AudioError, int]]]] = deque()
        source = iter(items)
        while True:
            while len(waiting) < 2 * n_threads and (item := next(source, None)) is not None:
                waiting.append((item, pool.submit(attempt, item, 0)))
            if not waiting:
                return
            item, future = waiting.popleft()
            found, n_blocks = future.result()
            yield Read(item, found, last=n_blocks <= 1)
            ahead: deque[Future[tuple[Block | audio.AudioError, int]]] = deque()
            for block in range(1, n_blocks):
                ahead.extend(pool.submit(attempt, item, n) for n in range(block + len(ahead), min(n_blocks, block + 2)))
                found = ahead.popleft().result()[0]
                ended = isinstance(found, audio.AudioError)
                yield Read(item, found, last=ended or block + 1 == n_blocks)
                if ended:
                    break
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        kept.close()
