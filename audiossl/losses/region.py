"""The region loss of EsViT: a region should have the prototypes of the teacher's region that it is matched to.

Li et al., EsViT, ICLR 2022, section 3.2; `audiossl.losses.match` says which region that is.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from audiossl.losses.dino import pair_weights
from audiossl.losses.prototypes import prototype_cross_entropy


def region_loss(
    students: list[Tensor],
    matches: list[Tensor],
    weights: list[Tensor],
    n_teacher_regions: int,
    prototypes: Tensor,
    targets: Iterable[Tensor],
    temperature: float = 0.1,
) -> Tensor:
    """Mean over pairs of views and clips of the weighted mean over regions of the cross-entropy, a scalar.

    Args:
        students: embeddings (V, B, P, d) of the student's head, a tensor for each size of view, global views first.
        matches: for each of them the M regions of each teacher's view that a region answers to, (G, V, B, P, M), as
            numbers b N + n of region n of clip b: its own clip's, and where another was mixed in, that one's.
        weights: for each of them how much a region counts with each of these, (V, B, P, M), with a sum of one in every
            view; 1 / P for the paper's plain mean.
        n_teacher_regions: N, regions of a global view.
        prototypes: the head's prototypes, (K, d).
        targets: of the teacher, (G B N, K), the first view's first clip first, in blocks of rows.
        temperature: divides the student's logits.

    >>> student, even = torch.randn(2, 4, 6, 3), torch.full((2, 4, 6, 1), 1 / 6)
    >>> match = torch.randint(6, (2, 2, 4, 6, 1)) + 6 * torch.arange(4)[:, None, None]
    >>> targets = torch.randn(2 * 4 * 6, 7).softmax(-1)
    >>> region_loss([student], [match], [even], 6, torch.randn(7, 3), [targets]).shape
    torch.Size([])
    """
    n_teacher_views, n_views, n_clips = len(matches[0]), sum(map(len, students)), students[0].shape[1]
    device = prototypes.device
    # Where the regions of each teacher's view begin among all targets: (G, 1, 1, 1, 1).
    begins = torch.arange(n_teacher_views, device=device).view(-1, 1, 1, 1, 1) * (n_clips * n_teacher_regions)
    rows, targets_of_rows, weights_of_rows, first = [], [], [], 0
    for student, match, weight in zip(students, matches, weights, strict=True):
        views = torch.arange(first, first + len(student), device=device)
        pairs = pair_weights(views, n_teacher_views, n_views)[:, None, None, None] / n_clips  # (V, 1, 1, 1, G)
        rows.append(student.flatten(0, 2))
        targets_of_rows.append((match + begins).movedim(0, -1).flatten(3).flatten(0, 2))  # (V B P, M G)
        weights_of_rows.append((weight[..., None] * pairs).flatten(3).flatten(0, 2))
        first += len(student)
    return prototype_cross_entropy(
        torch.cat(rows),
        torch.cat(targets_of_rows),
        torch.cat(weights_of_rows),
        prototypes,
        targets,
        n_teacher_views * n_clips * n_teacher_regions,
        temperature,
    )
