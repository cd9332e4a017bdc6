"""Weighted nearest neighbours on frozen features: the probe without settings to choose and without training.

The vote is the one of Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination"
(CVPR 2018), which DINO and EsViT use too: cosine similarity, weight exp(similarity / 0.07). k is 20.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiossl.errors import UserError

Array = np.ndarray | Tensor


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

    Shapes: `train_x` (N, D), `train_y` (N,) integers from 0, `x` (M, D); returns (M,) int64. Runs on the
    device of `train_x`, `chunk` rows at a time, so the (M, N) similarities never exist at once. With fewer
    than `k` training rows all of them vote. Of equally similar rows the first ones vote, of equally strong
    labels the first one wins: the answer does not depend on the sorting of a device. Raises `UserError`
    without training rows.

    >>> knn_predict(np.eye(2), np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 3.0]]), k=1)
    array([0, 1])
    """
    base = F.normalize(torch.as_tensor(train_x).float(), dim=1)
    labels = torch.as_tensor(train_y).to(base.device).long()
    if len(base) == 0:
        raise UserError("nearest neighbours need labelled training clips, found none: check the training split.")
    if k < 1 or temperature <= 0:
        raise UserError(f"k must be at least 1 and temperature above 0, found k {k}, temperature {temperature}.")
    k = min(k, len(base))
    classes = int(labels.max()) + 1 if n_classes is None else n_classes
    one_hot = F.one_hot(labels, classes).double()
    queries = torch.as_tensor(x)
    answers = [_vote(part.to(base.device).float(), base, one_hot, k, temperature) for part in queries.split(chunk)]
    return torch.cat(answers).cpu().numpy() if answers else np.zeros(0, dtype=np.int64)


def _vote(part: Tensor, base: Tensor, one_hot: Tensor, k: int, temperature: float) -> Tensor:
    similarity = F.normalize(part, dim=1) @ base.T
    top = similarity.topk(k, dim=1).values
    # topk says which values are in, not which of several equal rows: those are taken in their order here.
    kth = top[:, -1:]
    above, equal = similarity > kth, similarity == kth
    missing = k - above.sum(1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(1) <= missing))
    # Weights relative to the nearest row: the same vote, and exp never leaves the range of floats.
    weights = torch.exp((similarity - top[:, :1]).double() / temperature) * chosen
    return (weights @ one_hot).argmax(1)
