"""The processes of a run among themselves: what they agree on, and which of them speaks."""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator, Mapping

# Imported before there is a group: its functions have the group of that moment as a default argument, and would keep
# it for ever (DistributedDataParallel imports it at the latest).
import torch.distributed.nn.functional
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from audiossl.errors import UserError
from audiossl.run.lost_process import say_lost_processes


class Ranks:
    """All processes of a run; every method but `one_voice` is to be called by all of them, or they hang."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.rank, self.count = accelerator.process_index, accelerator.num_processes
        self.is_main = accelerator.is_main_process
        if self.count > 1:
            say_lost_processes(self.rank, self.count)
        if self.count > 1 and accelerator.device.type == "cpu":
            atexit.unregister(_leave_group)  # one program may hold several runs
            atexit.register(_leave_group)

    def largest(self, number: int) -> int:
        """The largest of all ranks' numbers; with several ranks they wait for each other and their devices."""
        if self.count == 1:
            return number
        numbers = torch.tensor([number], device=self.accelerator.device)
        return int(self.accelerator.gather(numbers).max())

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Means over all ranks, by name."""
        if self.count == 1 or not values:
            return dict(values)
        numbers = torch.tensor(list(values.values()), device=self.accelerator.device)
        return dict(zip(values, self.accelerator.reduce(numbers, "mean").tolist(), strict=True))

    @contextlib.contextmanager
    def one_voice(self, rank_0_only: bool = False) -> Iterator[None]:
        """Let rank 0 alone say a `UserError`; the others end with exit code 2 in silence.

        Args:
            rank_0_only: only rank 0 can meet the error, so it tells the others.
        """
        problem = [""]
        try:
            yield
        except UserError as error:
            problem[0] = str(error)
        if rank_0_only and self.count > 1:
            broadcast_object_list(problem)
        if problem[0] and self.is_main:
            raise UserError(problem[0])
        if problem[0]:
            raise SystemExit(2)


def _leave_group() -> None:
    """Leave the group of processes, and wait for its threads, while Python still stands.

    Gloo's threads would otherwise be torn down with the interpreter, which now and then ends a finished process in
    "terminate called without an active exception" and exit code -6. They end with the last that holds the group, so
    models that a cycle still keeps go first. NCCL's end by themselves, and to leave it waits for the other processes,
    which may have died.
    """
    gc.collect()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
