"""The head that fine-tuning begins with against scikit-learn's own predictions."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from audiossl.probes.features import standardise
from audiossl.probes.linear_start import ABSENT, FEW_C, linear_start

NONE = np.empty((0, 5)), np.empty((0, 4))


def data(n=80, n_classes=4):
    random = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    return random.normal(size=(n, 5)) * [1, 10, 0.1, 1, 1] + 2 * np.eye(n_classes, 5)[y] + 3, y


def scores(start, x):
    return x @ start.weight.T + start.bias


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_it_predicts_as_logistic_regression_on_standardised_features(n_classes):
    x, y = data(n_classes=n_classes)
    start = linear_start(x, np.eye(n_classes)[y], np.empty((0, 5)), np.empty((0, n_classes)))
    assert start.c == FEW_C
    (z,) = standardise(x)
    model = LogisticRegression(C=FEW_C, max_iter=400).fit(z, y)
    found = np.exp(scores(start, x))
    np.testing.assert_allclose(found / found.sum(1, keepdims=True), model.predict_proba(z), atol=1e-4)


def test_the_strength_is_the_best_on_validation_clips():
    x, y = data()
    more, labels = data(40)
    table = np.eye(4)[labels]
    start = linear_start(x, np.eye(4)[y], more, table)

    def loss(found):
        s = scores(found, more)
        return np.mean(np.log(np.exp(s).sum(1)) - (s * table).sum(1))

    for c in (0.001, 0.1, 3.0):
        assert loss(start) <= loss(linear_start(x, np.eye(4)[y], more, table, c_grid=(c, c))) + 1e-9


def test_a_label_without_a_clip_is_never_likely():
    x, y = data()
    kept = y != 2
    start = linear_start(x[kept], np.eye(4)[y[kept]], *NONE)
    assert start.bias[2] == ABSENT
    assert not start.weight[2].any()
    assert (scores(start, x).argmax(1) != 2).all()


def test_several_labels_are_a_regression_each():
    x, _ = data()
    table = np.stack([x[:, 0] > 3, x[:, 1] > 3, np.zeros(80), np.ones(80)], 1).astype(float)
    start = linear_start(x, table, *NONE, multi_label=True)
    (z,) = standardise(x)
    for k in (0, 1):
        model = LogisticRegression(C=FEW_C, max_iter=400).fit(z, table[:, k])
        np.testing.assert_allclose(scores(start, x)[:, k], model.decision_function(z), atol=1e-4)
    assert start.bias[2:].tolist() == [ABSENT, -ABSENT]


def test_a_constant_feature_is_shifted_alone():
    x, y = data()
    x[:, 3] = 7.0
    start = linear_start(x, np.eye(4)[y], *NONE)
    assert abs(scores(start, x + np.eye(5)[3]) - scores(start, x)).max() < 1e-6
