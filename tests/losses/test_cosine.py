"""BYOL's loss against the squared distance of unit vectors, written out."""

import torch
from torch.nn.functional import normalize

from audiossl.losses.cosine import cosine_loss


def test_it_is_the_squared_distance_of_unit_vectors():
    torch.manual_seed(0)
    p, z = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    expected = (normalize(p, dim=-1) - normalize(z, dim=-1)).square().sum(-1).mean()
    torch.testing.assert_close(cosine_loss(p, z), expected)
    torch.testing.assert_close(cosine_loss(7 * p, 0.1 * z), expected)


def test_gradients_flow_into_both_sides_and_are_those_of_the_formula():
    torch.manual_seed(0)
    p, z = (torch.randn(4, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    given = torch.autograd.grad(cosine_loss(p, z), (p, z))
    distance = (p / p.norm(dim=1, keepdim=True) - z / z.norm(dim=1, keepdim=True)).square().sum(1).mean()
    for mine, theirs in zip(given, torch.autograd.grad(distance, (p, z)), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


def test_it_is_computed_in_float32_under_autocast():
    p, z = torch.randn(4, 8), torch.randn(4, 8)
    with torch.autocast("cpu", torch.bfloat16):
        low = cosine_loss(p, z)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, cosine_loss(p, z))
