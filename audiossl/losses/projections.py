"""Projections of patches as EMP-SSL's losses take them: z (P, B, d), rows of length one, in float32.

In bf16 a coding rate is wrong by nats where the clips are much alike, so each step from the projector's output on is
taken in float32, with autocast off.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from audiossl.errors import UserError


def unit_rows(z: Tensor) -> Tensor:
    """Divide the last axis by its Euclidean length, in float32 also under autocast.

    Rows shorter than 1e-12 (torch's bound) are divided by that: a row of zeros stays zero.

    Shape: (..., d) to (..., d), float32, or float64 if that came in.

    >>> unit_rows(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """
    with torch.autocast(z.device.type, enabled=False):
        return functional.normalize(at_least_float32(z), dim=-1, eps=1e-12)


def checked(z: Tensor) -> Tensor:
    """Return projections (P, B, d) in float32, or float64 if they came in it.

    Raises UserError when they have another shape, or none of one of the three.

    >>> checked(torch.zeros(20, 4, 8, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    if z.ndim != 3 or 0 in z.shape:
        raise UserError(f"z has shape {tuple(z.shape)}: give projections (P, B, d) of at least one patch of one clip")
    return at_least_float32(z)


def at_least_float32(z: Tensor) -> Tensor:
    """Half precision as float32, anything wider as it is."""
    return z.to(torch.promote_types(z.dtype, torch.float32))
