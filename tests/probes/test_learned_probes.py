"""Linear probe, logistic regression, few labels: against scikit-learn and problems with a known answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from audiossl.errors import UserError
from audiossl.probes.features import Labelled, ProbeData, accuracy
from audiossl.probes.few_shot import draw_few, few_shot, short_labels
from audiossl.probes.linear import GridAdamW, linear_probe
from audiossl.probes.logistic import fit_one_vs_rest, logistic_probe, one_vs_rest_probe


def problem(classes=3, d=8, spread=1.0, sizes=(240, 90, 120), seed=0) -> ProbeData:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))
    parts = []
    for size in sizes:
        y = np.arange(size) % classes
        parts.append(Labelled((centres[y] + spread * rng.normal(size=(size, d))).astype(np.float32), y))
    return ProbeData(*parts, classes)


def with_shuffled_test_labels(data: ProbeData) -> ProbeData:
    y = np.random.default_rng(5).permutation(data.test.y)
    return replace(data, test=Labelled(data.test.x, y))


def test_logistic_is_scikit_learn_with_c_chosen_on_validation():
    data = problem()
    scores = []
    for c in (0.001, 0.03, 1.0):
        model = LogisticRegression(C=c, max_iter=1000).fit(data.train.x, data.train.y)
        scores.append((model.score(data.validation.x, data.validation.y), model.score(data.test.x, data.test.y)))
    best = int(np.argmax([validation for validation, _ in scores]))
    ours = logistic_probe(data, (0.001, 0.03, 1.0))
    assert ours.chosen == {"C": (0.001, 0.03, 1.0)[best], "converged": True}
    assert (ours.validation, ours.test) == pytest.approx(scores[best])


def test_one_vs_rest_is_scikit_learn_with_c_chosen_on_validation():
    data = problem(classes=5, spread=1.5)
    scores = []
    for c in (0.001, 0.03, 1.0):
        model = OneVsRestClassifier(LogisticRegression(C=c, max_iter=1000)).fit(data.train.x, data.train.y)
        scores.append((model.score(data.validation.x, data.validation.y), model.score(data.test.x, data.test.y)))
    best = int(np.argmax([validation for validation, _ in scores]))
    ours = one_vs_rest_probe(data, (0.001, 0.03, 1.0))
    assert ours.chosen == {"C": (0.001, 0.03, 1.0)[best], "converged": True}
    assert (ours.validation, ours.test) == pytest.approx(scores[best])


def test_one_vs_rest_takes_the_label_whose_own_regression_is_surest():
    data = problem(classes=4, spread=1.5)
    model = fit_one_vs_rest(data.train.x, data.train.y, 0.1)
    sureness = []
    for label in range(4):
        one = LogisticRegression(C=0.1, max_iter=1000).fit(data.train.x, data.train.y == label)
        sureness.append(data.test.x @ one.coef_[0] + one.intercept_[0])
    assert np.array_equal(model.predict(data.test.x), np.argmax(sureness, axis=0))


def test_of_two_labels_one_vs_rest_is_logistic_regression():
    data = problem(classes=2, spread=2.0)
    both = logistic_probe(data), one_vs_rest_probe(data)
    assert both[0] == both[1]
    assert np.array_equal(both[0].predicted, both[1].predicted)


def test_the_linear_probe_comes_to_the_exact_solution():
    data = problem(sizes=(600, 300, 600))
    exact = logistic_probe(data)
    ours = linear_probe(data, min_steps=400, min_epochs=1)
    assert ours.test == pytest.approx(exact.test, abs=0.03)
    assert ours.test > 0.6


def test_each_layer_of_the_grid_trains_as_if_alone():
    data = problem()
    alone = linear_probe(data, (1e-3,), (0.1,), min_steps=60, min_epochs=1)
    # A learning rate of 0 leaves a layer at zero, never chosen: the other must end as it does alone.
    beside = linear_probe(data, (0.0, 1e-3), (0.1,), min_steps=60, min_epochs=1)
    assert beside == alone


def test_one_optimiser_for_the_grid_is_torchs_adamw_for_each_layer():
    grid = [(1e-3, 0.0), (1e-3, 1.0), (3e-2, 0.1)]
    torch.manual_seed(0)
    together = [torch.randn(3, 4, 5), torch.randn(3, 4)]
    apart = [[stacked[i].clone() for stacked in together] for i in range(3)]
    optimizer = GridAdamW(together, grid)
    theirs = [
        torch.optim.AdamW(layer, rate, weight_decay=decay) for layer, (rate, decay) in zip(apart, grid, strict=True)
    ]
    for step in range(50):
        factor = 1 - step / 50
        for i, stacked in enumerate(together):
            stacked.grad = torch.randn_like(stacked) * 10.0 ** (step % 5 - 2)
            for layer, gradient in zip(apart, stacked.grad, strict=True):
                layer[i].grad = gradient.clone()
        for adamw, (rate, _) in zip(theirs, grid, strict=True):
            adamw.param_groups[0]["lr"] = factor * rate
            adamw.step()
        optimizer.step(factor)
    for i, stacked in enumerate(together):
        torch.testing.assert_close(stacked, torch.stack([layer[i] for layer in apart]), rtol=1e-5, atol=1e-6)
        assert stacked.grad is None


def test_the_linear_probe_repeats_by_seed():
    data = problem(spread=2.0)
    first = linear_probe(data, min_steps=50, min_epochs=1, seed=1)
    assert first == linear_probe(data, min_steps=50, min_epochs=1, seed=1)


@pytest.mark.parametrize(
    "probe",
    [logistic_probe, one_vs_rest_probe, lambda data: linear_probe(data, min_steps=50, min_epochs=1)],
)
def test_the_test_split_has_no_say_in_the_choice(probe):
    data = problem(spread=2.0)
    ours, other = probe(data), probe(with_shuffled_test_labels(data))
    assert (ours.chosen, ours.validation) == (other.chosen, other.validation)
    assert ours.test != other.test


def test_draws_are_balanced_within_the_class_repeatable_and_different():
    y = np.random.default_rng(0).integers(0, 4, 200)
    rows = draw_few(y, 7, draw=0)
    assert np.bincount(y[rows]).tolist() == [7, 7, 7, 7]
    assert len(set(rows.tolist())) == 28
    assert np.array_equal(rows, draw_few(y, 7, draw=0))
    assert not np.array_equal(rows, draw_few(y, 7, draw=1))


def test_small_classes_are_used_whole_and_named():
    data = problem(sizes=(31, 30, 30))  # 11, 10 and 10 clips
    score = few_shot(data, 11)
    assert short_labels(data.train.y, ["a", "b", "c"], ["10", "11"]) == {"11": ["b", "c"]}
    assert len(draw_few(data.train.y, 11, 0)) == 31
    assert len(set(score.draws)) == 1  # every draw is the whole split: no spread to report
    assert score.std < 1e-12


def test_few_shot_is_the_mean_of_fits_on_the_drawn_clips():
    data = problem(spread=2.0)
    ours = few_shot(data, 5, n_draws=3, c=0.1)
    expected = []
    for draw in range(3):
        rows = draw_few(data.train.y, 5, draw)
        model = LogisticRegression(C=0.1, max_iter=1000).fit(data.train.x[rows], data.train.y[rows])
        expected.append(accuracy(model.predict(data.test.x), data.test.y))
    assert ours.draws == pytest.approx(tuple(expected))
    assert ours.mean == pytest.approx(np.mean(expected))
    assert ours.std == pytest.approx(np.std(expected, ddof=1))


def test_more_labels_help():
    data = problem(classes=5, spread=1.5, sizes=(1000, 300, 500))
    assert few_shot(data, 1).mean < few_shot(data, 20).mean


@pytest.mark.parametrize("probe", [logistic_probe, one_vs_rest_probe])
def test_one_label_only_is_said(probe):
    with pytest.raises(UserError, match="two labels"):
        probe(problem(classes=1))
