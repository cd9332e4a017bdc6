"""Few labels: logistic regression on 1, 5, 20 or 100 clips a class, the curve that tells encoders apart.

Each draw takes its clips from the training split, without replacement, from a generator seeded by (draw, n).
The features stay standardised on the whole training split: that needs no labels. C is fixed: whoever has five
labels a class has no labelled validation split to choose it on. 0.03 is the value of the rows we compare
with; on log-mel statistics it lies within three points of the best C at every n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiossl.probes.features import ProbeData, accuracy
from audiossl.probes.logistic import fit_logistic

FEW_LABELS = (1, 5, 20, 100)
FEW_LABELS_C = 0.03


@dataclass(frozen=True)
class FewShotScore:
    """Accuracies of all draws, from 0 to 1."""

    draws: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean test accuracy of the draws."""
        return float(np.mean(self.draws))

    @property
    def std(self) -> float:
        """Sample standard deviation over the draws (0 for one draw)."""
        return float(np.std(self.draws, ddof=1)) if len(self.draws) > 1 else 0.0


def draw_few(y: np.ndarray, n_per_class: int, draw: int) -> np.ndarray:
    """Row numbers of `n_per_class` clips of every class present in `y` (N,), sorted; small classes whole.

    >>> draw_few(np.array([0, 0, 0, 1]), 1, draw=0).tolist()[-1]
    3
    """
    generator = np.random.default_rng([draw, n_per_class])
    rows = [generator.permutation(np.flatnonzero(y == label))[:n_per_class] for label in np.unique(y)]
    return np.sort(np.concatenate(rows))


def few_shot(data: ProbeData, n_per_class: int, n_draws: int = 5, c: float = FEW_LABELS_C) -> FewShotScore:
    """Score `n_per_class` clips a class over `n_draws` draws of the training split."""
    scores = []
    for draw in range(n_draws):
        rows = draw_few(data.train.y, n_per_class, draw)
        model = fit_logistic(data.train.x[rows], data.train.y[rows], c)
        scores.append(accuracy(model.predict(data.test.x), data.test.y))
    return FewShotScore(tuple(scores))


def short_labels(y: np.ndarray, names: Sequence[str], columns: Sequence[str]) -> dict[str, list[str]]:
    """By column, the labels with fewer training clips `y` (N,) than it asks for: every draw uses them whole.

    >>> short_labels(np.array([0, 0, 0, 1]), ["cat", "dog"], ["kNN", "1", "2"])
    {'2': ['dog']}
    """
    counts = np.bincount(y, minlength=len(names))
    asked = {column: int(column) for column in columns if column.isdigit()}
    short = {column: [names[int(i)] for i in np.flatnonzero(counts < n)] for column, n in asked.items()}
    return {column: labels for column, labels in short.items() if labels}
