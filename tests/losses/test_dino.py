"""The view loss, its centre and Sinkhorn-Knopp against the plain formulas of the papers."""

import pytest
import torch
import torch.nn.functional as F

from audiossl.losses.dino import Centre, sinkhorn_knopp, view_loss, view_pairs


def plain_view_loss(student, targets, temperature):
    """The double loop of DINO's paper: all pairs but a view with itself, mean over pairs and clips."""
    total, pairs = 0.0, 0
    for i, q in enumerate(targets):
        for v, s in enumerate(student):
            if i != v:
                total = total + torch.sum(-q * F.log_softmax(s / temperature, dim=-1), dim=-1).mean()
                pairs += 1
    return total / pairs


def test_pairs_of_two_global_and_eight_local_views_are_eighteen():
    pairs = view_pairs(2, 10)
    assert len(pairs) == 18
    assert (0, 0) not in pairs
    assert (1, 1) not in pairs


@pytest.mark.parametrize("n_views", [2, 5])
def test_view_loss_and_its_gradient_equal_the_plain_formula(n_views):
    torch.manual_seed(0)
    student = torch.randn(n_views, 6, 33, dtype=torch.float64, requires_grad=True)
    targets = torch.randn(2, 6, 33, dtype=torch.float64).mul(4).softmax(-1)
    ours = view_loss(student, targets.float(), 0.1)
    plain = plain_view_loss(student, targets, 0.1)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(ours, student)
    (expected,) = torch.autograd.grad(plain, student)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_view_loss_is_least_where_the_student_agrees():
    targets = torch.tensor([[[0.7, 0.2, 0.1]], [[0.7, 0.2, 0.1]]])
    entropy = -(targets[0] * targets[0].log()).sum()
    agreeing = 0.1 * targets.log()
    assert view_loss(agreeing, targets).item() == pytest.approx(entropy.item(), abs=1e-5)
    assert view_loss(agreeing.roll(1, -1), targets) > entropy


def test_centre_moves_once_per_update_by_the_mean_of_all_micro_batches():
    torch.manual_seed(1)
    micro_batches = [torch.randn(2, 3, 5), torch.randn(2, 4, 5)]
    centre = Centre(5, momentum=0.9)
    for logits in micro_batches:
        centre.observe(logits)
        assert centre.centre.abs().max() == 0  # nothing moves before the optimiser step
    centre.update()
    rows = torch.cat([logits.flatten(0, 1) for logits in micro_batches])
    torch.testing.assert_close(centre.centre, 0.1 * rows.mean(0))
    before = centre.centre.clone()
    centre.update()  # nothing observed
    assert centre.centre.equal(before)


def test_centred_targets_are_the_plain_softmax():
    torch.manual_seed(2)
    centre = Centre(7)
    centre.centre.copy_(torch.randn(7))
    logits = torch.randn(2, 3, 7)
    torch.testing.assert_close(centre.targets(logits, 0.04), F.softmax((logits - centre.centre) / 0.04, dim=-1))


def plain_sinkhorn(logits, temperature, iterations):
    """SwAV's and DINOv2's loop on the matrix itself."""
    q = torch.exp(logits.double() / temperature).T
    q /= q.sum()
    k, b = q.shape
    for _ in range(iterations):
        q /= q.sum(1, keepdim=True) * k
        q /= q.sum(0, keepdim=True) * b
    return (q * b).T


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_sinkhorn_equals_the_plain_loop(iterations):
    torch.manual_seed(3)
    logits = torch.randn(16, 9)
    expected = plain_sinkhorn(logits, 0.2, iterations)
    torch.testing.assert_close(sinkhorn_knopp(logits, 0.2, iterations).double(), expected, atol=1e-5, rtol=1e-4)


def test_sinkhorn_uses_all_prototypes_and_survives_tiny_temperatures():
    torch.manual_seed(4)
    logits = torch.randn(64, 8) + 5.0 * torch.eye(8)[0]  # one prototype would win every clip
    q = sinkhorn_knopp(logits, 0.5, 100)
    torch.testing.assert_close(q.sum(0), torch.full((8,), 8.0), atol=1e-2, rtol=0)
    sharp = sinkhorn_knopp(logits, 1e-4)
    assert sharp.isfinite().all()
    torch.testing.assert_close(sharp.sum(1), torch.ones(64))
