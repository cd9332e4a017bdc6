"""Random numbers of views: drawn on the CPU from one generator, so that every device sees the same views."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


class Draws:
    """Random draws for a batch, from a CPU generator to a device.

    A run gives a generator seeded by seed, epoch, step and rank: a step's views can be drawn again, on any device.
    Only small tensors (numbers per clip) are drawn here; they cross to the device without a synchronisation.

    >>> a = Draws(torch.Generator().manual_seed(1)).uniform(3, low=2.0, high=4.0)
    >>> b = Draws(torch.Generator().manual_seed(1)).uniform(3, low=2.0, high=4.0)
    >>> a.equal(b), bool(((a >= 2) & (a <= 4)).all())
    (True, True)
    """

    def __init__(self, generator: torch.Generator | None = None, device: torch.device | str = "cpu"):
        self.generator = generator
        self.device = torch.device(device)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers spread evenly between `low` and `high`."""
        draws = torch.rand(*shape, generator=self.generator)
        return self._move(draws if (low, high) == (0.0, 1.0) else draws.mul_(high - low).add_(low))

    def normal(self, *shape: int) -> Tensor:
        """Normal numbers of mean 0 and deviation 1."""
        return self._move(torch.randn(*shape, generator=self.generator))

    def log_uniform(self, n: int, low: float, high: float) -> Tensor:
        """Numbers whose logarithms are spread evenly: as often from 1 to 2 as from 2 to 4."""
        return self.uniform(n, low=math.log(low), high=math.log(high)).exp()

    def beta(self, n: int, alpha: float) -> Tensor:
        """Numbers of the Beta distribution (alpha, alpha), drawn by numpy from a seed: torch's takes no generator."""
        seed = int(torch.randint(2**31, (), generator=self.generator))
        return self._move(torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, n)).float())

    def coins(self, n: int, probability: float) -> Tensor:
        """True with a probability, n times."""
        return self.uniform(n) < probability

    def integers(self, *shape: int, below: int) -> Tensor:
        """Whole numbers from 0 to below `below`."""
        return self._move(torch.randint(below, shape, generator=self.generator))

    def permutation(self, n: int) -> Tensor:
        """A random order of n."""
        return self._move(torch.randperm(n, generator=self.generator))

    def _move(self, values: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return values.pin_memory().to(self.device, non_blocking=True)
        return values.to(self.device)
