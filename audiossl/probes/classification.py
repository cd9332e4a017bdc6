"""What a classifier is worth: accuracy, confusion, scores of each label, and whether it knows when it is sure.

Calibration is the expected calibration error (Naeini et al., 2015; Guo et al., On calibration of modern neural
networks, 2017): clips are binned by the probability of the label that was given, and in each bin the mean probability
is compared with the share that is right. Average precision, for clips of several labels, is scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

N_BINS = 15  # Guo et al.
MOST_CONFUSED = 1000  # labels of a confusion matrix
LARGEST = np.log(4.0)  # of a temperature, and of its inverse
CERTAIN = 1.0 - 1e-6  # the highest threshold


@dataclass(frozen=True)
class LabelScore:
    """One label: clips that have it, and precision, recall, F1 and average precision in percent."""

    label: str
    clips: int
    precision: float
    recall: float
    f1: float
    average_precision: float


@dataclass(frozen=True)
class Classification:
    """Scores of one split; shares in percent.

    accuracy: of clips with all labels right. balanced: mean recall of the labels. map: mean average precision.
    ece: expected calibration error. bins: (mean probability, share right, clips) of each that has clips.
    confusion: (K, K), clips of the row's label that were given the column's; empty for clips of several labels, and for
        more than 1,000 labels.
    """

    clips: int
    accuracy: float
    balanced: float
    map: float
    ece: float
    bins: list[tuple[float, float, int]]
    labels: list[LabelScore]
    confusion: list[list[int]]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def classification(
    probabilities: np.ndarray, table: np.ndarray, names: Sequence[str], multi_label: bool = False
) -> Classification:
    """Score probabilities (N, K) by the labels of `table` (N, K), 0 or 1.

    >>> scores = classification(np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]]), np.eye(2)[[0, 1, 1]], ["a", "b"])
    >>> round(scores.accuracy, 1), scores.confusion
    (66.7, [[1, 0], [1, 1]])
    """
    given = _given(probabilities, multi_label)
    right = (given == table).all(1)
    labels = [_label(name, probabilities[:, k], given[:, k], table[:, k] > 0) for k, name in enumerate(names)]
    # Sureness and success: of the label given, or of every yes and no.
    sure, success = (
        (np.maximum(probabilities, 1 - probabilities).ravel(), (given == table).ravel())
        if multi_label
        else (probabilities.max(1), right)
    )
    ece, bins = calibration(sure, success)
    there = [score for score in labels if score.clips]
    confusion = [] if multi_label or len(names) > MOST_CONFUSED else (table.T @ given).astype(int).tolist()
    return Classification(
        len(table),
        100.0 * float(right.mean()),
        float(np.mean([score.recall for score in there])),
        float(np.mean([score.average_precision for score in there])),
        ece,
        bins,
        labels,
        confusion,
    )


def _given(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """Table (N, K) of the labels that are given: the likeliest, or all of at least one half."""
    if multi_label:
        return (probabilities >= 0.5).astype(np.float32)
    given = np.zeros(probabilities.shape, np.float32)
    given[np.arange(len(given)), probabilities.argmax(1)] = 1.0
    return given


def _label(name: str, probability: np.ndarray, given: np.ndarray, true: np.ndarray) -> LabelScore:
    from sklearn.metrics import average_precision_score

    hits, n_given, n_true = float((given * true).sum()), float(given.sum()), int(true.sum())
    precision, recall = hits / n_given if n_given else 0.0, hits / n_true if n_true else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    ap = float(average_precision_score(true, probability)) if n_true else 0.0
    return LabelScore(name, n_true, *(100.0 * value for value in (precision, recall, f1, ap)))


def calibration(sure: np.ndarray, right: np.ndarray) -> tuple[float, list[tuple[float, float, int]]]:
    """Expected calibration error in percent, and the bins that have clips: mean probability, share right, clips.

    >>> calibration(np.array([0.95, 0.95, 0.55]), np.array([True, False, True]))[0]  # (2 x 0.45 + 0.45) / 3
    45.0
    """
    which = np.minimum((sure * N_BINS).astype(int), N_BINS - 1)
    bins = []
    for number in np.unique(which):
        here = which == number
        bins.append((float(sure[here].mean()), float(np.mean(right[here])), int(here.sum())))
    error = sum(count * abs(mean - share) for mean, share, count in bins) / len(sure)
    return round(100.0 * error, 9), bins


def temperature(scores: np.ndarray, table: np.ndarray, multi_label: bool = False) -> float:
    """What scores (N, K) are to be divided by so that their probabilities fit the labels of `table` (N, K) best.

    Guo et al. (2017): one number, found on validation clips, which changes no decision. It lies between 1/4 and
    4: where all clips are named rightly, the best would be 0.

    >>> sure = np.array([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    >>> t = temperature(sure, np.eye(2)[[0, 0, 0, 1]])
    >>> round(float(1 / (1 + np.exp(-3 / t))), 2)  # three of four are right
    0.75
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return cross_entropy(scores / np.exp(log_t), table, multi_label)

    return float(np.exp(minimize_scalar(loss, bounds=(-LARGEST, LARGEST), method="bounded").x))


def cross_entropy(scores: np.ndarray, table: np.ndarray, multi_label: bool = False) -> float:
    """Mean loss of scores (N, K) by the labels of `table` (N, K).

    >>> round(cross_entropy(np.zeros((2, 4)), np.eye(4)[:2]), 4)  # ln 4
    1.3863
    """
    if multi_label:
        return float(np.mean(np.logaddexp(0.0, scores) - table * scores))
    top = scores.max(1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(scores - top).sum(1))
    return float(np.mean(log_sum - (scores * table).sum(1)))


def sure_enough(probabilities: np.ndarray, table: np.ndarray, keep: float) -> float:
    """Probability that a share `keep` of the rightly named clips reach: a threshold for "unknown".

    Of probabilities (N, K) and a table (N, K) of one label a clip. 0 when no clip is named rightly.

    >>> sure_enough(np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]), np.eye(2)[[0, 0, 0]], keep=1.0)
    0.7
    """
    right = probabilities.argmax(1) == table.argmax(1)
    if not right.any():
        return 0.0
    return min(CERTAIN, float(np.quantile(probabilities.max(1)[right], 1.0 - keep, method="lower")))


def worst_errors(probabilities: np.ndarray, table: np.ndarray, n: int) -> list[int]:
    """Row numbers of the `n` clips whose true labels were found least likely, the worst first, of those that are wrong.

    >>> worst_errors(np.array([[0.9, 0.1], [0.1, 0.9], [0.4, 0.6]]), np.eye(2)[[0, 0, 0]], 5)
    [1, 2]
    """
    multi_label = bool((table.sum(1) != 1).any())
    wrong = np.flatnonzero((_given(probabilities, multi_label) != table).any(1))
    sure = np.where(table > 0, probabilities, 1 - probabilities).min(1)
    return wrong[np.argsort(sure[wrong], kind="stable")][:n].tolist()
