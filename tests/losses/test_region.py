"""The region loss against the plain formula of EsViT's paper."""

import pytest
import torch
import torch.nn.functional as F

from audiossl.losses.region import Regions, match_regions, region_loss


def plain_region_loss(views, teacher_features, targets, temperature):
    """views: a list of (features (B, P, D), logits (B, P, K)), global views first; one clip at a time."""
    total, pairs = 0.0, 0
    for i in range(len(targets)):
        for v, (features, logits) in enumerate(views):
            if i == v:
                continue
            per_clip = []
            for b in range(len(features)):
                losses = []
                for m in range(features.shape[1]):
                    cosines = F.cosine_similarity(features[b, m][None], teacher_features[i][b], dim=-1)
                    q = targets[i][b, cosines.argmax()]
                    losses.append(-(q * F.log_softmax(logits[b, m] / temperature, dim=-1)).sum())
                per_clip.append(torch.stack(losses).mean())
            total = total + torch.stack(per_clip).mean()
            pairs += 1
    return total / pairs


@pytest.mark.parametrize("n_locals", [0, 1, 3])
def test_region_loss_and_gradient_equal_the_plain_formula(n_locals):
    torch.manual_seed(0)
    b, d, k = 3, 5, 11
    sizes = [(2, 6)] + ([(n_locals, 4)] if n_locals else [])
    students = [Regions(torch.randn(v, b, p, d), torch.randn(v, b, p, k).requires_grad_()) for v, p in sizes]
    teacher = Regions(torch.randn(2, b, 6, d), torch.randn(2, b, 6, k).mul(3).softmax(-1))
    ours = region_loss(students, teacher, 0.1)
    views = [(f, s) for group in students for f, s in zip(group.features, group.scores, strict=True)]
    plain = plain_region_loss(views, teacher.features, teacher.scores, 0.1)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    logits = [group.scores for group in students]
    for mine, expected in zip(
        torch.autograd.grad(ours, logits, retain_graph=True), torch.autograd.grad(plain, logits), strict=True
    ):
        torch.testing.assert_close(mine, expected, atol=1e-6, rtol=1e-4)


def test_local_views_of_two_sizes_are_possible():
    torch.manual_seed(1)
    students = [Regions(torch.randn(v, 2, p, 4), torch.randn(v, 2, p, 7)) for v, p in [(2, 6), (1, 4), (2, 3)]]
    teacher = Regions(torch.randn(2, 2, 6, 4), torch.randn(2, 2, 6, 7).softmax(-1))
    assert region_loss(students, teacher).isfinite()


def test_regions_find_themselves_again_after_a_shuffle():
    torch.manual_seed(2)
    teacher = torch.randn(4, 10, 16)
    order = torch.stack([torch.randperm(10) for _ in range(4)])
    student = 3.0 * teacher.gather(1, order[..., None].expand(-1, -1, 16))
    assert match_regions(student, teacher).equal(order)
