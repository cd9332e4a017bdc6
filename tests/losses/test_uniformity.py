"""Uniformity against its formula pair after pair, at equal clips, near collapse, and with what it refuses."""

import math

import pytest
import torch

from audiossl.errors import UserError
from audiossl.losses.projections import unit_rows
from audiossl.losses.uniformity import uniformity


def plain(z, t=2.0):
    means = z.mean(0)
    pairs = [(a, b) for a in range(len(means)) for b in range(a)]
    return torch.stack([torch.exp(-t * (means[a] - means[b]).square().sum()) for a, b in pairs]).mean().log()


@pytest.mark.parametrize("t", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("shape", [(5, 7, 6), (3, 2, 4), (1, 9, 3)])
def test_value_and_gradient_equal_the_formula(shape, t):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    mine, expected = uniformity(unit_rows(x), t), plain(unit_rows(x), t)
    torch.testing.assert_close(mine, expected)
    gradients = [torch.autograd.grad(loss, x)[0] for loss in (mine, expected)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-7)


def test_gradcheck():
    assert torch.autograd.gradcheck(uniformity, (torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True),))


@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01])
def test_float32_follows_float64_down_to_clips_that_are_nearly_alike(spread):
    z = unit_rows(torch.ones(4, 16, 64) + spread * torch.randn(4, 16, 64)).requires_grad_()
    exact = z.detach().double().requires_grad_()
    mine, expected = uniformity(z), plain(exact)
    assert mine.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-7)
    a, b = torch.autograd.grad(mine, z)[0], torch.autograd.grad(expected, exact)[0]
    assert (a - b).norm() < 1e-4 * b.norm()


def test_equal_clips_have_zero_and_a_finite_gradient():
    z = torch.ones(3, 5, 4).mul(0.5).requires_grad_()
    loss = uniformity(z)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert z.grad.abs().amax() < 1e-6


def test_means_are_not_brought_back_to_length_one():
    z = torch.stack([torch.eye(6)[:3], torch.eye(6)[3:]])  # means of length 0.71, as far apart as 1
    assert uniformity(z).item() == pytest.approx(-2.0, rel=1e-6)


def test_far_clips_do_not_underflow():
    z = unit_rows(torch.randn(1, 4, 8, dtype=torch.float64))
    loss = uniformity(z.float(), t=500.0)
    assert loss.isfinite()
    assert loss.item() == pytest.approx(plain(z, t=500.0).item(), rel=1e-4)


def test_following_its_gradient_spreads_a_crowd():
    x = torch.ones(2, 6, 8) + 0.05 * torch.randn(2, 6, 8)
    before = uniformity(unit_rows(x)).item()
    for _ in range(100):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(uniformity(unit_rows(x)), x)
        x = (x - 5.0 * gradient).detach()
    assert uniformity(unit_rows(x)).item() < -3.0 < before


def test_autocast_changes_nothing():
    z = unit_rows(torch.randn(2, 5, 6))
    with torch.autocast("cpu", torch.bfloat16):
        inside = uniformity(z)
    assert inside.dtype == torch.float32
    assert inside == uniformity(z)


def test_one_clip_has_nothing_to_be_apart_from():
    with pytest.raises(UserError, match="found 1: give batches of at least 2"):
        uniformity(unit_rows(torch.randn(3, 1, 4)))


@pytest.mark.parametrize("t", [0.0, -1.0, math.nan, math.inf])
def test_t_must_be_above_zero(t):
    with pytest.raises(UserError, match=r"^t is .*: give a number above 0"):
        uniformity(torch.eye(3)[None], t)


@pytest.mark.parametrize("shape", [(4, 6), (0, 4, 6), (3, 0, 6)])
def test_shapes_that_hold_nothing_are_refused(shape):
    with pytest.raises(UserError, match=r"^z has shape .*\(P, B, d\)"):
        uniformity(torch.zeros(shape))
