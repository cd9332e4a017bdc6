"""The view loss, its centre and Sinkhorn-Knopp against the plain formulas of the papers."""

import pytest
import torch
import torch.nn.functional as F

from audiossl.losses import prototypes
from audiossl.losses.dino import Centre, sinkhorn_knopp, sinkhorn_targets, view_loss, view_pairs


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
def test_view_loss_and_its_gradients_equal_the_plain_formula(n_views):
    torch.manual_seed(0)
    z = F.normalize(torch.randn(n_views, 6, 8), dim=-1).requires_grad_()
    w = torch.randn(33, 8, requires_grad=True)
    targets = torch.randn(2, 6, 33).mul(4).softmax(-1)
    ours = view_loss(z, w, targets.flatten(0, 1).split(5), 2, 0.1)
    plain = plain_view_loss(z @ w.T, targets, 0.1)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    for mine, expected in zip(torch.autograd.grad(ours, [z, w]), torch.autograd.grad(plain, [z, w]), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


def test_a_view_with_another_clip_mixed_in_answers_to_both_in_their_shares():
    torch.manual_seed(6)
    z, w = F.normalize(torch.randn(3, 4, 6), dim=-1), torch.randn(9, 6)
    targets, partner, share = torch.randn(2, 4, 9).mul(4).softmax(-1), torch.tensor([2, 0, 3, 0]), torch.rand(3, 4)
    log_p = F.log_softmax(z @ w.T / 0.1, dim=-1)
    own = [-(targets[i] * log_p[v]).sum(-1) for i, v in view_pairs(2, 3)]
    other = [-(targets[i][partner] * log_p[v]).sum(-1) for i, v in view_pairs(2, 3)]
    shares = [share[v] for _, v in view_pairs(2, 3)]
    expected = torch.stack([(1 - s) * a + s * b for a, b, s in zip(own, other, shares, strict=True)]).mean()
    mine = view_loss(z, w, targets.flatten(0, 1).split(5), 2, 0.1, partner, share)
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


def test_view_loss_is_least_where_the_student_agrees():
    targets = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]])
    entropy = -(targets[0] * targets[0].log()).sum()
    agreeing = 0.1 * targets.log()[:, None]
    assert view_loss(agreeing, torch.eye(3), [targets], 2).item() == pytest.approx(entropy.item(), abs=1e-5)
    assert view_loss(agreeing.roll(1, -1), torch.eye(3), [targets], 2) > entropy


def test_centre_moves_once_per_update_by_the_mean_of_all_micro_batches():
    torch.manual_seed(1)
    micro_batches, w = [torch.randn(2, 3, 4), torch.randn(2, 4, 4)], torch.randn(5, 4)
    centre = Centre(5, momentum=0.9)
    for z in micro_batches:
        centre.observe(z, w)
        assert centre.centre.abs().max() == 0  # nothing moves before the optimiser step
    centre.update()
    rows = torch.cat([(z @ w.T).flatten(0, 1) for z in micro_batches])
    torch.testing.assert_close(centre.centre, 0.1 * rows.mean(0), atol=1e-6, rtol=1e-5)
    before = centre.centre.clone()
    centre.update()  # nothing observed
    assert centre.centre.equal(before)


def test_centred_targets_are_the_plain_softmax_in_blocks(monkeypatch):
    monkeypatch.setattr(prototypes, "CPU_CHUNK", 7 * 4)
    torch.manual_seed(2)
    centre = Centre(7)
    centre.centre.copy_(torch.randn(7))
    z, w = torch.randn(2, 3, 4), torch.randn(7, 4)
    blocks = list(centre.targets(z, w, 0.04))
    assert [len(block) for block in blocks] == [4, 2]
    expected = F.softmax((z @ w.T - centre.centre) / 0.04, dim=-1).flatten(0, 1)
    torch.testing.assert_close(torch.cat(blocks), expected, atol=1e-5, rtol=1e-4)


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
    assert torch.equal(sinkhorn_knopp(logits, 0.2), sinkhorn_knopp(logits, 0.2, 3))  # what SwAV and DINOv2 take


def test_sinkhorn_targets_balance_each_view_on_its_own():
    torch.manual_seed(5)
    z, w = F.normalize(torch.randn(2, 3, 4, 6), dim=-1), torch.randn(9, 6)
    blocks = list(sinkhorn_targets(z, w, 0.2))
    for block, view in zip(blocks, z @ w.T, strict=True):
        expected = plain_sinkhorn(view.flatten(0, 1), 0.2, 3)
        torch.testing.assert_close(block.double(), expected, atol=1e-5, rtol=1e-4)


def test_sinkhorn_is_the_same_under_autocast():
    torch.manual_seed(6)
    logits = torch.randn(40, 64)
    with torch.autocast("cpu", torch.bfloat16):
        inside = sinkhorn_knopp(logits, 0.05)
    assert torch.equal(inside, sinkhorn_knopp(logits, 0.05))


def test_sinkhorn_where_a_row_is_nothing_beside_the_others():
    logits = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [-500.0, -501.0, -500.5]])
    found = sinkhorn_knopp(logits, 1.0)
    torch.testing.assert_close(found.double(), plain_sinkhorn(logits, 1.0, 3), atol=1e-5, rtol=1e-4)


def test_sinkhorn_of_one_row_is_even():
    torch.testing.assert_close(sinkhorn_knopp(torch.randn(1, 5), 0.05), torch.full((1, 5), 0.2))


def test_sinkhorn_uses_all_prototypes_and_survives_tiny_temperatures():
    torch.manual_seed(4)
    logits = torch.randn(64, 8) + 5.0 * torch.eye(8)[0]  # one prototype would win every clip
    q = sinkhorn_knopp(logits, 0.5, 100)
    torch.testing.assert_close(q.sum(0), torch.full((8,), 8.0), atol=1e-2, rtol=0)
    sharp = sinkhorn_knopp(logits, 1e-4)
    assert sharp.isfinite().all()
    torch.testing.assert_close(sharp.sum(1), torch.ones(64))
