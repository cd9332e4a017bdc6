"""Invariance against an explicit double loop over patches and clips, and against the mistake of a public port."""

import pytest
import torch
import torch.nn.functional as F

from audiossl.errors import UserError
from audiossl.losses.invariance import invariance
from audiossl.losses.projections import unit_rows


def plain(z):
    """Cosine of each patch of each clip with the mean of the clip's patches, one after the other."""
    n_patches, n_clips, _ = z.shape
    total = 0.0
    for p in range(n_patches):
        for b in range(n_clips):
            mean = sum(z[q, b] for q in range(n_patches)) / n_patches
            total = total + (z[p, b] @ mean) / (z[p, b].norm() * mean.norm())
    return total / (n_patches * n_clips)


@pytest.mark.parametrize("shape", [(5, 3, 7), (2, 6, 4), (4, 1, 3), (1, 4, 3)])
def test_value_and_gradient_equal_the_double_loop(shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    mine, expected = invariance(unit_rows(x)), plain(unit_rows(x))
    torch.testing.assert_close(mine, expected)
    gradients = [torch.autograd.grad(loss, x)[0] for loss in (mine, expected)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-7)


def test_float32_is_as_exact_as_a_cosine_can_be():
    x = torch.randn(20, 16, 128)
    assert invariance(unit_rows(x)).item() == pytest.approx(plain(unit_rows(x.double())).item(), abs=1e-6)


def test_the_cosine_runs_over_the_embedding_and_not_over_the_clips():
    z = unit_rows(torch.randn(5, 8, 6))
    over_clips = F.cosine_similarity(z, z.mean(0, keepdim=True), dim=1).mean()
    assert abs(over_clips - plain(z)) > 0.005  # the mistake is visible here
    assert invariance(z).item() == pytest.approx(plain(z).item(), abs=1e-6)
    apart = torch.eye(2)[:, None]  # two orthogonal patches of the only clip: over clips, their cosine would be 1
    assert invariance(apart).item() == pytest.approx(0.5**0.5)


def test_a_batch_is_the_mean_of_its_clips_in_any_order():
    z = unit_rows(torch.randn(5, 4, 6))
    alone = torch.stack([invariance(z[:, b : b + 1]) for b in range(4)])
    torch.testing.assert_close(invariance(z), alone.mean())
    torch.testing.assert_close(invariance(z[torch.randperm(5)]), invariance(z))


def test_one_patch_and_equal_patches_have_one():
    z = unit_rows(torch.randn(1, 4, 6))
    assert invariance(z).item() == pytest.approx(1.0, abs=1e-6)
    assert invariance(z.expand(7, -1, -1)).item() == pytest.approx(1.0, abs=1e-6)


def test_opposite_patches_and_silent_projections_have_a_finite_gradient():
    for x in (torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]]), torch.zeros(3, 2, 4)):
        x.requires_grad_()
        loss = invariance(unit_rows(x))
        loss.backward()
        assert loss.item() == 0.0
        assert x.grad.isfinite().all()


def test_following_its_gradient_brings_patches_together():
    x = torch.randn(6, 4, 8, requires_grad=True)
    before = invariance(unit_rows(x)).item()
    for _ in range(50):
        (gradient,) = torch.autograd.grad(invariance(unit_rows(x)), x)
        x = (x + 20.0 * gradient).detach().requires_grad_()
    assert invariance(unit_rows(x)).item() > 0.95 > before


def test_autocast_changes_nothing():
    z = unit_rows(torch.randn(5, 4, 6))
    with torch.autocast("cpu", torch.bfloat16):
        inside = invariance(z)
    assert inside.dtype == torch.float32
    assert inside == invariance(z)
    assert invariance(z.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(4, 6), (0, 4, 6), (3, 0, 6)])
def test_shapes_that_hold_nothing_are_refused(shape):
    with pytest.raises(UserError, match=r"^z has shape .*\(P, B, d\)"):
        invariance(torch.zeros(shape))
