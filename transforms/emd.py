"""Hilbert spectrum of empirical modes: for looking and comparing, since no other front end here is as slow.

A second of sound takes about 0.2 s of processor time with emd, 4 s with eemd and 10 s with ceemdan at 20 trials (mel:
0.5 ms). The modes are computed on the CPU, clip by clip, in worker processes, and kept under the hash of the clip's
samples: with an unchanged wave every epoch but the first takes them from the cache. See `empirical_modes` for the
arithmetic.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiossl.errors import UserError

from .config import EmdConfig
from .empirical_modes import content_hash, hilbert_picture
from .frontend import FrontEnd, check_at_least, check_band, check_choices
from .picture_cache import FolderCache, MemoryCache, Picture

MEMORY_BYTES = 256 * 2**20  # ten thousand pictures of 64 x 96
FORMAT = 2  # of the pictures in a folder; to be raised when the arithmetic changes
MANY_CLIPS = 8  # from here on, a progress bar


@functools.lru_cache(maxsize=1)
def worker_pool(n_workers: int) -> ProcessPoolExecutor:
    """Processes that stay for all front ends of this process; spawned, since a fork of a threaded process can hang."""
    return ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn"))


class Emd(FrontEnd):
    """Hilbert spectrum of empirical modes: image (B, 1, n_bins, T) of waves (B, S), T = 1 + S // hop_length.

    Unit: squared amplitude times samples, summed in each cell; rows are equally wide in octaves. The picture has no
    gradient: sifting is a loop of comparisons, and the wave is detached. The noise of eemd and ceemdan follows from the
    clip's samples, so that a clip always gives the same picture.

    Raises UserError when EMD-signal is not installed, for f_min = 0, and when a worker process dies or the cache
    cannot be written.
    """

    config: EmdConfig

    def __init__(self, config: EmdConfig):
        check_emd(config)
        octaves = (torch.arange(config.n_bins, dtype=torch.float64) + 0.5) / config.n_bins
        super().__init__(config, config.f_min * (config.f_max / config.f_min) ** octaves)
        self.cache = FolderCache(config.cache) if config.cache else MemoryCache(MEMORY_BYTES)
        self.settings = cache_settings(config)

    @torch.no_grad()
    def transform(self, wave: Tensor) -> Tensor:
        """Energy in every cell, without a gradient."""
        clips = wave.detach().to("cpu", torch.float32).numpy()
        if not np.isfinite(clips).all():  # on a GPU nobody has asked yet
            raise UserError("wave holds NaN or Inf: give finite samples in [-1, 1].")
        keys = [self.key(clip) for clip in clips]
        pictures = {key: picture for key in set(keys) if (picture := self.known(key, wave.shape[1])) is not None}
        missing = {key: clip for key, clip in zip(keys, clips, strict=True) if key not in pictures}
        for key, picture in zip(missing, self.compute(list(missing.values())), strict=True):
            self.cache.put(key, picture)
            pictures[key] = picture
        image = torch.from_numpy(np.stack([pictures[key] for key in keys]))
        return image.unsqueeze(1).to(wave.device, wave.dtype)

    def key(self, clip: npt.NDArray[Any]) -> str:
        """Name of a clip's picture in the cache."""
        return content_hash(np.frombuffer(self.settings + content_hash(clip), dtype=np.uint8)).hex()

    def known(self, key: str, n_samples: int) -> Picture | None:
        """Picture from the cache, if it is there and whole."""
        picture = self.cache.get(key)
        whole = picture is not None and picture.shape == (self.n_bins, self.n_frames(n_samples))
        return picture if whole else None

    def compute(self, clips: list[npt.NDArray[Any]]) -> Iterator[Picture]:
        """Pictures of clips (S,) in their order, as they become ready; a bar in a terminal when there are many."""
        from tqdm import tqdm

        hidden = None if len(clips) >= MANY_CLIPS else True
        picture_of = functools.partial(hilbert_picture, config=self.config)
        # A daemon, such as a worker of a data loader, may have no processes of its own.
        here = self.config.workers == 0 or len(clips) < 2 or multiprocessing.current_process().daemon
        try:
            ready = map(picture_of, clips) if here else worker_pool(self.config.workers).map(picture_of, clips)
            yield from tqdm(ready, self.config.method, len(clips), unit=" clips", leave=False, disable=hidden)
        except BrokenProcessPool as error:
            worker_pool.cache_clear()
            raise UserError(
                f"workers={self.config.workers}: a worker process died, for want of memory or because the program "
                'starts without `if __name__ == "__main__":`; add that, or use workers=0.'
            ) from error

    def temporary_bytes(self, n_samples: int) -> int:
        """Pictures of one clip, twice: a whole batch is one piece for the workers."""
        return 8 * self.n_bins * self.n_frames(n_samples)


def cache_settings(config: EmdConfig) -> bytes:
    """What a picture depends on besides the clip."""
    import PyEMD

    names = ["sample_rate", "hop_length", "n_bins", "f_min", "f_max", "method"]
    if config.method != "emd":
        names += ["trials", "noise"]
    values = {name: getattr(config, name) for name in names}
    return json.dumps([FORMAT, PyEMD.__version__, values], sort_keys=True).encode()


def check_emd(config: EmdConfig) -> None:
    """Raise UserError for settings that cannot work, and when EMD-signal is not installed."""
    check_choices(config, method=("emd", "eemd", "ceemdan"))
    check_at_least(config, 1, "n_bins", "trials")
    check_at_least(config, 0, "noise", "workers")
    check_band(config)
    if config.f_min == 0:
        raise UserError("f_min=0 Hz: rows of equal width in octaves need f_min above 0.")
    if importlib.util.find_spec("PyEMD") is None:
        raise UserError('type=emd needs EMD-signal, which is not installed: pip install "audiossl-toolkit[rare]".')
