"""Scores of a classifier against plain formulas and scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from audiossl.probes.classification import (
    N_BINS,
    calibration,
    classification,
    cross_entropy,
    sure_enough,
    temperature,
    worst_errors,
)

NAMES = ["a", "b", "c", "d"]


@pytest.fixture
def some():
    """Probabilities of 60 clips, half right, and the table of their labels; nothing is a "d"."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 60)
    scores = random.normal(size=(60, 4)) + 2 * np.eye(4)[y] * random.integers(0, 2, (60, 1))
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return probabilities, np.eye(4)[y], y


def test_one_label_a_clip_is_scikit_learn_s(some):
    probabilities, table, y = some
    given = probabilities.argmax(1)
    found = classification(probabilities, table, NAMES)
    assert found.accuracy == pytest.approx(100 * metrics.accuracy_score(y, given))
    assert found.confusion == metrics.confusion_matrix(y, given, labels=range(4)).tolist()
    expected = metrics.precision_recall_fscore_support(y, given, labels=range(4), zero_division=0)
    for k, label in enumerate(found.labels):
        values = (label.precision / 100, label.recall / 100, label.f1 / 100, label.clips)
        assert values == pytest.approx([part[k] for part in expected]), label.label
    assert found.balanced == pytest.approx(100 * np.mean(expected[1][:3]))
    ap = [metrics.average_precision_score(y == k, probabilities[:, k]) for k in range(3)]
    assert found.map == pytest.approx(100 * np.mean(ap))


def test_several_labels_a_clip():
    probabilities = np.array([[0.9, 0.8], [0.2, 0.6], [0.1, 0.3], [0.7, 0.4]])
    table = np.array([[1, 1], [0, 1], [1, 0], [1, 0]])
    found = classification(probabilities, table, ["x", "y"], multi_label=True)
    assert found.accuracy == 75.0  # all labels of a clip right
    assert (found.labels[0].recall, found.labels[0].precision) == (pytest.approx(200 / 3), 100.0)
    assert found.confusion == []
    sure = np.maximum(probabilities, 1 - probabilities)
    right = (probabilities >= 0.5) == table
    assert found.ece == pytest.approx(written_out(sure.ravel(), right.ravel()))


def written_out(sure, right):
    """Guo et al., equation 3, bin by bin."""
    total = 0.0
    for m in range(N_BINS):
        here = [i for i, p in enumerate(sure) if m / N_BINS <= p < (m + 1) / N_BINS or (m == N_BINS - 1 and p == 1.0)]
        if here:
            total += len(here) / len(sure) * abs(np.mean([right[i] for i in here]) - np.mean([sure[i] for i in here]))
    return 100 * total


def test_calibration_error_is_the_formula(some):
    probabilities, _, y = some
    sure, right = probabilities.max(1), probabilities.argmax(1) == y
    error, bins = calibration(sure, right)
    assert error == pytest.approx(written_out(sure, right))
    assert sum(count for _, _, count in bins) == 60
    assert calibration(np.ones(4), np.ones(4, bool))[0] == 0.0


def test_the_threshold_leaves_the_share_of_right_clips_named(some):
    probabilities, table, y = some
    right = probabilities.argmax(1) == y
    for keep in (0.5, 0.9, 1.0):
        threshold = sure_enough(probabilities, table, keep)
        named = probabilities.max(1)[right] >= threshold
        assert named.mean() >= keep
        assert threshold in probabilities.max(1)
    assert sure_enough(np.array([[0.9, 0.1]]), np.array([[0.0, 1.0]]), 0.9) == 0.0


def test_the_worst_errors_come_first(some):
    probabilities, table, y = some
    rows = worst_errors(probabilities, table, 5)
    wrong = np.flatnonzero(probabilities.argmax(1) != y)
    assert set(rows) <= set(wrong)
    of_label = probabilities[np.arange(60), y]
    assert [of_label[row] for row in rows] == sorted(of_label[wrong])[:5]


@pytest.mark.parametrize("multi_label", [False, True])
def test_temperature_is_the_least_loss_and_finds_a_scale_again(multi_label):
    random = np.random.default_rng(0)
    scores = random.normal(size=(4000, 3))
    chances = 1 / (1 + np.exp(-scores)) if multi_label else np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    if multi_label:
        table = (random.random((4000, 3)) < chances).astype(float)
    else:
        table = np.eye(3)[[random.choice(3, p=row) for row in chances]]
    t = temperature(3 * scores, table, multi_label)  # scores three times too sure
    assert t == pytest.approx(3, rel=0.1)
    losses = [cross_entropy(3 * scores / (t * factor), table, multi_label) for factor in (0.9, 1.0, 1.1)]
    assert losses[1] == min(losses)
