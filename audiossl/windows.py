"""From what a person names to windows of sound: paths, folders, patterns or arrays in, blocks of windows out.

Long files are read in blocks by seeking, a few threads decode ahead, and memory stays bounded whatever the
length.
"""

from __future__ import annotations

import glob
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from audiossl import audio
from audiossl.errors import UserError

# Windows decoded at a time of one file: bounds memory for recordings of any length (64 s of 16 kHz is 4 MB).
BLOCK_WINDOWS = 64
# The rest after the last whole window is left out below this share of a window: rounding and stray
# milliseconds.
SMALLEST_REST = 0.1
_THREADS = min(8, 2 * (os.cpu_count() or 1))  # decoding releases the interpreter's lock


@dataclass(frozen=True)
class Cut:
    """How a recording is cut: windows of `n_samples` every `n_hop` samples, at `sample_rate` Hz."""

    sample_rate: int
    n_samples: int
    n_hop: int

    def n_windows(self, n_total: int) -> int:
        """Windows of a recording of `n_total` samples: at least one; a last short one counts from a tenth on.

        >>> cut = Cut(sample_rate=10, n_samples=100, n_hop=100)
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
        return 1 + whole + (new >= SMALLEST_REST * self.n_samples)


@dataclass
class Item:
    """One input: a path, or a wave in memory with its rate."""

    name: str
    path: str | None = None
    wave: np.ndarray | None = None
    sample_rate: int | None = None


@dataclass
class Block:
    """Neighbouring windows of one input: `windows` (N, S) float32, of which `n_valid` (N,) are sound."""

    windows: np.ndarray
    n_valid: np.ndarray
    n_windows: int  # of the whole input
    n_total: int
    rate_in: int
    peak: float


def find_items(inputs: Any, sample_rate: int | None = None) -> list[Item]:
    """List what `inputs` names, in order; see `featurize`. Raises `UserError` when that is nothing."""
    if isinstance(inputs, (str, os.PathLike)):
        return _from_path(os.fspath(inputs), must_exist=True)
    if _is_array(inputs):
        waves = np.asarray(inputs)
        if waves.ndim not in (1, 2):
            raise UserError(f"inputs is an array of shape {waves.shape}: give (samples,) or (clips, samples).")
        return _from_arrays([waves] if waves.ndim == 1 else list(waves), sample_rate)
    if not isinstance(inputs, Iterable):
        raise UserError(f"inputs is a {type(inputs).__name__}: give paths, folders, patterns or arrays.")
    entries = list(inputs)
    if not entries:
        raise UserError("inputs is an empty list: give at least one recording.")
    if all(isinstance(entry, (str, os.PathLike)) for entry in entries):
        return [item for entry in entries for item in _from_path(os.fspath(entry), must_exist=False)]
    if all(_is_array(entry) for entry in entries):
        return _from_arrays([np.asarray(entry) for entry in entries], sample_rate)
    kinds = sorted({type(entry).__name__ for entry in entries})
    raise UserError(f"inputs holds {', '.join(kinds)}: give a list of paths or a list of arrays.")


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, torch.Tensor))


def _from_path(path: str, must_exist: bool) -> list[Item]:
    if os.path.isdir(path):
        files = [str(file) for file in audio.find_audio(path)]
        if not files:
            suffixes = ", ".join(sorted(audio.AUDIO_SUFFIXES))
            raise UserError(f"{path} holds no audio file: files ending in {suffixes} are looked for.")
        return [Item(name, path=name) for name in files]
    if os.path.lexists(path):
        return [Item(path, path=path)]
    if glob.has_magic(path):
        files = sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name))
        if not files:
            raise UserError(f"{path} matches no file: check the pattern.")
        return [Item(name, path=name) for name in files]
    if must_exist:
        raise UserError(f"{path} does not exist: give a recording, a folder or a pattern.")
    return [Item(path, path=path)]  # in a list one missing file is a row like any other that cannot be read


def _from_arrays(waves: Sequence[np.ndarray], sample_rate: int | None) -> list[Item]:
    if sample_rate is None:
        raise UserError("arrays do not say how fast they were sampled: give sample_rate in Hz.")
    if sample_rate < 1:
        raise UserError(f"sample_rate is {sample_rate}: give the rate of the arrays in Hz, for example 16000.")
    return [Item(f"array[{i}]", wave=wave, sample_rate=int(sample_rate)) for i, wave in enumerate(waves)]


def read_block(item: Item, cut: Cut, block: int = 0) -> Block:
    """Read the `block`-th BLOCK_WINDOWS windows of a file, or all windows of a wave; raises `AudioError`."""
    if item.path is None:
        wave = _resampled(item, cut.sample_rate)
        assert item.sample_rate is not None
        return _block(wave, len(wave), item.sample_rate, cut, cut.n_windows(len(wave)))
    found = audio.info(item.path)
    n_total = max(1, math.ceil(found.n_samples * cut.sample_rate / found.sample_rate))
    start_s = block * BLOCK_WINDOWS * cut.n_hop / cut.sample_rate
    span_s = ((BLOCK_WINDOWS - 1) * cut.n_hop + cut.n_samples) / cut.sample_rate
    wave, rate_in = audio.load(item.path, cut.sample_rate, start_s, span_s)
    n_here = min(BLOCK_WINDOWS, cut.n_windows(n_total) - block * BLOCK_WINDOWS)
    return _block(wave, n_total, rate_in, cut, n_here)


def _block(wave: np.ndarray, n_total: int, rate_in: int, cut: Cut, n_here: int) -> Block:
    parts = [wave[i * cut.n_hop : i * cut.n_hop + cut.n_samples] for i in range(n_here)]
    # An MP3 may be a little shorter than its header says: windows without a sample are left out.
    parts = [part for part in parts if len(part)]
    return Block(
        windows=np.stack([audio.fit_length(part, cut.n_samples) for part in parts]),
        n_valid=np.array([len(part) for part in parts]),
        n_windows=cut.n_windows(n_total),
        n_total=n_total,
        rate_in=rate_in,
        peak=float(np.abs(wave).max(initial=0.0)),
    )


def _resampled(item: Item, sample_rate: int) -> np.ndarray:
    """A wave in memory as float32 at `sample_rate`; raises `AudioError` for what is no sound."""
    wave = item.wave
    assert wave is not None
    assert item.sample_rate is not None
    if wave.ndim != 1 or wave.size == 0:
        raise audio.AudioError(f"{item.name} has shape {wave.shape}: give (samples,) with at least one sample.")
    if wave.dtype == np.int16:
        wave = wave.astype(np.float32) / np.float32(32768)
    elif not np.issubdtype(wave.dtype, np.floating):
        raise audio.AudioError(f"{item.name} holds {wave.dtype} numbers: give floats in [-1, 1] or int16.")
    if not np.isfinite(wave).all():
        raise audio.AudioError(f"{item.name} holds NaN or Inf; repair it or leave it out.")
    return audio.resample(np.ascontiguousarray(wave, dtype=np.float32), item.sample_rate, sample_rate)


def read_blocks(items: list[Item], cut: Cut) -> Iterator[tuple[int, Block | audio.AudioError]]:
    """All blocks of all inputs, in order, decoded a little ahead by a few threads."""

    def attempt(item: Item, block: int) -> Block | audio.AudioError:
        try:
            return read_block(item, cut, block)
        except audio.AudioError as error:
            return error

    pool = ThreadPoolExecutor(_THREADS)
    try:
        waiting: deque[Future[Block | audio.AudioError]] = deque()
        submitted = 0
        for number, item in enumerate(items):
            while submitted < min(len(items), number + 1 + 2 * _THREADS):
                waiting.append(pool.submit(attempt, items[submitted], 0))
                submitted += 1
            found = waiting.popleft().result()
            yield number, found
            if isinstance(found, Block) and len(found.windows) < found.n_windows:
                yield from ((number, block) for block in _rest(pool, attempt, item, found.n_windows))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _rest(
    pool: ThreadPoolExecutor, attempt: Callable[[Item, int], Any], item: Item, n_windows: int
) -> Iterator[Block | audio.AudioError]:
    """The blocks of a long recording after its first one, two ahead, up to the first that cannot be read."""
    blocks = iter(range(1, math.ceil(n_windows / BLOCK_WINDOWS)))
    waiting: deque[Future[Block | audio.AudioError]] = deque()
    while True:
        while len(waiting) < 2 and (block := next(blocks, None)) is not None:
            waiting.append(pool.submit(attempt, item, block))
        if not waiting:
            return
        found = waiting.popleft().result()
        yield found
        if not isinstance(found, Block):
            return
