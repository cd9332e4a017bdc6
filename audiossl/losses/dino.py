"""The view loss of DINO and EsViT: a view's prototypes should be what the teacher sees in another view of the clip.

[0] Caron et al., Emerging Properties in Self-Supervised Vision Transformers, 2021.
[1] Li et al., Efficient Self-supervised Vision Transformers for Representation Learning (EsViT), ICLR 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def view_pairs(n_teacher_views: int, n_student_views: int) -> list[tuple[int, int]]:
    """Pairs (teacher view, student view) that the losses compare: all but a view with itself.

    The teacher sees the first views of the student, the global ones.

    >>> view_pairs(2, 3)
    [(0, 1), (0, 2), (1, 0), (1, 2)]
    """
    return [(i, v) for i in range(n_teacher_views) for v in range(n_student_views) if i != v]


def view_loss(student_logits: Tensor, targets: Tensor, student_temperature: float = 0.1) -> Tensor:
    """Mean over pairs of views and clips of the cross-entropy between targets and student.

    Since targets sum to one, the cross-entropy -sum_k q_k log softmax(s)_k is logsumexp(s) - <q, s>: one logsumexp a
    student row, and no K-wide product but <q, s>.

    Shape: student_logits (V, B, K) of all views, targets (G, B, K) of the teacher's G global views; gives a scalar.
    """
    logits = student_logits.float() / student_temperature
    log_norm = logits.logsumexp(-1)  # (V, B)
    pairs = view_pairs(len(targets), len(logits))
    terms = [log_norm[v] - (targets[i] * logits[v]).sum(-1) for i, v in pairs]
    return torch.stack(terms).mean()


class Centre(nn.Module):
    """Running mean of the teacher's logits, taken away before its softmax so that no prototype wins everything.

    DINO: c <- m c + (1 - m) mean over the global batch, m = 0.9, after the loss. `observe` collects the logits of
    every micro-batch, `update` moves the centre once an optimiser step and over all processes.

    Shape: buffer centre (K,).
    """

    centre: Tensor

    def __init__(self, n_prototypes: int, momentum: float = 0.9):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(n_prototypes))
        # Not a buffer: DistributedDataParallel would overwrite every rank's own sum with that of rank 0.
        self._sum: Tensor | None = None
        self._rows = 0

    @torch.no_grad()
    def observe(self, teacher_logits: Tensor) -> None:
        """Add the logits (..., K) of one micro-batch."""
        rows = teacher_logits.flatten(0, -2)
        total = rows.sum(0)
        self._sum = total if self._sum is None else self._sum + total
        self._rows += len(rows)

    @torch.no_grad()
    def update(self) -> None:
        """Move the centre by what was observed since the last update; nothing observed, nothing moved."""
        if self._sum is None:
            return
        total = torch.cat([self._sum, self._sum.new_tensor([float(self._rows)])])
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(total)
        self.centre.lerp_(total[:-1] / total[-1], 1.0 - self.momentum)
        self._sum, self._rows = None, 0

    def targets(self, teacher_logits: Tensor, temperature: float) -> Tensor:
        """Sharpened, centred prototypes of the teacher: softmax((t - c) / temperature), of any shape (..., K)."""
        return ((teacher_logits.float() - self.centre) / temperature).softmax(-1)


@torch.no_grad()
def sinkhorn_knopp(teacher_logits: Tensor, temperature: float, n_iterations: int = 3) -> Tensor:
    """Targets that use all prototypes equally over the batch, over all processes: the other cure for collapse.

    Rows and columns of exp(t / temperature) are scaled in turn until every prototype has the same mass and every row
    sums to one (Cuturi, 2013; Caron et al., SwAV, 2020; DINOv2 in place of centring, 3 iterations). Computed in
    logarithms, so that no temperature overflows.

    Shape: (B, K) to (B, K), rows summing to one.

    >>> q = sinkhorn_knopp(torch.tensor([[2.0, 0.0], [1.5, 0.0]]), temperature=0.5, n_iterations=50)
    >>> q.sum(0).allclose(torch.ones(2), atol=1e-3), q.sum(1).allclose(torch.ones(2))
    (True, True)
    """
    log_q = teacher_logits.float() / temperature
    for _ in range(n_iterations):
        log_q = log_q - _log_sum_over_all_rows(log_q)
        log_q = log_q - log_q.logsumexp(1, keepdim=True)
    return log_q.exp()


def _log_sum_over_all_rows(log_q: Tensor) -> Tensor:
    """The logsumexp over the rows of every process, (K,)."""
    if not torch.distributed.is_initialized():
        return log_q.logsumexp(0)
    largest = log_q.amax(0)
    torch.distributed.all_reduce(largest, op=torch.distributed.ReduceOp.MAX)
    total = (log_q - largest).exp().sum(0)
    torch.distributed.all_reduce(total)
    return total.log() + largest
