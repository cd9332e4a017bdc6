"""Cross-entropy between targets over K prototypes and a student's logits, which are never all stored.

With embeddings z, prototypes W (K, d) and targets q that sum to one, the cross-entropy -<q, log softmax(W z / t)> is
logsumexp(W z / t) - <q, W z> / t. It is linear in the targets: those of one student row are summed first, weighted, and
the row is looked at once, however many it has. Rows are taken a few at a time, and their gradient is found on the way:
softmax minus summed targets is all that it needs of K numbers a row, so that neither logits nor probabilities outlive
their chunk. This is exact: only the order of the sums differs from the plain formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from audiossl.losses.products import float32_products

# Logits at a time. On a CPU 16 MB of them, which the allocator hands out again without asking the system for fresh
# pages: 64 rows of 65,536 prototypes, where the matrix products already run at full speed. Elsewhere 256 MB, so that
# few kernels are started; this was not measured yet.
CPU_CHUNK, DEVICE_CHUNK = 2**22, 2**26


def chunks(n_rows: int, prototypes: Tensor) -> Iterator[slice]:
    """Slices of rows whose logits over the prototypes (K, d) may be held at once.

    >>> list(chunks(3, torch.zeros(2**21, 1)))
    [slice(0, 2, None), slice(2, 4, None)]
    """
    size = CPU_CHUNK if prototypes.device.type == "cpu" else DEVICE_CHUNK
    step = max(1, size // len(prototypes))
    return (slice(at, at + step) for at in range(0, n_rows, step))


def prototype_cross_entropy(
    embeddings: Tensor,
    matches: Tensor,
    weights: Tensor,
    prototypes: Tensor,
    targets: Iterable[Tensor],
    n_targets: int,
    temperature: float,
) -> Tensor:
    """Weighted sum over student rows r and their targets of -<q, log softmax(W z_r / t)>, a scalar.

    Computed in float32, also under autocast (`audiossl.losses.products`); under autocast to bf16 the products that give
    the gradients have factors of bf16, as any layer's would. It can be differentiated once, with respect to embeddings
    and prototypes.

    Args:
        embeddings: of the student's rows, z (R, d).
        matches: which targets a row has, (R, M), from 0 to N - 1.
        weights: of those targets, (R, M); 0 for none. No gradient flows to them.
        prototypes: the last layer's weight as it acts, W (K, d).
        targets: q (N, K), rows that sum to one, in blocks of rows one after the other; each block is asked for once.
        n_targets: N.
        temperature: of the student, t.

    Raises ValueError when there are not N rows of targets.

    >>> z, w, q = torch.randn(3, 4), torch.randn(5, 4), torch.randn(3, 5).softmax(-1)
    >>> own, third = torch.arange(3)[:, None], torch.full((3, 1), 1 / 3)
    >>> loss = prototype_cross_entropy(z, own, third, w, q.split(2), 3, temperature=0.5)
    >>> bool(loss.isclose(torch.nn.functional.cross_entropy(z @ w.T / 0.5, q), rtol=1e-4))
    True
    """
    device = prototypes.device.type
    factors = torch.float32
    if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
        factors = torch.bfloat16  # and not fp16, whose range ends where these small gradients begin
    wanted = torch.is_grad_enabled() and (embeddings.requires_grad or prototypes.requires_grad)
    with torch.no_grad():
        stored = _store(targets, n_targets, len(prototypes), prototypes.device)
    loss: Tensor = _PrototypeCrossEntropy.apply(
        embeddings.float(),
        matches,
        weights.float(),
        prototypes.float(),
        stored,
        temperature,
        factors if wanted else None,
    )
    return loss


def _store(targets: Iterable[Tensor], n_rows: int, n_prototypes: int, device: torch.device) -> Tensor:
    """Blocks of targets as one matrix (N, K), made without a second copy of it."""
    stored = torch.empty(n_rows, n_prototypes, device=device)
    n_found = 0
    for block in targets:
        end = n_found + len(block)
        if end <= n_rows:
            stored[n_found:end] = block
        n_found = end
        del block  # before the next one is made
    if n_found != n_rows:
        raise ValueError(f"{n_found} rows of targets, where {n_rows} are matched")
    return stored


class _PrototypeCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass; `backward` only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        matches: Tensor,
        weights: Tensor,
        prototypes: Tensor,
        targets: Tensor,
        temperature: float,
        factors: torch.dtype | None,
    ) -> Tensor:
        total = embeddings.new_zeros(())
        gradients = None
        if factors is not None:
            gradients = torch.empty_like(embeddings), torch.zeros_like(prototypes)
            rounded = prototypes.to(factors)
        for rows in chunks(len(embeddings), prototypes):
            z, weight = embeddings[rows] / temperature, weights[rows]
            with float32_products(z.device):
                logits = torch.mm(z, prototypes.T)
            # Minus the sum of the row's targets.
            surplus = functional.embedding_bag(matches[rows], targets, mode="sum", per_sample_weights=-weight)
            share = weight.sum(1, keepdim=True)
            peak = logits.amax(1, keepdim=True)
            total += torch.dot(surplus.flatten(), logits.flatten())
            probability = logits.softmax(1)
            del logits
            # The largest probability is at least 1 / K, so that its logarithm is exact where others have vanished.
            total += (share * (peak - probability.amax(1, keepdim=True).log())).sum()
            if gradients is not None:
                surplus = surplus.addcmul_(probability, share).to(factors)
                with float32_products(z.device):
                    gradients[0][rows] = torch.mm(surplus, rounded)
                    if factors == torch.float32:  # without a matrix (K, d) in between
                        gradients[1].addmm_(surplus.T, z)
                    else:
                        gradients[1].add_(torch.mm(surplus.T, z.to(factors)))
            del probability, surplus
        if gradients is not None:
            ctx.save_for_backward(gradients[0].div_(temperature), gradients[1])
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # what follows would be taken for a constant, and its derivative for zero
            raise RuntimeError("the cross-entropy can be differentiated once only: leave create_graph=True away")
        of_embeddings, of_prototypes = ctx.saved_tensors
        return grad * of_embeddings, None, None, grad * of_prototypes, None, None, None
