from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from audiossl.probes.per_class import per_class, per_class_lines

NAMES = ["cat", "dog", "owl", "pig"]


def test_counts_are_those_of_the_confusion_matrix():
    rng = np.random.default_rng(0)
    truth, predicted, training = rng.integers(0, 4, 200), rng.integers(0, 4, 200), rng.integers(0, 4, 90)
    matrix = confusion_matrix(truth, predicted)
    for i, score in enumerate(per_class(predicted, truth, training, NAMES)):
        wrong = matrix[i].copy()
        wrong[i] = 0
        assert (score.label, score.test_clips, score.right) == (NAMES[i], matrix[i].sum(), matrix[i, i])
        assert (score.taken_for, score.taken_for_clips) == (NAMES[wrong.argmax()], wrong.max())
        assert score.training_clips == (training == i).sum()
        assert score.accuracy == pytest.approx(100 * np.mean(predicted[truth == i] == i))


def test_a_label_without_mistakes_and_one_without_clips():
    owl, pig = per_class(np.array([2, 2]), np.array([2, 2]), np.array([0]), NAMES)[2:]
    assert (owl.taken_for, str(owl)) == (None, "100.0")
    assert (pig.accuracy, str(pig)) == (None, "no test clip")


def test_of_equally_frequent_mistakes_the_first_is_named():
    (cat, *_) = per_class(np.array([3, 1, 0]), np.array([0, 0, 0]), np.array([0]), NAMES)
    assert str(cat) == "33.3, as dog 1"


def test_probes_stand_side_by_side():
    truth, training = np.array([0, 1]), np.array([0, 1, 1])
    lines = per_class_lines(
        {
            "kNN": per_class(np.array([0, 0]), truth, training, NAMES[:2]),
            "LR": per_class(np.array([0, 1]), truth, training, NAMES[:2]),
        }
    )
    assert lines == [
        ["label", "training", "testing", "kNN", "LR"],
        ["cat", "1", "1", "100.0", "100.0"],
        ["dog", "2", "1", "0.0, as cat 1", "100.0"],
    ]
