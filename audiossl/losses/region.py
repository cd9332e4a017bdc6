"""The region loss of EsViT: every region of a view should have the prototypes of the teacher's region most like it.

Regions are matched inside one clip by the cosine of the backbone's region features, from student to teacher, each
region on its own; several may choose the same one (Li et al., EsViT, ICLR 2022, section 3.2).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from audiossl.losses.dino import view_pairs


class Regions(NamedTuple):
    """The regions of views of one size: features (V, B, P, D) and head's logits or targets (V, B, P, K)."""

    features: Tensor
    scores: Tensor


@torch.no_grad()
def match_regions(student: Tensor, teacher: Tensor) -> Tensor:
    """For each student region (B, P, D) the index of the teacher's region (B, N, D) of largest cosine: (B, P)."""
    student = functional.normalize(student.float(), dim=-1)
    teacher = functional.normalize(teacher.float(), dim=-1)
    return torch.bmm(student, teacher.transpose(1, 2)).argmax(-1)


def region_loss(students: list[Regions], teacher: Regions, student_temperature: float = 0.1) -> Tensor:
    """Mean over pairs of views of the cross-entropy between matched regions, itself a mean over clips and regions.

    Args:
        students: groups of views of equal size, global views first, with the head's logits as scores.
        teacher: the global views, with targets that sum to one as scores.
        student_temperature: divides the student's logits.
    """
    terms: list[Tensor] = []
    n_views = sum(len(group.features) for group in students)
    pairs = view_pairs(len(teacher.features), n_views)
    first = 0
    for group in students:
        logits = group.scores.float() / student_temperature
        log_norm = logits.logsumexp(-1)  # (V, B, P), once for all pairs
        for i, v in pairs:
            if not first <= v < first + len(group.features):
                continue
            mine = v - first
            match = match_regions(group.features[mine], teacher.features[i])
            target = teacher.scores[i].gather(1, match[..., None].expand(-1, -1, logits.shape[-1]))
            terms.append((log_norm[mine] - (target * logits[mine]).sum(-1)).mean())
        first += len(group.features)
    return torch.stack(terms).mean()
