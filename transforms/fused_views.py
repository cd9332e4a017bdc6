"""The views of `TwoViews` in one pass over memory: mixed, cut, resized and faded by a kernel compiled for the CPU.

Torch's own calls (`audiossl.transforms.crop.resample_by` and others) pass over all pictures ten times, and each pass
costs as much as its arithmetic.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .crop import Boxes, taps_by_count
from .lanes import WIDTH
from .mixup import Mixture
from .view_kernel import N_TAPS, make


def make_views(
    image: Tensor,
    mixture: Mixture | None,
    boxes: Boxes,
    line: Tensor,
    size: tuple[int, int],
    most: tuple[int, int],
    mode: str = "bicubic",
) -> Tensor:
    """Mix pictures, bring a box of each to `size` as `resample_boxes` does, and add a line over time.

    Args:
        image: (B, C, F, T), float32 and on the CPU; no gradient flows through.
        mixture: what is mixed into each view, or None.
        boxes: of N views, a multiple of B; view v is one of clip v modulo B.
        line: (N, 1, 1, T').
        size: (F', T') of a view, multiples of 16.
        most: rows and frames of a box at the most.
        mode: bicubic or bilinear.

    Returns (N, C, F', T').

    >>> image, line = torch.arange(12.0).view(1, 1, 3, 4), torch.zeros(1, 1, 1, 16)
    >>> boxes = Boxes(*(torch.tensor([side]) for side in (0, 1, 2, 16)))  # of the first row, from its third frame on
    >>> make_views(image, None, boxes, line, (16, 16), (3, 16))[0, 0, 0, :4].tolist()
    [2.0, 3.0, 0.0, 0.0]
    """
    if size[0] % WIDTH or size[1] % WIDTH:
        raise ValueError(f"sides of views are multiples of {WIDTH}, found {size}")
    n_views = len(line)
    if n_views % len(image):
        raise ValueError(f"{n_views} views are not as many of each of {len(image)} pictures")
    made = image.new_empty(n_views, image.shape[1], *size)
    around = 1.0  # e^0: a picture is 0 beside its last frame
    if mixture is None:  # no shares: nothing is mixed
        around, mixture = 0.0, Mixture(image, image, boxes.row, line.new_empty(0))
    if (missing := WIDTH - image.shape[3]) > 0:
        power, memory = (functional.pad(values, (0, missing), value=around) for values in mixture[:2])
        mixture = mixture._replace(power=power, memory=memory)
    mixture_and_sides = (values.contiguous().numpy() for values in (*mixture, torch.stack(boxes, dim=1)))
    tables = *_four_taps(most[0], size[0], mode), *_four_taps(most[1], size[1], mode)
    make(*mixture_and_sides, *tables, line[:, 0, 0].contiguous().numpy(), made.numpy())
    return made


@lru_cache(maxsize=16)
def _four_taps(most: int, n_wanted: int, mode: str) -> tuple[np.ndarray, np.ndarray]:
    """The table of `taps_by_count`, brought to four taps by some that weigh nothing."""
    taps, weights = taps_by_count(most, n_wanted, mode, "cpu")
    missing = N_TAPS - taps.shape[-1]
    # Side by side lie the first taps of all wanted rows, then the second.
    taps, weights = (functional.pad(values, (0, missing)).mT.contiguous() for values in (taps, weights))
    return taps.numpy(), weights.numpy()
