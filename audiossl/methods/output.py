"""What every method gives to a recipe's loop."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """What a method gives for a batch: the loss to minimise and numbers to log, all scalars on the device."""

    loss: Tensor
    logs: dict[str, Tensor]
