"""The view loss of DINO and EsViT: a view's prototypes should be what the teacher sees in another view of the clip.

[0] Caron et al., Emerging Properties in Self-Supervised Vision Transformers, 2021.
[1] Li et al., Efficient Self-supervised Vision Transformers for Representation Learning (EsViT), ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.losses.products import float32_products
from audiossl.losses.prototypes import chunks, prototype_cross_entropy


def view_pairs(n_teacher_views: int, n_student_views: int) -> list[tuple[int, int]]:
    """Pairs (teacher view, student view) that the losses compare: all but a view with itself.

    The teacher sees the first views of the student, the global ones.

    >>> view_pairs(2, 3)
    [(0, 1), (0, 2), (1, 0), (1, 2)]
    """
    return [(i, v) for i in range(n_teacher_views) for v in range(n_student_views) if i != v]


def pair_weights(views: Tensor, n_teacher_views: int, n_student_views: int) -> Tensor:
    """Weight of each teacher view for student views of these numbers (V,), as a mean over pairs: (V, G).

    >>> pair_weights(torch.arange(3), 2, 3)
    tensor([[0.0000, 0.2500],
            [0.2500, 0.0000],
            [0.2500, 0.2500]])
    """
    n_pairs = len(view_pairs(n_teacher_views, n_student_views))
    return (views[:, None] != torch.arange(n_teacher_views, device=views.device)).float() / n_pairs


def view_loss(
    embeddings: Tensor,
    prototypes: Tensor,
    targets: Iterable[Tensor],
    n_teacher_views: int,
    temperature: float = 0.1,
    partner: Tensor | None = None,
    partner_share: Tensor | None = None,
) -> Tensor:
    """Mean over pairs of views and clips of the cross-entropy between targets and student, a scalar.

    A student's view into which another clip was mixed is asked for both clips' targets, in the shares it shows.

    Args:
        embeddings: of all views by the student's head, (V, B, d).
        prototypes: the head's prototypes, (K, d).
        targets: of the teacher's G global views, (G B, K), the first view first, in blocks of rows.
        n_teacher_views: G.
        temperature: divides the student's logits.
        partner: the clip that was mixed into each clip's views, (B,), if any was.
        partner_share: how much of a view is its partner, (V, B), from 0 to 1.

    >>> targets = torch.randn(2 * 4, 7).softmax(-1)
    >>> view_loss(torch.randn(5, 4, 3), torch.randn(7, 3), targets.split(4), n_teacher_views=2).shape
    torch.Size([])
    """
    n_views, n_clips, _ = embeddings.shape
    weights = pair_weights(torch.arange(n_views, device=embeddings.device), n_teacher_views, n_views) / n_clips
    clip = torch.arange(n_clips, device=embeddings.device)
    first = torch.arange(n_teacher_views, device=embeddings.device) * n_clips  # (G,), where a teacher's view begins
    matches, weights = first + clip[:, None], weights.repeat_interleave(n_clips, 0)  # (B, G), (V B, G)
    if partner is not None and partner_share is not None:
        share = partner_share.reshape(-1, 1)
        matches = torch.cat([matches, first + partner[:, None]], dim=1)
        weights = torch.cat([(1.0 - share) * weights, share * weights], dim=1)
    return prototype_cross_entropy(
        embeddings.flatten(0, 1),
        matches.repeat(n_views, 1),
        weights,
        prototypes,
        targets,
        n_teacher_views * n_clips,
        temperature,
    )


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
    def observe(self, embeddings: Tensor, prototypes: Tensor) -> None:
        """Add the logits of one micro-batch: those of the teacher's embeddings (..., d) over its prototypes (K, d).

        Only their sum is wanted, and the sum of the logits is the logit of the summed embeddings.
        """
        rows = embeddings.flatten(0, -2).float()
        with torch.autocast(rows.device.type, enabled=False):
            total = torch.mv(prototypes.float(), rows.sum(0))
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

    def begin_step(self) -> None:
        """Nothing is observed yet between two updates."""

    def undo_step(self) -> None:
        """Forget what was observed since the last update: the step does not count."""
        self._sum, self._rows = None, 0

    @torch.no_grad()
    def targets(self, embeddings: Tensor, prototypes: Tensor, temperature: float) -> Iterator[Tensor]:
        """Sharpened, centred prototypes of the teacher: softmax((t - c) / temperature), a few rows at a time.

        Shape: embeddings (..., d) of N rows and prototypes (K, d) to blocks (n, K), N rows together.
        """
        scaled = embeddings.flatten(0, -2).float() / temperature
        shift = self.centre / -temperature
        for rows in chunks(len(scaled), prototypes):
            with float32_products(scaled.device):
                logits = torch.addmm(shift, scaled[rows], prototypes.float().T)
            yield logits.softmax(-1)


@torch.no_grad()
def sinkhorn_knopp(teacher_logits: Tensor, temperature: float, n_iterations: int = 3) -> Tensor:
    """Targets that use all prototypes equally over the batch, over all processes: the other cure for collapse.

    Columns and rows of exp(t / temperature) are scaled in turn until every prototype has the same mass and every row
    sums to one (Cuturi, 2013; Caron et al., SwAV, 2020; DINOv2 in place of centring, 3 iterations, one at least). The
    exponentials are of what lies below the largest entry of its column, and then of its row, so that no temperature
    overflows. Of a single row nothing is left but 1 / K everywhere.

    Shape: (B, K) to (B, K), rows summing to one.

    >>> q = sinkhorn_knopp(torch.tensor([[2.0, 0.0], [1.5, 0.0]]), temperature=0.5, n_iterations=50)
    >>> q.sum(0).allclose(torch.ones(2), atol=1e-3), q.sum(1).allclose(torch.ones(2))
    (True, True)
    """
    return _balance(teacher_logits.float() / temperature, n_iterations)


@torch.no_grad()
def sinkhorn_targets(embeddings: Tensor, prototypes: Tensor, temperature: float) -> Iterator[Tensor]:
    """Targets of the teacher's views by Sinkhorn-Knopp, a block of rows (n, K) for each view.

    Each view on its own: a batch then holds one view of every clip, as equipartition assumes, and only one view's
    logits are held at a time.

    Shape: embeddings (G, B, ..., d) and prototypes (K, d) to G blocks.
    """
    for view in embeddings:
        with float32_products(view.device):
            log_q = functional.linear(view.flatten(0, -2).float() / temperature, prototypes.float())
        log_q = _balance(log_q)
        yield log_q
        del log_q  # before the next view's is made


def _balance(log_q: Tensor, n_iterations: int = 3) -> Tensor:
    """Scale the columns and rows of e^log_q in turn, in the memory of `log_q`, in float32 also under autocast."""
    log_q -= _largest_over_all_processes(log_q.amax(0))
    highest = log_q.amax(1)
    # Every row has a one now, which its first weight puts back into its place: where that weight vanishes, the row is
    # nothing beside the row that a column has its largest entry from.
    q, row = log_q.sub_(highest[:, None]).exp_(), highest.exp()
    with torch.autocast(q.device.type, enabled=False):
        for _ in range(n_iterations):
            column = 1.0 / _sum_over_all_processes(torch.mv(q.T, row))
            column /= column.amax()  # rows and columns have other sums: the factors would drift apart without end
            row = 1.0 / torch.mv(q, column)
    return q.mul_(row[:, None]).mul_(column)


def _largest_over_all_processes(column: Tensor) -> Tensor:
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(column, op=torch.distributed.ReduceOp.MAX)
    return column


def _sum_over_all_processes(column: Tensor) -> Tensor:
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(column)
    return column
