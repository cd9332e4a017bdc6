"""Embeddings of a whole corpus, by one process or many, into a folder that can be gone on with at any time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, gather_object
from tqdm import tqdm

from audiossl.embed.config import EmbedConfig
from audiossl.embed.embedder import far_from_model
from audiossl.embed.rows import RowMaker
from audiossl.embed.shards import ShardWriter, finished, next_attempt, open_corpus
from audiossl.embed.sources import Items, find_all
from audiossl.encoder import load_model
from audiossl.errors import UserError
from audiossl.featurize import describe, ready
from audiossl.run.ranks import Ranks

PATIENCE = timedelta(days=30)  # of a process that is done, for one that has hours of audio left


class Summary(NamedTuple):
    """What a call did, all processes together; wait_percent is the share of time in which devices waited for sound."""

    files: int
    rows: int
    not_read: int
    files_before: int
    seconds: float
    processes: int
    wait_percent: float
    warning: str | None

    @property
    def files_per_second(self) -> float:
        """How many recordings a second."""
        return self.files / max(self.seconds, 1e-9)


def featurize_corpus(
    inputs: Sequence[str],
    model: str,
    out: Path,
    config: EmbedConfig,
    device: str | None = None,
    progress: bool = True,
) -> Summary | None:
    """Embed what `inputs` name into shards of `out`; every process of `accelerate launch` takes its share.

    Recordings that the folder's shards hold are left out, so that a call that was killed is gone on with by giving it
    again, with another number of processes if need be. Returns None in every process but the first.

    Raises `UserError` as `featurize` does, and for a folder of other embeddings.
    """
    accelerator = Accelerator(cpu=device == "cpu", kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
    ranks = Ranks(accelerator)
    with ranks.one_voice():
        items = find_all(inputs, config.outside).once()
        encoder = load_model(model)
    with ready(encoder, config, device or accelerator.device) as maker:
        meta = describe(model, maker)
        del meta["input"]  # known at the end alone
        lock = None
        with ranks.one_voice(rank_0_only=True):
            if ranks.is_main:
                lock = open_corpus(out, inputs, meta, config)
        accelerator.wait_for_everyone()
        with ranks.one_voice():
            done, attempt = finished(out), next_attempt(out)
        accelerator.wait_for_everyone()  # nobody writes while another one still reads what is done
        if config.normalize == "dataset":
            _look_at_all(maker, items, ranks)
        mine = items.without(done).share(ranks.rank, ranks.count)
        own = _write(maker, mine, ShardWriter(out, f"{attempt:03d}-{ranks.rank:04d}", meta), progress and ranks.is_main)
        facts = _facts_of_all(maker, ranks)
    everyone = gather_object([own])
    if lock is None:
        return None
    lock.release()
    n_files, n_rows, n_bad = (sum(one[n] for one in everyone) for n in range(3))
    seconds = max(one[3] for one in everyone)
    waited = sum(one[4] for one in everyone) / max(1e-9, sum(one[3] for one in everyone))
    warning = far_from_model(facts, config.normalize)
    return Summary(n_files, n_rows, n_bad, len(done), seconds, ranks.count, 100 * waited, warning)


def _write(maker: RowMaker, items: Items, writer: ShardWriter, progress: bool) -> tuple[int, int, int, float, float]:
    """Files, rows, files that were not read, seconds, seconds of waiting, of this process."""
    begun, n_files, n_bad = time.monotonic(), 0, 0
    bar = tqdm(total=items.n_known, desc="featurize", unit=" files", disable=None if progress else True)
    with bar, writer:
        for rows in maker.rows(items):
            writer.add(rows)
            bar.update(rows.last)
            n_files += rows.last
            n_bad += rows.problem is not None
    return n_files, writer.n_rows, n_bad, time.monotonic() - begun, maker.waited_s


def _look_at_all(maker: RowMaker, items: Items, ranks: Ranks) -> None:
    """Normalise by the pictures of all recordings, also those that were embedded before."""
    if items.n_known is None:
        raise UserError("normalize 'dataset' reads the recordings twice, and a stream is read once: choose 'model'.")
    maker.look(items.share(ranks.rank, ranks.count))
    maker.embedder.seen.sums = _summed(maker.embedder.seen.sums, ranks)
    maker.embedder.normalize_by_what_was_seen()


def _facts_of_all(maker: RowMaker, ranks: Ranks) -> dict[str, Any]:
    maker.embedder.seen.sums = _summed(maker.embedder.seen.sums, ranks)
    return maker.embedder.facts()


def _summed(sums: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """Sums of all processes; as they were where there is one."""
    return sums if ranks.count == 1 else torch.stack(gather_object([sums])).sum(0)
