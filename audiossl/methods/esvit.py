"""EsViT: a student learns to see in every view of a clip, and in its regions, what a slow teacher sees in others.

[0] Li et al., Efficient Self-supervised Vision Transformers for Representation Learning, ICLR 2022.
[1] Caron et al., Emerging Properties in Self-Supervised Vision Transformers (DINO), 2021: the view loss.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from audiossl.backbones import Backbone
from audiossl.errors import UserError
from audiossl.heads import DinoHead
from audiossl.losses.dino import Centre, sinkhorn_knopp, view_loss
from audiossl.losses.koleo import koleo_loss
from audiossl.losses.region import Regions, region_loss
from audiossl.transforms.views import Views


@dataclass
class EsViTConfig:
    """EsViT's settings; the defaults are the paper's for ImageNet, the presets' are for sets of clips."""

    # K, for views and for regions alike.
    n_prototypes: int = 65536
    # Widths of the heads' hidden layers and of the vector that is compared with the prototypes.
    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    # Batch norm in the heads: on small data learning begins much earlier with it.
    head_batch_norm: bool = False
    # Prototypes keep length one; otherwise their lengths are learned.
    norm_last_layer: bool = False
    # Weight of the region loss, that of the view loss being one minus it; 0 leaves it out.
    region_weight: float = 0.5
    student_temperature: float = 0.1
    # The teacher's temperature rises in a straight line from the first value to the second, over so many epochs.
    teacher_temperature: float = 0.04
    teacher_temperature_end: float = 0.07
    teacher_temperature_epochs: float = 30.0
    # The teacher's momentum goes over half a cosine from the first value to the second, over the run.
    momentum: float = 0.996
    momentum_end: float = 1.0
    # centre: DINO's running mean; sinkhorn: Sinkhorn-Knopp over the batch, as in SwAV and DINOv2.
    centring: Literal["centre", "sinkhorn"] = "centre"
    centre_momentum: float = 0.9
    # Weight of KoLeo, which spreads the student's global features (DINOv2: 0.1).
    koleo: float = 0.0
    # The prototypes stand still for so many epochs.
    freeze_last_layer_epochs: float = 1.0

    def __post_init__(self) -> None:
        """Raise `UserError` for values that the method has no meaning for."""
        if self.n_prototypes < 2:
            raise UserError(f"--method.n_prototypes must be at least 2, found {self.n_prototypes}.")
        if not 0.0 <= self.region_weight <= 1.0:
            raise UserError(f"--method.region_weight must be from 0 to 1, found {self.region_weight}.")
        for name in ("student_temperature", "teacher_temperature", "teacher_temperature_end"):
            if not getattr(self, name) > 0.0:
                raise UserError(f"--method.{name} must be above 0, found {getattr(self, name)}.")


class Output(NamedTuple):
    """What a method gives for a batch: the loss to minimise and numbers to log, all scalars on the device."""

    loss: Tensor
    logs: dict[str, Tensor]


class Seen(NamedTuple):
    """What a branch makes of views of one size: features (V B, D), logits (V, B, K), regions of the same views."""

    features: Tensor
    logits: Tensor
    regions: Regions | None


class Branch(nn.Module):
    """A backbone and its heads: the student, or the teacher."""

    def __init__(self, backbone: Backbone, config: EsViTConfig):
        super().__init__()
        shape: dict[str, Any] = {
            "n_prototypes": config.n_prototypes,
            "hidden_dim": config.hidden_dim,
            "bottleneck_dim": config.bottleneck_dim,
            "batch_norm": config.head_batch_norm,
            "norm_last_layer": config.norm_last_layer,
        }
        self.backbone = backbone
        self.head = DinoHead(backbone.feature_dim, **shape)
        self.region_head = DinoHead(backbone.dim, **shape) if config.region_weight else None

    def forward(self, images: list[Tensor], n_clips: int) -> list[Seen]:
        """See views grouped by size, each group (V B, C, F, T)."""
        outputs = [self.backbone(group) for group in images]
        # One call of the head for all views, whatever their size: batch norm sees them together.
        logits = self.head(torch.cat([output.features for output in outputs]))
        logits = logits.unflatten(0, (-1, n_clips))
        counts = [len(group) // n_clips for group in images]
        seen = []
        for output, view_logits in zip(outputs, logits.split(counts), strict=True):
            regions = None
            if self.region_head is not None:
                scores = self.region_head(output.patches).unflatten(0, (-1, n_clips))
                regions = Regions(output.patches.unflatten(0, (-1, n_clips)), scores)
            seen.append(Seen(output.features, view_logits, regions))
        return seen


class EsViT(nn.Module):
    """Student, teacher, heads, losses and centres as one module, so that a wrapper sees a single forward.

    The teacher begins as a copy of the student, without stochastic depth, and follows it by `update_teacher`. Its
    batch norms use the statistics of its own batch while training, and its running statistics, which `encoder` needs,
    come from the global views it sees.

    Args:
        backbone: the student's network.
        config: see `EsViTConfig`.
        frontend: the front end that the views come from, if it is to be learned: its parameters then belong to the
            method, so that they are optimised, wrapped and saved with the rest.

    Shape: `Views` with global views first to `Output`.
    """

    def __init__(self, backbone: Backbone, config: EsViTConfig, frontend: nn.Module | None = None):
        super().__init__()
        self.config = config
        self.frontend = frontend
        self.student = Branch(backbone, config)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.teacher.backbone.disable_drop_path()
        self.centre = Centre(config.n_prototypes, config.centre_momentum)
        self.region_centre = Centre(config.n_prototypes, config.centre_momentum)

    def forward(self, views: Views, teacher_temperature: float) -> Output:
        """Loss of a batch of views, at the teacher's temperature of this step."""
        config = self.config
        n_clips = views.boxes.shape[1]
        students = self.student(views.images, n_clips)
        with torch.no_grad():
            (teacher,) = self.teacher(views.images[:1], n_clips)
        targets = self._targets(teacher.logits, self.centre, teacher_temperature)
        logits = torch.cat([seen.logits for seen in students])
        loss_of_views = view_loss(logits, targets, config.student_temperature)
        logs = {"view_loss": loss_of_views.detach(), **_teacher_logs(targets, loss_of_views)}
        loss = loss_of_views
        if teacher.regions is not None:
            region_targets = self._targets(teacher.regions.scores, self.region_centre, teacher_temperature)
            loss_of_regions = region_loss(
                [seen.regions for seen in students if seen.regions is not None],
                Regions(teacher.regions.features, region_targets),
                config.student_temperature,
            )
            logs["region_loss"] = loss_of_regions.detach()
            loss = (1.0 - config.region_weight) * loss_of_views + config.region_weight * loss_of_regions
        # Logged without KoLeo: the cross-entropy is what ln K, a uniform output, is compared with.
        logs["loss"] = loss.detach()
        logs["loss_over_ln_k"] = loss.detach() / math.log(config.n_prototypes)
        if config.koleo:
            spread = torch.stack([koleo_loss(view) for view in students[0].features.split(n_clips)]).mean()
            logs["koleo"] = spread.detach()
            loss = loss + config.koleo * spread
        return Output(loss, logs)

    @torch.no_grad()
    def _targets(self, logits: Tensor, centre: Centre, temperature: float) -> Tensor:
        """The teacher's targets for its global views: logits (G, B, ..., K) to rows that sum to one."""
        if self.config.centring == "sinkhorn":
            # Each view on its own: a batch then holds one view of every clip, as equipartition assumes.
            flat = [sinkhorn_knopp(view.flatten(0, -2), temperature) for view in logits]
            return torch.stack(flat).view_as(logits)
        if self.training:
            centre.observe(logits)
        return centre.targets(logits, temperature)

    def prototypes(self) -> Iterator[nn.Parameter]:
        """The student's last layers, which stand still in the first epochs."""
        for head in (self.student.head, self.student.region_head):
            if head is not None:
                yield from head.last_layer.parameters()

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move teacher and centres, once after each optimiser step: teacher <- m teacher + (1 - m) student."""
        teacher: list[Tensor] = list(self.teacher.parameters())
        student: list[Tensor] = list(self.student.parameters())
        torch._foreach_lerp_(teacher, student, 1.0 - momentum)
        self.centre.update()
        self.region_centre.update()

    @property
    def encoder(self) -> Backbone:
        """The part that is kept: the teacher's backbone."""
        return self.teacher.backbone


def _teacher_logs(targets: Tensor, loss_of_views: Tensor) -> dict[str, Tensor]:
    """Mean entropy of the targets and mean KL divergence from student to teacher, in nats.

    The cross-entropy is their sum; both views of the teacher have as many pairs, so that the means agree.
    """
    entropy = -torch.special.xlogy(targets, targets).sum(-1).mean()
    return {"teacher_entropy": entropy, "kl": loss_of_views.detach() - entropy}
