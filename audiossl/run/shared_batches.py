"""The batches of a data set shared out among the processes of `accelerate launch`, and put together again.

Whole batches are shared, the same that one process would make, since a network may give a clip other last digits in
a batch of another size: several processes of one kind give bit for bit what one gives. Every process gets all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather, parse_flag_from_env
from torch import Tensor

from audiossl.errors import UserError
from audiossl.probes.features import Embed

T = TypeVar("T")

# The others wait for rank 0 while it fits probes: hours on large sets, where the usual limit is ten minutes.
TIMEOUT = timedelta(days=2)


class SharedBatches:
    """All processes as one `Batches` of `audiossl.probes.features`: each embeds every n-th batch.

    All of them must call it, and with the same numbers, or they wait for each other.
    """

    def __init__(self) -> None:
        # Without `cpu` Accelerate does not see the other processes of a program on CPUs.
        self.state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=TIMEOUT)
        self.rank, self.count = self.state.process_index, self.state.num_processes
        self.device: torch.device = self.state.device

    def __call__(self, embed: Embed, n: int, batch_size: int) -> np.ndarray:
        """Features (n, D) of all rows in order, on every process; raises RuntimeError if a row did not come once."""
        n_batches = -(-n // batch_size)
        features = np.empty((0, 0), dtype=np.float32)
        seen = np.zeros(n, dtype=np.int64)
        for first in range(0, n_batches, self.count):
            # In the last round some have no batch of their own: they repeat the last one, which counts as padding.
            batch = min(first + self.rank, n_batches - 1)
            ids, rows = self._gathered(embed, batch, n, batch_size, is_padding=batch != first + self.rank)
            if first == 0:
                features = np.empty((n, rows.shape[1]), dtype=np.float32)
            features[ids] = rows
            np.add.at(seen, ids, 1)
        if not (seen == 1).all():
            raise RuntimeError(f"{int((seen != 1).sum())} of {n} clips were not embedded exactly once")
        return features

    def _gathered(
        self, embed: Embed, batch: int, n: int, batch_size: int, is_padding: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers and features of this round's batches of all processes, without padding."""
        start = batch * batch_size
        stop = min(start + batch_size, n)
        own = embed(start, stop).to(self.device)
        # Of equal shapes, as a gather needs them; rows without a number are dropped below.
        rows: Tensor = own.new_zeros(batch_size, own.shape[1])
        rows[: len(own)] = own
        ids = torch.full((batch_size,), -1, dtype=torch.long, device=self.device)
        if not is_padding:
            ids[: len(own)] = torch.arange(start, stop, device=self.device)
        all_ids, all_rows = gather(ids), gather(rows)
        kept = all_ids >= 0
        return all_ids[kept].cpu().numpy(), all_rows[kept].cpu().numpy()

    def rank_0_first(self, call: Callable[[], T]) -> T:
        """What `call` gives, on rank 0 before the others: one process fills a cache, the others read it.

        A `UserError` of rank 0 is raised on all of them.
        """
        problem, answer = [""], None
        if self.rank == 0:
            try:
                answer = call()
            except UserError as error:
                problem[0] = str(error)
        broadcast_object_list(problem)
        if problem[0]:
            raise UserError(problem[0])
        return call() if answer is None else answer

    def close(self) -> None:
        """Leave the group of processes."""
        self.state.destroy_process_group()
