"""Draws: their ranges, how often, and that a generator gives them again."""

import pytest
import torch
from audiossl.transforms.draws import Draws


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


def test_logarithms_are_spread_evenly():
    values = draws().log_uniform(20_000, 10.0, 1000.0)
    assert values.min() >= 9.999
    assert values.max() <= 1000.1
    assert (values < 100.0).float().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_coins_fall_as_often_as_asked(probability):
    assert draws().coins(20_000, probability).float().mean() == pytest.approx(probability, abs=0.02)


def test_whole_numbers_stay_below():
    assert sorted(set(draws().integers(50, 20, below=4).flatten().tolist())) == [0, 1, 2, 3]


def test_same_generator_same_draws():
    for draw in (lambda d: d.coins(9, 0.5), lambda d: d.integers(9, below=100), lambda d: d.log_uniform(9, 1.0, 2.0)):
        assert draw(draws(3)).equal(draw(draws(3)))
        assert not draw(draws(3)).equal(draw(draws(4)))
