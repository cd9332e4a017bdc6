"""EsViT's linear evaluation: against torch's own SGD and scheduler, and each pair of the grid against itself alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from audiossl.errors import UserError
from audiossl.probes.config import LinearSGDConfig
from audiossl.probes.features import Labelled, ProbeData, accuracy, top5_accuracy
from audiossl.probes.linear import shuffled_batches
from audiossl.probes.linear_sgd import linear_sgd, train_grid

GRID = [(0.01, 0.0), (0.1, 0.0), (0.1, 0.01), (1.0, 0.1)]


def problem(classes=3, d=8, spread=1.0, sizes=(90, 60, 60), seed=0) -> ProbeData:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))
    parts = []
    for size in sizes:
        y = np.arange(size) % classes
        parts.append(Labelled((centres[y] + spread * rng.normal(size=(size, d))).astype(np.float32), y))
    return ProbeData(*parts, classes)


def trained_by_torch(train: Labelled, classes: int, rate: float, decay: float, epochs: int, batch_size: int):
    """The reference's loop: torch's layer, loss, SGD and scheduler, which steps once an epoch."""
    layer = nn.Linear(train.x.shape[1], classes)
    start = 0.01 * torch.randn(train.x.shape[1], 1, classes, generator=torch.Generator().manual_seed(0))
    layer.weight.data = start[:, 0].T.clone()
    layer.bias.data.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), rate * batch_size / 256, momentum=0.9, weight_decay=decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=0)
    x, y = torch.as_tensor(train.x), torch.as_tensor(train.y)
    steps = -(-len(x) // batch_size)
    for step, rows in enumerate(shuffled_batches(len(x), batch_size, epochs * steps, seed=0)):
        optimizer.zero_grad()
        F.cross_entropy(layer(x[rows]), y[rows]).backward()
        optimizer.step()
        if (step + 1) % steps == 0:
            scheduler.step()
    return layer


@pytest.mark.parametrize("batch_size", [32, 40, 500])  # 90 clips: with a rest, and fewer than a batch
def test_every_pair_is_torchs_sgd_alone(batch_size):
    train = problem().train
    weight, bias = train_grid(train, 3, GRID, epochs=7, batch_size=batch_size)
    for i, (rate, decay) in enumerate(GRID):
        layer = trained_by_torch(train, 3, rate, decay, 7, batch_size)
        assert torch.allclose(weight[:, i].T, layer.weight, atol=1e-5)
        assert torch.allclose(bias[i], layer.bias, atol=1e-5)


def test_a_pair_ends_as_it_does_alone_even_beside_one_that_diverges():
    train = problem().train
    weight, bias = train_grid(train, 3, [*GRID, (1e30, 1e3)], epochs=5, batch_size=16)
    assert not torch.isfinite(weight[:, -1]).all()
    for i, pair in enumerate(GRID):
        alone, alone_bias = train_grid(train, 3, [pair], epochs=5, batch_size=16)
        assert torch.allclose(weight[:, i], alone[:, 0], atol=1e-6)
        assert torch.allclose(bias[i], alone_bias[0], atol=1e-6)


def test_the_pair_is_chosen_on_validation_and_the_test_split_has_no_say():
    data = problem(spread=2.0)
    config = LinearSGDConfig([0.001, 0.1, 10.0], [0.0, 0.01], epochs=5)
    ours = linear_sgd(data, config)
    scores = [linear_sgd(data, replace(config, learning_rates=[rate], weight_decays=[decay])).validation
              for rate in config.learning_rates for decay in config.weight_decays]  # fmt: skip
    assert [pair[2] / 100 for pair in ours.chosen["grid"]] == pytest.approx(scores)
    best = ours.chosen["grid"][int(np.argmax(scores))]
    assert [ours.chosen["learning_rate"], ours.chosen["weight_decay"]] == best[:2]
    assert ours.validation == max(scores)
    shuffled = np.random.default_rng(5).permutation(data.test.y)
    other = linear_sgd(replace(data, test=Labelled(data.test.x, shuffled)), config)
    assert (other.chosen, other.validation) == (ours.chosen, ours.validation)
    assert other.test != ours.test


def test_score_and_top5_are_those_of_the_predictions():
    data = problem(classes=8, spread=2.0, sizes=(200, 80, 80))
    config = LinearSGDConfig([0.1], epochs=20)
    ours = linear_sgd(data, config)
    weight, bias = train_grid(data.train, 8, [(0.1, 0.0)], 20, 128)
    logits = data.test.x @ weight[:, 0].numpy() + bias[0].numpy()
    assert np.array_equal(ours.predicted, logits.argmax(1))
    assert ours.test == accuracy(logits.argmax(1), data.test.y)
    among = [label in np.argsort(-row)[:5] for row, label in zip(logits, data.test.y, strict=True)]
    assert ours.top5 == pytest.approx(np.mean(among))
    assert ours.top5 > ours.test > 0.3


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_one_clip_a_class_and_any_number_of_classes(classes):
    data = problem(classes=classes, spread=0.1, sizes=(classes, classes, 1))
    ours = linear_sgd(data, LinearSGDConfig([10.0]))
    assert ours.validation == 1.0
    assert ours.test == 1.0
    assert ours.top5 == (1.0 if classes >= 5 else None)


def test_a_label_that_only_the_test_split_has_is_wrong_and_not_an_error():
    data = problem()
    data = replace(data, test=Labelled(data.test.x, np.full(60, 3)), n_classes=4)
    assert linear_sgd(data, LinearSGDConfig(epochs=2)).test == 0.0


def test_the_seed_decides():
    data, config = problem(spread=2.0), LinearSGDConfig([0.1], epochs=2)
    first = train_grid(data.train, 3, [(0.1, 0.0)], 2, 16, seed=1)
    assert torch.equal(first[0], train_grid(data.train, 3, [(0.1, 0.0)], 2, 16, seed=1)[0])
    assert not torch.equal(first[0], train_grid(data.train, 3, [(0.1, 0.0)], 2, 16, seed=2)[0])
    assert linear_sgd(data, config, seed=1) == linear_sgd(data, config, seed=1)


def test_top5_of_few_classes_says_nothing():
    assert top5_accuracy(np.array([[0, 1, 2, 3]]), np.array([3]), n_classes=4) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rates": [0.1, 0.0]}, "--sgd.learning_rates has 0.0; give numbers above 0"),
        ({"learning_rates": []}, "--sgd.learning_rates has no value"),
        ({"weight_decays": [-1.0]}, "--sgd.weight_decays has -1.0; give numbers 0 or above"),
        ({"epochs": 0}, "--sgd.epochs is 0"),
        ({"batch_size": 0}, "--sgd.batch_size is 0"),
    ],
)
def test_values_without_sense_are_said(values, words):
    with pytest.raises(UserError, match=words):
        LinearSGDConfig(**values)
