"""The region loss against the plain formula of EsViT's paper."""

import pytest
import torch
import torch.nn.functional as F

from audiossl.losses.match import match_by_features
from audiossl.losses.region import region_loss

B, D, K, N = 3, 8, 11, 6


def plain_region_loss(views, teacher_features, targets, w, temperature):
    """views: a list of (features (B, P, D), embeddings (B, P, d), weights), global views first; one clip at a time."""
    total, pairs = 0.0, 0
    for i in range(len(targets)):
        for v, (features, embeddings, weights) in enumerate(views):
            if i == v:
                continue
            per_clip = []
            for b in range(len(features)):
                losses = []
                for m in range(features.shape[1]):
                    cosines = F.cosine_similarity(features[b, m][None], teacher_features[i][b], dim=-1)
                    q = targets[i][b, cosines.argmax()]
                    log_p = F.log_softmax(embeddings[b, m] @ w.T / temperature, dim=-1)
                    losses.append(-weights[b, m] * (q * log_p).sum())
                per_clip.append(torch.stack(losses).sum())
            total = total + torch.stack(per_clip).mean()
            pairs += 1
    return total / pairs


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("groups", [[(2, N)], [(2, N), (1, 4)], [(2, N), (3, 4)], [(2, N), (1, 4), (2, 3)]])
def test_region_loss_and_gradients_equal_the_plain_formula(groups, weighted):
    torch.manual_seed(0)
    features = [torch.randn(v, B, p, 5) for v, p in groups]
    students = [F.normalize(torch.randn(v, B, p, D), dim=-1).requires_grad_() for v, p in groups]
    weights = [torch.rand(v, B, p).softmax(-1) if weighted else torch.full((v, B, p), 1 / p) for v, p in groups]
    w = torch.randn(K, D, requires_grad=True)
    teacher, targets = torch.randn(2, B, N, 5), torch.randn(2, B, N, K).mul(3).softmax(-1)
    begins = N * torch.arange(B)[:, None]
    matches = [(match_by_features(x, teacher) + begins)[..., None] for x in features]
    each = [weight[..., None] for weight in weights]
    ours = region_loss(students, matches, each, N, w, targets.flatten(0, 2).split(7), 0.1)
    views = [one for group in zip(features, students, weights, strict=True) for one in zip(*group, strict=True)]
    plain = plain_region_loss(views, teacher, targets, w, 0.1)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    wanted = [*students, w]
    for mine, expected in zip(torch.autograd.grad(ours, wanted), torch.autograd.grad(plain, wanted), strict=True):
        torch.testing.assert_close(mine, expected, atol=1e-5, rtol=1e-5)


def test_a_region_of_weight_zero_teaches_nothing():
    torch.manual_seed(1)
    z, w = torch.randn(2, B, N, D, requires_grad=True), torch.randn(K, D)
    match = torch.randint(N, (2, 2, B, N, 1))
    weight = torch.full((2, B, N, 1), 1 / (N - 1))
    weight[:, :, 2] = 0.0
    region_loss([z], [match], [weight], N, w, torch.rand(2 * B * N, K).softmax(-1).split(4)).backward()
    assert z.grad[:, :, 2].abs().max() == 0
    assert z.grad[:, :, 3].abs().max() > 0
