"""Logistic regression: the best linear reading of frozen features, found exactly and not by steps.

Multinomial with an L2 penalty, fitted by L-BFGS (scikit-learn); the strength C is chosen on the validation
split.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from audiossl.errors import UserError
from audiossl.probes.features import ProbeData, ProbeScore, accuracy

# Half decades: strong penalties for wide features of few clips, weak ones for narrow features of many.
C_GRID = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
MAX_ITERATIONS = 400


def fit_logistic(x: np.ndarray, y: np.ndarray, c: float) -> LogisticRegression:
    """Fit one multinomial logistic regression of strength `c` to `x` (N, D), `y` (N,); deterministic."""
    if len(np.unique(y)) < 2:
        raise UserError("logistic regression needs training clips of at least two labels, found one: check the labels.")
    model = LogisticRegression(C=c, solver="lbfgs", max_iter=MAX_ITERATIONS)
    with warnings.catch_warnings():
        # A fit that stops at the limit is judged on validation like every other; weak penalties rarely win
        # there.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


def logistic_probe(data: ProbeData, c_grid: Sequence[float] = C_GRID) -> ProbeScore:
    """Fit each C on training, choose on validation (the smallest of equals), read the test split once."""
    models = [fit_logistic(data.train.x, data.train.y, c) for c in c_grid]
    scores = [accuracy(model.predict(data.validation.x), data.validation.y) for model in models]
    best = int(np.argmax(scores))
    chosen = {"C": c_grid[best], "converged": bool(models[best].n_iter_.max() < MAX_ITERATIONS)}
    predicted = models[best].predict(data.test.x)
    return ProbeScore(accuracy(predicted, data.test.y), scores[best], chosen, predicted=predicted)
