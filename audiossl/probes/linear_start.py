"""The linear layer that reads an encoder best as it is: where fine-tuning begins.

Kumar et al. (Fine-tuning can distort pretrained features, 2022): a network that is tuned under a random head first
bends towards the head's accidents; one that begins with the fitted head keeps what it knows. The head is fitted
exactly, by logistic regression on the features of whole clips, its strength chosen on validation clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audiossl.probes.classification import cross_entropy
from audiossl.probes.features import mean_and_scale
from audiossl.probes.logistic import C_GRID, fit_logistic

FEW_C = 0.03  # where there are no validation clips to choose it on: that of the few-label probes
ABSENT = -10.0  # score of a label without a training clip, where the others lie around 0


class LinearStart(NamedTuple):
    """Weight (K, D) and bias (K,) over features as they are, and the strength C."""

    weight: np.ndarray
    bias: np.ndarray
    c: float


def linear_start(
    x: np.ndarray,
    table: np.ndarray,
    validation_x: np.ndarray,
    validation_table: np.ndarray,
    multi_label: bool = False,
    c_grid: Sequence[float] = C_GRID,
) -> LinearStart:
    """Fit features `x` (N, D) to the labels of `table` (N, K), 0 or 1, one of them a row unless `multi_label`.

    The strength is the one with the smallest loss on the validation clips, 0.03 where there are none.

    >>> start = linear_start(np.array([[0.0], [1.0]]), np.eye(2), np.empty((0, 1)), np.empty((0, 2)))
    >>> (start.weight.ravel() > 0).tolist(), start.c
    ([False, True], 0.03)
    """
    mean, std = mean_and_scale(x)
    x, validation_x = (x - mean) / std, (validation_x - mean) / std
    grid = c_grid if len(validation_x) else (FEW_C,)
    fits = [_fit(x, table, c, multi_label) for c in grid]
    losses = (
        [cross_entropy(validation_x @ w.T + b, validation_table, multi_label) for w, b in fits]
        if len(grid) > 1
        else [0.0]
    )
    best = int(np.argmin(losses))
    weight, bias = fits[best]
    # The regression sees standardised features; a layer of a network sees them as they are, and learns at their scale.
    return LinearStart(weight / std, bias - weight @ (mean / std), grid[best])


def _fit(x: np.ndarray, table: np.ndarray, c: float, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
    n_classes = table.shape[1]
    weight, bias = np.zeros((n_classes, x.shape[1])), np.full(n_classes, ABSENT)
    if multi_label:
        for k in range(n_classes):
            if len(np.unique(table[:, k])) == 2:
                model = fit_logistic(x, table[:, k].astype(int), c)
                weight[k], bias[k] = model.coef_[0], model.intercept_[0]
            elif table[:, k].any():
                bias[k] = -ABSENT
        return weight, bias
    y = table.argmax(1)
    model = fit_logistic(x, y, c)
    if len(model.classes_) == 2:  # one row stands for both
        coef, intercept = (np.concatenate([-part, part]) / 2 for part in (model.coef_, model.intercept_))
    else:
        coef, intercept = model.coef_, model.intercept_
    weight[model.classes_], bias[model.classes_] = coef, intercept
    return weight, bias
