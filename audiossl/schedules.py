"""Schedules: pure functions of the global optimiser step, so resuming needs no state and processes cannot disagree.

Learning rate, weight decay, teacher momentum and teacher temperature as in DINO (Caron et al., 2021) and EsViT (Li et
al., 2022); there the temperature moves once an epoch, here once a step.
"""

from __future__ import annotations

import math


def cosine(step: int, total_steps: int, start: float, end: float) -> float:
    """Half a cosine from `start` at step 0 to `end` at the last step; constant where there is but one step.

    >>> [round(cosine(step, 5, 1.0, 0.0), 3) for step in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    if total_steps <= 1:
        return start
    progress = min(max(step / (total_steps - 1), 0.0), 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


def warmup_cosine(step: int, total_steps: int, warmup_steps: int, peak: float, end: float) -> float:
    """Linear rise to `peak` over `warmup_steps`, then half a cosine to `end` at the last step.

    The first step already moves: it has `peak / warmup_steps`. A warm-up longer than the run is cut to the run.

    >>> [round(warmup_cosine(step, 6, 2, 1.0, 0.0), 3) for step in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.25, 0.0]
    """
    warmup_steps = min(warmup_steps, total_steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return cosine(step - warmup_steps, total_steps - warmup_steps, peak, end)


def linear_warmup(step: int, warmup_steps: int, start: float, end: float) -> float:
    """Linear from `start` at step 0 to `end` at `warmup_steps`, constant afterwards.

    >>> [linear_warmup(step, 2, 0.04, 0.08) for step in range(4)]
    [0.04, 0.06, 0.08, 0.08]
    """
    if step >= warmup_steps:
        return end
    return start + (end - start) * step / warmup_steps
