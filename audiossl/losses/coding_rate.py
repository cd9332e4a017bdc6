"""Total coding rate: how much room the clips of a batch take up on the sphere; EMP-SSL makes it large.

R(Z) = 1/2 logdet(I + a Z^T Z), a = d / (B eps), of the B projections of one patch of each clip, rows of length one. The
determinant is the same with Z Z^T, so the smaller of the two sides is taken: B x B for the paper's 100 clips of 1,024
numbers, at a fortieth of the arithmetic. With the Cholesky factor L of that matrix, R is the sum of log diag L, and its
gradient a (I + a Z Z^T)^-1 Z needs nothing else. The matrix is the identity plus one without negative eigenvalues, so
that it has a factor whatever Z is.

[0] Tong et al., EMP-SSL: Towards Self-Supervised Learning in One Training Epoch, 2023; eps = 0.2.
[1] Yu et al., Learning Diverse and Discriminative Representations via the Principle of Maximal Coding Rate Reduction,
    NeurIPS 2020; there eps is squared, in EMP-SSL's code it is not, and neither here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from audiossl.errors import UserError
from audiossl.losses.gather import gather_clips
from audiossl.losses.projections import at_least_float32, checked

CHUNK = 2**22  # numbers in the Gram matrices that are worked on at a time, 16 MB of float32


def coding_rate(z: Tensor, eps: float = 0.2, gather: bool = False) -> Tensor:
    """Coding rate of each patch over the different clips of the batch, (P,), in nats; its mean is to be made large.

    Two patches of one clip are never in one group. Computed in float32, also under autocast; it can be differentiated
    once (a RuntimeError otherwise). Beyond z and its gradient it keeps P min(B, d)^2 numbers for the backward pass, no
    more than z has, and needs a few times 16 MB while it works. Where z is not finite, the rate is not a number either.

    Over W processes either `gather` their clips, which is one process with W B clips, loss and gradients (see
    `gather_clips`); or leave it, when each process has the rate of its own clips, and weigh other terms by
    `max_coding_rate` of B clips rather than W B.

    Args:
        z: projections, rows of length one (see `audiossl.losses.projections.unit_rows`), (P, B, d).
        eps: how coarsely the rows are coded: above 0, and the coarser the larger.
        gather: over the clips of all processes.

    Raises UserError when eps is not above 0, z is not (P, B, d) with at least one of each, or processes hold batches of
    different sizes.

    >>> coding_rate(torch.eye(3, 8).expand(2, -1, -1), eps=0.5)  # orthogonal clips: the most that three can have
    tensor([2.7687, 2.7687])
    >>> max_coding_rate(3, 8, eps=0.5)
    2.7687...
    """
    _check_eps(eps)
    z = checked(z)
    if gather:
        z = gather_clips(z, dim=1)
    _, n_clips, dim = z.shape
    with torch.autocast(z.device.type, enabled=False):
        rate: Tensor = _CodingRate.apply(_smaller_side_first(z), dim / (n_clips * eps))
        return rate


def max_coding_rate(n_clips: int, dim: int, eps: float = 0.2) -> float:
    """Largest coding rate that B clips of d numbers can have, in nats: r/2 ln(1 + d / (r eps)), r = min(B, d).

    It is reached by orthogonal rows, or for B > d by rows that fill all directions evenly. EMP-SSL's weight of 200 for
    the invariance is 1.01 times this at its 100 clips and 1,024 numbers: as a multiple of it, a weight means the same
    at every batch and width.

    Raises UserError when eps, n_clips or dim is not above 0.

    >>> round(max_coding_rate(100, 1024), 1)
    197.8
    """
    _check_eps(eps)
    for name, value in (("n_clips", n_clips), ("dim", dim)):
        if value < 1:
            raise UserError(f"{name} is {value}: give at least 1")
    rank = min(n_clips, dim)
    return rank / 2 * math.log1p(dim / (rank * eps))


def collapse_coding_rate(dim: int, eps: float = 0.2) -> float:
    """Coding rate when all clips have the same projection of d numbers, in nats: 1/2 ln(1 + d / eps), for any batch.

    Raises UserError when eps or dim is not above 0.

    >>> round(collapse_coding_rate(1024), 2)
    4.27
    """
    return max_coding_rate(1, dim, eps)


@torch.no_grad()
def effective_rank(z: Tensor) -> Tensor:
    """How many directions the rows of each group fill, (P,), from 1 to min(B, d); a monitor, without gradient.

    e to the entropy of the Gram matrix's eigenvalues, taken as shares of their sum (Roy and Vetterli, The effective
    rank, 2007). RankMe (Garrido et al., 2023) takes their roots, which give larger numbers. 0 for rows of zeros,
    NaN for rows that are not finite.

    Shape: (..., B, d) to (...).

    >>> effective_rank(torch.eye(3, 8)), effective_rank(torch.ones(3, 8))
    (tensor(3.), tensor(1.0000))
    """
    with torch.autocast(z.device.type, enabled=False):
        x = _smaller_side_first(at_least_float32(z))
        gram = x @ x.mT
        finite = gram.isfinite().all(-1).all(-1)  # of others eigenvalues are refused with an error
        eigenvalues = torch.linalg.eigvalsh(gram.where(finite[..., None, None], 0.0)).clamp(min=0.0)
    total = eigenvalues.sum(-1, keepdim=True)
    entropy = torch.special.entr(eigenvalues / total).sum(-1)
    rank: Tensor = entropy.exp().where(total[..., 0] > 0.0, 0.0).where(finite, torch.nan)
    return rank


class _CodingRate(torch.autograd.Function):
    """Sum of log diag L for x (P, n, m), n <= m, with L L^T = I + scale x x^T; L is kept for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        n_groups, n, _ = x.shape
        rate, factors = x.new_empty(n_groups), x.new_empty(n_groups, n, n)
        identity = torch.eye(n, dtype=x.dtype, device=x.device)
        for part in _chunks(n_groups, n):
            factor = _cholesky(torch.baddbmm(identity, x[part], x[part].mT, alpha=scale))
            rate[part] = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            factors[part] = factor
        ctx.save_for_backward(x, factors)
        ctx.scale = scale
        return rate

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        if torch.is_grad_enabled():  # what follows would be taken for a constant, and its derivative for zero
            raise RuntimeError("coding_rate can be differentiated once only: leave create_graph=True away")
        x, factors = ctx.saved_tensors
        gradient = torch.empty_like(x)
        with torch.autocast(x.device.type, enabled=False):  # `backward` may be called where it is on
            for part in _chunks(*factors.shape[:2]):
                # Five times as fast on a CPU as solving for each column of x, and as exact: no eigenvalue is below 1.
                inverse = torch.cholesky_inverse(factors[part])
                inverse *= (ctx.scale * grad[part])[:, None, None]
                torch.bmm(inverse, x[part], out=gradient[part])
        return gradient, None


def _cholesky(matrix: Tensor) -> Tensor:
    """Factors of I + a G (P, n, n), and NaN where there is none.

    Rounding can take the smallest eigenvalue below zero where clips are much alike and d / eps is some 1e8 or more, ten
    thousand times EMP-SSL's: then a little is added to the diagonal, and more if that was not enough. The rate is too
    large by it, but there is one.
    """
    factor: Tensor
    info: Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    jitter = matrix.diagonal(dim1=-2, dim2=-1).amax(-1) * (matrix.shape[-1] * torch.finfo(matrix.dtype).eps)
    for more in (1.0, 10.0, 100.0):
        if not info.any():
            return factor
        shift = torch.where(info > 0, more * jitter, 0.0)
        factor, info = torch.linalg.cholesky_ex(matrix + torch.diag_embed(shift[:, None].expand(matrix.shape[:2])))
    return factor.where((info == 0)[:, None, None], torch.nan)


def _chunks(n_groups: int, n: int) -> Iterator[slice]:
    """Slices of groups whose n x n matrices may be worked on at once."""
    step = max(1, CHUNK // n**2)
    return (slice(at, at + step) for at in range(0, n_groups, step))


def _smaller_side_first(z: Tensor) -> Tensor:
    """Rows or columns, whichever are fewer, as the last axis but one: x x^T is then the smaller Gram matrix."""
    return z if z.shape[-2] <= z.shape[-1] else z.mT


def _check_eps(eps: float) -> None:
    if not 0.0 < eps < math.inf:
        raise UserError(f"eps is {eps:g}: give a number above 0, such as EMP-SSL's 0.2")
