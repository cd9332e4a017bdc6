"""Pooling: from the regions of a picture (B, P, D) on their grid (F', T') to one vector a clip.

Time and frequency mean different things in a spectrogram: a word is an order of events, a sound's height is a
place on the frequency axis. "mean" forgets both, as EsViT does; the others keep one of them. Sum of mean and
maximum over time: BYOL-A (Niizumi et al., 2021), which found it better than either. A ViT may give its class
token in place of its regions, as DINO and EsViT do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audiossl.errors import UserError

POOLS = ("mean", "mean_max", "freq_mean", "time_mean", "class_token")
TIME_SEGMENTS = 3  # of "time_mean": begin, middle and end of a clip


def segment_means(x: Tensor, n: int) -> Tensor:
    """Means (B, n, D) of n even segments of a sequence (B, L, D); they overlap where n does not divide L.

    >>> segment_means(torch.tensor([[[0.0], [1.0], [2.0], [3.0]]]), 2).flatten().tolist()
    [0.5, 2.5]
    """
    length = x.shape[1]
    bounds = [(i * length // n, ((i + 1) * length + n - 1) // n) for i in range(n)]
    return torch.stack([x[:, start:end].mean(1) for start, end in bounds], dim=1)


def check_pool(pool: str) -> None:
    """Raise UserError when there is no pooling of this name."""
    if pool not in POOLS:
        raise UserError(f"pool={pool!r} is unknown: choose one of {', '.join(POOLS)}.")


def pooled_dim(pool: str, dim: int, n_rows: int) -> int:
    """Length of the pooled vector for regions of `dim` numbers, of a picture with F' = `n_rows`."""
    return dim * {"freq_mean": n_rows, "time_mean": TIME_SEGMENTS}.get(pool, 1)


def pool_patches(patches: Tensor, grid: tuple[int, int], pool: str, n_rows: int) -> Tensor:
    """Pool regions (B, P, D), row-major on the grid (F', T'), to features (B, `pooled_dim`).

    "mean": over all regions.
    "mean_max": mean plus maximum over all regions.
    "freq_mean": mean plus maximum over time for every row, rows side by side; a picture with another
        number of rows than `n_rows` (a crop in frequency) is first averaged to `n_rows`.
    "time_mean": mean over frequency, then three segments of time side by side, for pictures of any length.
    "class_token" is no pooling of regions: the backbone gives the token that its network kept beside them.
    """
    if pool == "mean":
        return patches.mean(1)
    if pool == "mean_max":
        return patches.mean(1) + patches.amax(1)
    cells = patches.unflatten(1, grid)  # (B, F', T', D)
    if pool == "time_mean":
        return segment_means(cells.mean(1), TIME_SEGMENTS).flatten(1)
    rows = cells.mean(2) + cells.amax(2)  # (B, F', D)
    return (rows if grid[0] == n_rows else segment_means(rows, n_rows)).flatten(1)
