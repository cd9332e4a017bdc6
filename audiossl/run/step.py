"""A micro-batch's place in a run."""

from __future__ import annotations

import dataclasses

import torch


@dataclasses.dataclass(frozen=True)
class Step:
    """One micro-batch of the loop."""

    index: int  # the optimiser step that it belongs to, from 0, over all epochs: schedules follow it
    epoch: int  # from 0
    position: int  # micro-batch in the epoch, from 0
    generator: torch.Generator  # on the CPU, seeded by (seed, epoch, position, rank): views are drawn from it
