"""KoLeo against its formula, and where a formula alone would break."""

import math

import pytest
import torch
import torch.nn.functional as F

from audiossl.losses.koleo import koleo_loss


def test_equals_minus_the_mean_log_distance_to_the_nearest_neighbour():
    torch.manual_seed(0)
    x = torch.randn(12, 6)
    z = F.normalize(x, dim=-1)
    distances = torch.cdist(z, z) + 10.0 * torch.eye(12)
    expected = -distances.min(1).values.log().mean()
    torch.testing.assert_close(koleo_loss(x), expected, atol=1e-4, rtol=1e-4)


def test_repeated_clips_and_single_clips_stay_finite():
    for x in (torch.ones(5, 3), torch.zeros(4, 3), torch.randn(1, 3)):
        x.requires_grad_()
        loss = koleo_loss(x)
        loss.backward()
        assert loss.isfinite()
        assert x.grad.isfinite().all()


def test_a_clip_alone_costs_nothing_and_two_are_each_others_neighbours():
    torch.manual_seed(0)
    one, two = torch.randn(1, 3), torch.randn(2, 3)
    assert koleo_loss(one).item() == 0.0
    distance = (F.normalize(two[:1]) - F.normalize(two[1:])).norm()
    torch.testing.assert_close(koleo_loss(two), -distance.log(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("eps", [1e-6, 1e-3])
def test_repeated_clips_are_twice_eps_apart(eps):
    # Of the root and of the logarithm; 1e-6 is the default.
    loss = koleo_loss(torch.ones(5, 3)) if eps == 1e-6 else koleo_loss(torch.ones(5, 3), eps)
    assert loss.item() == pytest.approx(-math.log(2 * eps), rel=1e-5)


def test_it_is_computed_in_float32_under_autocast():
    torch.manual_seed(0)
    x = torch.randn(12, 6)
    with torch.autocast("cpu", torch.bfloat16):
        low = koleo_loss(x)
    assert torch.equal(low, koleo_loss(x))


def test_neighbours_are_told_apart_in_float32_under_autocast():
    """The second row is nearer by a thousandth of a cosine, which bf16 cannot see: it would take the first."""
    angles = torch.tensor([0.1, -0.09, 0.0])
    x = torch.stack([angles.cos(), angles.sin()], dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        low = koleo_loss(x)
    gaps = [2 * math.sin(0.05), 2 * math.sin(0.045), 2 * math.sin(0.045)]
    assert low.item() == pytest.approx(-sum(map(math.log, gaps)) / 3, abs=1e-4)


def test_following_its_gradient_spreads_a_crowd():
    torch.manual_seed(1)
    x = (torch.tensor([1.0, 0.0, 0.0]) + 0.05 * torch.randn(8, 3)).requires_grad_()
    before = torch.pdist(F.normalize(x, dim=-1)).min().item()
    optimizer = torch.optim.SGD([x], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        koleo_loss(x).backward()
        optimizer.step()
    assert torch.pdist(F.normalize(x, dim=-1)).min().item() > 4 * before
