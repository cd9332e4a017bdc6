"""Which labels an encoder tells apart: the accuracy of each, and the label that it is most often taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelScore:
    """One label under one probe: test clips that were named rightly, and the most frequent wrong name."""

    label: str
    training_clips: int
    test_clips: int
    right: int
    taken_for: str | None = None
    taken_for_clips: int = 0

    @property
    def accuracy(self) -> float | None:
        """In percent; None for a label without test clips."""
        return 100 * self.right / self.test_clips if self.test_clips else None

    def __str__(self) -> str:
        """Print as "92.3" or "83.3, as left 5": percent, and the clips taken for another label."""
        if self.accuracy is None:
            return "no test clip"
        wrong = f", as {self.taken_for} {self.taken_for_clips}" if self.taken_for else ""
        return f"{self.accuracy:.1f}{wrong}"


def per_class(
    predicted: np.ndarray, truth: np.ndarray, training: np.ndarray, label_names: Sequence[str]
) -> list[LabelScore]:
    """Scores of all labels in their order, from predictions and truth (N,) of the test clips, `training` (M,) labels.

    Of equally frequent wrong names the first one is given.

    >>> scores = per_class(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0, 1, 1]), ["no", "yes"])
    >>> [str(score) for score in scores]
    ['50.0, as yes 1', '100.0']
    """
    n = len(label_names)
    confusion = np.bincount(truth * n + predicted, minlength=n * n).reshape(n, n)
    training_clips = np.bincount(training, minlength=n)
    scores = []
    for i, name in enumerate(label_names):
        wrong = np.where(np.arange(n) == i, 0, confusion[i])
        most = int(wrong.argmax())
        found = (label_names[most], int(wrong[most])) if wrong[most] else (None, 0)
        scores.append(LabelScore(name, int(training_clips[i]), int(confusion[i].sum()), int(confusion[i, i]), *found))
    return scores


def per_class_lines(reports: Mapping[str, Sequence[LabelScore]]) -> list[list[str]]:
    """Heading and one line a label, for a table: clips, then a cell for every probe."""
    columns = list(reports.values())
    head = ["label", "training", "testing", *reports]
    return [head] + [
        [row[0].label, str(row[0].training_clips), str(row[0].test_clips), *map(str, row)]
        for row in zip(*columns, strict=True)
    ]
