"""Weighted nearest neighbours on frozen features: the probe without settings to choose and without training.

The vote is the one of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination"
(CVPR 2018), which DINO and EsViT use too: cosine similarity, weight exp(similarity / 0.07). k is 20; EsViT reports
10, 20, 100 and 200, which cost one search here: the neighbours are found once, for the largest k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiossl.errors import UserError

Array = np.ndarray | Tensor
MAX_SIMILARITIES = 2**25  # numbers that exist at once, 128 MiB


def knn_predict(
    train_x: Array,
    train_y: Array,
    x: Array,
    k: int = 20,
    temperature: float = 0.07,
    n_classes: int | None = None,
    chunk: int = 1024,
) -> np.ndarray:
    """Label each row of `x` by the weighted vote of its `k` most similar training rows.

    Shapes: `train_x` (N, D), `train_y` (N,) integers from 0, `x` (M, D); returns (M,) int64. See `knn_rankings`.

    >>> knn_predict(np.eye(2), np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 3.0]]), k=1)
    array([0, 1])
    """
    return knn_rankings(train_x, train_y, x, (k,), 1, temperature, n_classes, chunk)[k][:, 0]


def knn_rankings(
    train_x: Array,
    train_y: Array,
    x: Array,
    ks: Sequence[int],
    n_best: int = 5,
    temperature: float = 0.07,
    n_classes: int | None = None,
    chunk: int = 1024,
) -> dict[int, np.ndarray]:
    """The labels with most votes for each row of `x`, best first, for every k of `ks`.

    Shapes: `train_x` (N, D), `train_y` (N,) integers from 0, `x` (M, D); each value is (M, min(`n_best`, classes))
    int64. Neighbours are searched for on the device of `train_x`, at most `chunk` rows at a time and fewer where N is
    large, so that memory is bounded. With fewer than k training rows all of them vote. Of equally similar rows the
    first ones vote, of equally strong labels the first one wins: the answer does not depend on the sorting of a
    device. Raises `UserError` without training rows, and for a k or a temperature that makes no sense.

    >>> rankings = knn_rankings(np.eye(3), np.array([0, 1, 2]), np.array([[0.1, 0.9, 0.3]]), ks=(1, 3))
    >>> rankings[3].tolist()
    [[1, 2, 0]]
    """
    base = F.normalize(torch.as_tensor(train_x).float(), dim=1)
    labels = torch.as_tensor(train_y).cpu().long()
    if len(base) == 0:
        raise UserError("nearest neighbours need labelled training clips, found none: check the training split.")
    if not ks or min(ks) < 1 or temperature <= 0:
        found = ", ".join(map(str, ks)) or "none"
        raise UserError(f"k must be at least 1 and temperature above 0, found k {found}, temperature {temperature}.")
    classes = int(labels.max()) + 1 if n_classes is None else n_classes
    rows = max(1, min(chunk, MAX_SIMILARITIES // len(base)))
    answers: dict[int, list[Tensor]] = {k: [] for k in ks}
    for part in torch.as_tensor(x).split(rows) if len(x) else ():
        similarity, neighbours = _neighbours(part.to(base.device).float(), base, min(max(ks), len(base)))
        # Weights relative to the nearest row: the same vote, and exp never leaves the range of floats.
        weights = torch.exp((similarity - similarity[:, :1]).double() / temperature)
        for k, answer in answers.items():
            votes = torch.zeros(len(part), classes, dtype=torch.float64)
            votes.scatter_add_(1, labels[neighbours[:, :k]], weights[:, :k])
            answer.append(votes.sort(dim=1, descending=True, stable=True).indices[:, :n_best])
    none = torch.zeros(0, min(n_best, classes), dtype=torch.long)
    return {k: torch.cat([none, *answer]).numpy() for k, answer in answers.items()}


def _neighbours(part: Tensor, base: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Similarities and row numbers (B, k) of the most similar rows, on the CPU; equal ones in their order."""
    similarity = F.normalize(part, dim=1) @ base.T
    top = similarity.topk(min(k + 1, len(base)), dim=1)
    rows = top.indices[:, :k].clone()
    if len(base) > k:
        # topk says which values are in, not which of several equal rows: those are taken in their order here.
        tied = (top.values[:, k - 1] == top.values[:, k]).nonzero()[:, 0]
        if len(tied):
            rows[tied] = _first_of_equals(similarity[tied], top.values[tied, k - 1 : k], k)
    rows = rows.sort(dim=1).values
    ordered = similarity.gather(1, rows).sort(dim=1, descending=True, stable=True)
    return ordered.values.cpu(), rows.gather(1, ordered.indices).cpu()


def _first_of_equals(similarity: Tensor, kth: Tensor, k: int) -> Tensor:
    """Row numbers (B, k) of what lies above the k-th value, and of the first that equal it."""
    above, equal = similarity > kth, similarity == kth
    missing = k - above.sum(1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(1) <= missing))
    return chosen.nonzero()[:, 1].view(len(similarity), k)
