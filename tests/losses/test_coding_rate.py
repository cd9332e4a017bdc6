"""The coding rate against its d x d form and float64, its bounds and its sign, what is stored, where it would break."""

import math

import pytest
import torch
import torch.nn.functional as F

from audiossl.errors import UserError
from audiossl.losses import coding_rate as module
from audiossl.losses.coding_rate import coding_rate, collapse_coding_rate, effective_rank, max_coding_rate
from audiossl.losses.projections import unit_rows

SHAPES = pytest.mark.parametrize("shape", [(3, 7, 20), (3, 12, 12), (3, 20, 7), (1, 1, 5), (2, 4, 1)])


def plain(z, eps=0.2):
    """R of each patch as the paper writes it: a d x d determinant."""
    _, n_clips, dim = z.shape
    identity = torch.eye(dim, dtype=z.dtype)
    return torch.stack([0.5 * torch.logdet(identity + dim / (n_clips * eps) * rows.T @ rows) for rows in z])


def leaf(*shape, dtype=torch.float32):
    return unit_rows(torch.randn(*shape, dtype=dtype)).requires_grad_()


def relative_error(a, b):
    return ((a - b).norm() / b.norm()).item()


@SHAPES
def test_equals_the_determinant_of_the_formula(shape):
    z = leaf(*shape)
    for eps in (0.2, 0.01):
        torch.testing.assert_close(coding_rate(z, eps), plain(z, eps), atol=1e-4, rtol=1e-5)


@SHAPES
def test_gradient_equals_the_formulas_in_float64(shape):
    z = leaf(*shape)
    exact = z.detach().double().requires_grad_()
    weights = torch.arange(1.0, 1.0 + shape[0])  # patches that count differently
    (mine,) = torch.autograd.grad((weights * coding_rate(z)).sum(), z)
    (expected,) = torch.autograd.grad((weights.double() * plain(exact)).sum(), exact)
    assert mine.dtype == torch.float32
    assert relative_error(mine.double(), expected) < 1e-5


def test_values_and_gradients_at_the_size_of_the_paper():
    z = leaf(2, 100, 1024)
    exact = z.detach().double().requires_grad_()
    mine, expected = coding_rate(z), plain(exact)
    torch.testing.assert_close(mine.double(), expected, atol=1e-4, rtol=0.0)
    a, b = torch.autograd.grad(mine.sum(), z)[0], torch.autograd.grad(expected.sum(), exact)[0]
    assert relative_error(a.double(), b) < 1e-5


@SHAPES
def test_gradcheck(shape):
    assert torch.autograd.gradcheck(coding_rate, (leaf(*shape, dtype=torch.float64),))


def test_gradcheck_through_the_normalisation_where_rows_are_strided():
    x = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: coding_rate(unit_rows(x.transpose(0, 1)), eps=0.5), (x,))


def test_a_second_derivative_is_refused():
    z = leaf(2, 4, 6)
    with pytest.raises(RuntimeError, match="coding_rate can be differentiated once only"):
        torch.autograd.grad(coding_rate(z).sum(), z, create_graph=True)


@pytest.mark.parametrize("n_clips", [1, 5, 8])
def test_orthogonal_clips_reach_the_maximum_and_equal_ones_the_floor(n_clips):
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    orthogonal, equal = turn[None, :n_clips], turn[:1].expand(1, n_clips, -1)
    assert coding_rate(orthogonal).item() == pytest.approx(max_coding_rate(n_clips, 8))
    assert coding_rate(equal).item() == pytest.approx(collapse_coding_rate(8))
    assert coding_rate(leaf(1, n_clips, 8)).item() <= max_coding_rate(n_clips, 8) + 1e-5


def test_more_clips_than_numbers_reach_the_maximum_when_all_directions_are_even():
    z = torch.eye(4).repeat(3, 1)[None]
    assert coding_rate(z).item() == pytest.approx(max_coding_rate(12, 4), rel=1e-6)
    assert max_coding_rate(12, 4) == pytest.approx(4 / 2 * math.log(1 + 1 / 0.2))


def test_the_constants_of_emp_ssl():
    assert max_coding_rate(100, 1024) == pytest.approx(100 / 2 * math.log(1 + 1024 / (100 * 0.2)))
    assert [round(max_coding_rate(b, 1024), 1) for b in (32, 64, 100, 256)] == [81.3, 140.6, 197.8, 389.7]
    assert collapse_coding_rate(1024) == pytest.approx(0.5 * math.log(1 + 1024 / 0.2))
    assert coding_rate(unit_rows(torch.ones(1, 100, 1024))).item() == pytest.approx(4.27, abs=0.005)


def test_climbing_it_drives_different_clips_apart():
    # A public port has the sign turned round, which draws all clips together.
    free = (torch.randn(4, 1, 16) + 0.3 * torch.randn(4, 12, 16)).requires_grad_()
    optimizer = torch.optim.SGD([free], lr=5.0)

    def largest_cosine():
        z = unit_rows(free.detach())
        return (z @ z.mT - 2.0 * torch.eye(12)).amax().item()

    rate, cosine = coding_rate(unit_rows(free)).detach(), largest_cosine()
    for _ in range(100):
        optimizer.zero_grad()
        (-coding_rate(unit_rows(free)).mean()).backward()
        optimizer.step()
    after = coding_rate(unit_rows(free))
    assert (after > rate + 1.0).all()
    assert (after > 0.99 * max_coding_rate(12, 16)).all()
    assert largest_cosine() < 0.3 < cosine


def test_patches_of_one_clip_never_share_a_group():
    # Equal patches of orthogonal clips: the most there can be, where groups of one clip's patches would have the least.
    z = torch.eye(6).expand(4, -1, -1)
    torch.testing.assert_close(coding_rate(z), torch.full((4,), max_coding_rate(6, 6)))
    assert coding_rate(z.transpose(0, 1)).amax().item() == pytest.approx(collapse_coding_rate(6), rel=1e-5)
    z = leaf(3, 5, 8)
    (gradient,) = torch.autograd.grad(coding_rate(z)[1], z)
    assert gradient[1].abs().amax() > 0.0
    assert (gradient[[0, 2]] == 0.0).all()


def test_the_order_of_clips_and_a_turn_of_the_space_change_nothing():
    z = leaf(3, 5, 8)
    turn = torch.linalg.qr(torch.randn(8, 8)).Q
    for other in (z[:, torch.randperm(5)], z @ turn, -z):
        torch.testing.assert_close(coding_rate(other), coding_rate(z), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 4, 9), (5, 9, 4)])
@pytest.mark.parametrize("at_a_time", [0.5, 2, 100])
def test_chunks_of_any_size_give_the_same(shape, at_a_time, monkeypatch):
    z = leaf(*shape)
    whole = coding_rate(z)
    (expected,) = torch.autograd.grad(whole.sum(), z)
    monkeypatch.setattr(module, "CHUNK", int(at_a_time * 4**2))
    mine = coding_rate(z)
    torch.testing.assert_close(mine, whole)
    torch.testing.assert_close(torch.autograd.grad(mine.sum(), z)[0], expected)


@pytest.mark.parametrize("shape", [(3, 6, 40), (3, 40, 6)])
def test_only_matrices_of_the_smaller_side_are_kept(shape):
    kept = []
    z = leaf(*shape)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        rate = coding_rate(z)
    rate.sum().backward()
    matrices = [shape for shape in kept if shape.numel() > z.shape[0]]
    assert sorted(shape.numel() for shape in matrices) == [3 * 6 * 6, z.numel()]


def nearly_alike(*shape):
    return torch.ones(shape) + 0.02 * torch.randn(*shape)


@pytest.mark.parametrize("make", [torch.randn, nearly_alike])
def test_under_autocast_a_projection_in_bf16_is_measured_in_float32(make):
    x = make(2, 30, 64).bfloat16()
    exact = x.double().requires_grad_()
    expected = plain(exact / exact.norm(dim=-1, keepdim=True))
    (slope,) = torch.autograd.grad(expected.sum(), exact)
    wide = x.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        mine = coding_rate(unit_rows(x))
        (gradient,) = torch.autograd.grad(coding_rate(unit_rows(wide)).sum(), wide)  # backward under autocast as well
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine.double(), expected.detach(), atol=1e-4, rtol=0.0)
    assert relative_error(gradient.double(), slope) < 1e-3
    z = F.normalize(x, dim=-1)
    in_bf16 = torch.linalg.slogdet(torch.eye(30) + 64 / (30 * 0.2) * (z @ z.mT).float()).logabsdet / 2
    assert (in_bf16 - expected).abs().amax() > 1e-2  # what this test would see


def test_a_matrix_that_rounding_made_indefinite_gets_a_factor():
    z = unit_rows(torch.ones(2, 100, 256) + 1e-3 * torch.randn(2, 100, 256))
    z = torch.cat([z, torch.eye(100, 256)[None]]).requires_grad_()
    scale = 256 / (100 * 1e-7)
    info = torch.linalg.cholesky_ex(torch.eye(100) + scale * z @ z.mT).info
    assert info.bool().tolist() == [True, True, False]  # the case is one
    rate = coding_rate(z, eps=1e-7)
    rate.sum().backward()
    assert rate.isfinite().all()
    assert z.grad.isfinite().all()
    assert rate[2].item() == pytest.approx(max_coding_rate(100, 256, 1e-7), rel=1e-5)
    assert torch.equal(rate[2:], coding_rate(z[2:], eps=1e-7))  # left as it was
    exact = plain(z[:2].detach().double(), 1e-7)
    assert ((rate[:2] > exact) & (rate[:2] < 2.0 * exact)).all()  # too large, as said, but no more than that


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_stays_visible(value):
    z = leaf(3, 4, 6).detach()
    z[1, 2, 3] = value
    assert coding_rate(z).isfinite().tolist() == [True, False, True]


@pytest.mark.parametrize("eps", [0.0, -0.2, math.nan, math.inf])
def test_eps_must_be_above_zero(eps):
    for call in (lambda: coding_rate(leaf(1, 2, 3), eps), lambda: max_coding_rate(2, 3, eps)):
        with pytest.raises(UserError, match=r"^eps is .*: give a number above 0"):
            call()
    with pytest.raises(UserError, match="eps is"):
        collapse_coding_rate(3, eps)


def test_shapes_that_hold_nothing_are_refused():
    for shape in [(4, 6), (0, 4, 6), (3, 0, 6), (3, 4, 0)]:
        with pytest.raises(UserError, match=r"^z has shape .*\(P, B, d\)"):
            coding_rate(torch.zeros(shape))
    with pytest.raises(UserError, match="n_clips is 0"):
        max_coding_rate(0, 4)


@pytest.mark.parametrize("shape", [(3, 7, 20), (3, 20, 7)])
def test_effective_rank_is_e_to_the_entropy_of_the_spectrum(shape):
    z = leaf(*shape)
    share = torch.linalg.svdvals(z.detach().double()).square()
    share /= share.sum(-1, keepdim=True)
    expected = torch.exp(-(share * share.log()).sum(-1))
    mine = effective_rank(z)
    assert not mine.requires_grad
    torch.testing.assert_close(mine.double(), expected, atol=1e-4, rtol=1e-4)


def test_effective_rank_does_not_know_how_long_the_rows_are():
    z = leaf(3, 7, 20).detach()
    for scale in (1e-4, 1e3):
        torch.testing.assert_close(effective_rank(scale * z), effective_rank(z), atol=1e-3, rtol=1e-3)


def test_effective_rank_counts_directions():
    z = torch.stack([torch.eye(8)[[0, 1, 2, 0, 1, 2]], torch.eye(8)[[5] * 6], torch.zeros(6, 8)])
    torch.testing.assert_close(effective_rank(z), torch.tensor([3.0, 1.0, 0.0]), atol=1e-4, rtol=1e-4)
