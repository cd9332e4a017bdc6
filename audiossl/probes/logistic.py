"""Logistic regression: the best linear reading of frozen features, found exactly and not by steps.

With an L2 penalty, fitted by L-BFGS (scikit-learn); the strength C is chosen on the validation split. Multinomial, or
one-vs-rest as in earlier comparisons: its nine strengths of nine labels take as long as nine multinomial fits (3 s for
3,911 clips of 512 numbers on one core), so both share one grid.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from audiossl.errors import UserError
from audiossl.probes.features import ProbeData, ProbeScore, accuracy

# Half decades: strong penalties for wide features of few clips, weak ones for narrow features of many.
C_GRID = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
MAX_ITERATIONS = 400

Model = TypeVar("Model", LogisticRegression, OneVsRestClassifier)


def fit_logistic(x: np.ndarray, y: np.ndarray, c: float) -> LogisticRegression:
    """Fit one multinomial logistic regression of strength `c` to `x` (N, D), `y` (N,); deterministic."""
    return _fitted(_regression(c), x, y)


def fit_one_vs_rest(x: np.ndarray, y: np.ndarray, c: float) -> OneVsRestClassifier:
    """Fit one binary logistic regression a label, of strength `c`, to `x` (N, D), `y` (N,); deterministic."""
    return _fitted(OneVsRestClassifier(_regression(c)), x, y)


def logistic_probe(data: ProbeData, c_grid: Sequence[float] = C_GRID) -> ProbeScore:
    """Fit each C on training, choose on validation (the smallest of equals), read the test split once."""
    models = [fit_logistic(data.train.x, data.train.y, c) for c in c_grid]
    return _best(data, c_grid, models, [_converged(model) for model in models])


def one_vs_rest_probe(data: ProbeData, c_grid: Sequence[float] = C_GRID) -> ProbeScore:
    """A binary regression for each label, of which the surest decides; one C for all, chosen as in `logistic_probe`."""
    models = [fit_one_vs_rest(data.train.x, data.train.y, c) for c in c_grid]
    return _best(data, c_grid, models, [all(map(_converged, model.estimators_)) for model in models])


def _regression(c: float) -> LogisticRegression:
    return LogisticRegression(C=c, solver="lbfgs", max_iter=MAX_ITERATIONS)


def _fitted(model: Model, x: np.ndarray, y: np.ndarray) -> Model:
    if len(np.unique(y)) < 2:
        raise UserError("logistic regression needs training clips of at least two labels, found one: check the labels.")
    with warnings.catch_warnings():
        # A fit that stops at the limit is judged on validation like every other; weak penalties rarely win
        # there.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def _converged(model: LogisticRegression) -> bool:
    return bool(model.n_iter_.max() < MAX_ITERATIONS)


def _best(data: ProbeData, c_grid: Sequence[float], models: Sequence[Model], converged: Sequence[bool]) -> ProbeScore:
    scores = [accuracy(model.predict(data.validation.x), data.validation.y) for model in models]
    best = int(np.argmax(scores))
    predicted = models[best].predict(data.test.x)
    chosen = {"C": c_grid[best], "converged": converged[best]}
    return ProbeScore(accuracy(predicted, data.test.y), scores[best], chosen, predicted=predicted)
