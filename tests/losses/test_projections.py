"""Rows of length one in float32: against the formula, under autocast, where there is nothing to normalise."""

import pytest
import torch

from audiossl.losses.projections import checked, unit_rows


def test_rows_have_length_one_and_their_direction():
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(unit_rows(x), x / x.square().sum(-1, keepdim=True).sqrt())
    assert torch.autograd.gradcheck(unit_rows, (x.requires_grad_(),))


def test_rows_of_zeros_stay_zero():
    torch.testing.assert_close(unit_rows(torch.tensor([[3.0, -4.0], [0.0, 0.0]])), torch.tensor([[0.6, -0.8], [0, 0]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_is_widened_before_it_is_divided(dtype):
    x = torch.randn(2, 6, 64).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        z = unit_rows(x)
    assert z.dtype == checked(x).dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(2, 6), atol=1e-6, rtol=0.0)


def test_float64_is_kept():
    x = torch.randn(1, 2, 3, dtype=torch.float64)
    assert unit_rows(x).dtype == checked(x).dtype == torch.float64
