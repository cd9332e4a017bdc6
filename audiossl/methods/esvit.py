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
from audiossl.losses.dino import Centre, sinkhorn_targets, view_loss
from audiossl.losses.koleo import koleo_loss
from audiossl.losses.match import Grid, Regions, energy_weights, match_regions, region_means
from audiossl.losses.region import region_loss
from audiossl.methods.output import Output, passes
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
    # Which of the teacher's regions a region answers to. argmax: the most similar one (EsViT). overlap: the one at the
    # same time and frequency where the views overlap, else the most similar one. energy: the most similar one, and
    # regions count by what sounds in them.
    region_matching: Literal["argmax", "overlap", "energy"] = "argmax"
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
        if self.region_matching not in ("argmax", "overlap", "energy"):
            raise UserError(
                f"--method.region_matching must be argmax, overlap or energy, found {self.region_matching!r}."
            )
        for name in ("student_temperature", "teacher_temperature", "teacher_temperature_end"):
            if not getattr(self, name) > 0.0:
                raise UserError(f"--method.{name} must be above 0, found {getattr(self, name)}.")


class Seen(NamedTuple):
    """What a branch makes of views of one size: features (V B, D), embeddings (V, B, d), regions of the same views."""

    features: Tensor
    embeddings: Tensor
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

    def forward(self, views: Views) -> list[Seen]:
        """See the views, one group of a size after the other."""
        n_clips = views.boxes.shape[1]
        outputs = [self.backbone(group) for group in views.images]
        # One call of the head for all views, whatever their size: batch norm sees them together.
        embeddings = self.head.embed(torch.cat([output.features for output in outputs]))
        counts = [len(group) // n_clips for group in views.images]
        by_size = embeddings.unflatten(0, (-1, n_clips)).split(counts)
        seen = []
        for image, output, of_views, boxes in zip(
            views.images, outputs, by_size, views.boxes.split(counts), strict=True
        ):
            regions = None
            if self.region_head is not None:
                patches = output.patches.unflatten(0, (-1, n_clips))
                grid = Grid((image.shape[2], image.shape[3]), self.backbone.stride, output.grid)
                regions = Regions(patches, self.region_head.embed(patches), grid, boxes)
            seen.append(Seen(output.features, of_views, regions))
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
        clip_s: length of the clips in seconds: with `region_matching` energy, what a view shows beyond it has none.

    Shape: `Views` with global views first to `Output`.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: EsViTConfig,
        frontend: nn.Module | None = None,
        clip_s: float = math.inf,
    ):
        super().__init__()
        self.config, self.clip_s = config, clip_s
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
        n_globals = len(views.images[0]) // n_clips
        students = self.student(views)
        with torch.no_grad():
            seen_clean = views.images[0] if views.clean is None else views.clean
            (teacher,) = self.teacher(Views([seen_clean], views.boxes[:n_globals]))
        entropy: list[Tensor] = []
        targets = self._targets(teacher.embeddings, self.teacher.head, self.centre, teacher_temperature)
        loss_of_views = view_loss(
            torch.cat([seen.embeddings for seen in students]),
            self.student.head.prototypes,
            _noting_entropy(targets, entropy),
            n_globals,
            config.student_temperature,
            *_shown_of_partners(views),
        )
        logs = {"view_loss": loss_of_views.detach()}
        # The cross-entropy is entropy plus divergence; each view of the teacher has as many pairs, so the means agree.
        logs["teacher_entropy"] = torch.stack(entropy).sum() / (n_globals * n_clips)
        logs["kl"] = logs["view_loss"] - logs["teacher_entropy"]
        loss = loss_of_views
        if teacher.regions is not None:
            loss_of_regions = self._region_loss(students, teacher.regions, views, teacher_temperature)
            logs["region_loss"] = loss_of_regions.detach()
            loss = (1.0 - config.region_weight) * loss_of_views + config.region_weight * loss_of_regions
        # Logged without KoLeo: the cross-entropy is what ln K, a uniform output, is compared with.
        logs["loss"] = loss.detach()
        logs["loss_over_ln_k"] = loss.detach() / math.log(config.n_prototypes)
        if config.koleo:
            spread = torch.stack([koleo_loss(view) for view in students[0].features.split(n_clips)]).mean()
            logs["koleo"] = spread.detach()
            loss = loss + config.koleo * spread
        logs["passes"] = passes([*views.images, seen_clean], n_clips, self.student.backbone.image_size)
        return Output(loss, logs)

    def _region_loss(self, students: list[Seen], teacher: Regions, views: Views, temperature: float) -> Tensor:
        """The region loss with the matches and weights that the settings ask for."""
        config, mixing = self.config, views.mixing
        by_place = config.region_matching == "overlap"
        embeddings, matches, weights = [], [], []
        for number, (seen, image) in enumerate(zip(students, views.images, strict=True)):
            regions = seen.regions
            assert regions is not None  # a student has regions where its teacher, a copy, has them
            match = match_regions(regions, teacher, by_place)[..., None]
            if config.region_matching == "energy":
                weight = energy_weights(image, regions, self.clip_s)[..., None]
            else:
                weight = torch.full_like(match[0], 1.0 / match.shape[3], dtype=torch.float32)
            if mixing is not None:  # a region answers to both clips, by what it shows of them
                of_partner = match_regions(regions, teacher, by_place, mixing.partner)[..., None]
                share = region_means(mixing.shares[number], regions.grid)[..., None]
                match = torch.cat([match, of_partner], dim=-1)
                weight = torch.cat([(1.0 - share) * weight, share * weight], dim=-1)
            embeddings.append(regions.embeddings)
            matches.append(match)
            weights.append(weight)
        assert self.teacher.region_head is not None
        assert self.student.region_head is not None
        return region_loss(
            embeddings,
            matches,
            weights,
            teacher.features.shape[2],
            self.student.region_head.prototypes,
            self._targets(teacher.embeddings, self.teacher.region_head, self.region_centre, temperature),
            config.student_temperature,
        )

    def _targets(self, embeddings: Tensor, head: DinoHead, centre: Centre, temperature: float) -> Iterator[Tensor]:
        """The teacher's targets for its global views (G, B, ..., d), in blocks of rows (n, K) that sum to one."""
        with torch.no_grad():
            prototypes = head.prototypes
        if self.config.centring == "sinkhorn":
            return sinkhorn_targets(embeddings, prototypes, temperature)
        if self.training:
            centre.observe(embeddings, prototypes)
        return centre.targets(embeddings, prototypes, temperature)

    def prototypes(self) -> Iterator[nn.Parameter]:
        """The student's last layers, which stand still in the first epochs."""
        for head in (self.student.head, self.student.region_head):
            if head is not None:
                yield from head.last_layer.parameters()

    def start_from(self, state: dict[str, Tensor]) -> None:
        """Go on from an EsViT that learned from views alone: the second stage of EsViT's two-stage training.

        Student, teacher and centres are taken over; region heads that the state lacks stay as they were made, equal in
        student and teacher. The published Swin-B and all windows of 14 were made so: 180 to 200 epochs without the
        region loss, then the rest with it and a fresh optimiser.

        Args:
            state: the `state_dict` of the first stage.

        Raises UserError when anything but region heads is missing, and when something is left over or of another
        shape.
        """
        own = self.state_dict()
        missing = [name for name in own if name not in state and ".region_head." not in name]
        other = [name for name in state if name not in own or state[name].shape != own[name].shape]
        for names, what in ((missing, "lacks"), (other, "has other shapes or names for")):
            if names:
                raise UserError(
                    f"the state of the first stage {what} {len(names)} tensors ({', '.join(names[:3])}"
                    f"{' ...' if len(names) > 3 else ''}): give both stages the same backbone and heads."
                )
        self.load_state_dict({**own, **state})

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


def _shown_of_partners(views: Views) -> tuple[Tensor | None, Tensor | None]:
    """The clip mixed into each clip's views, (B,), and the share of it that they show, (V, B); None where none was."""
    if views.mixing is None:
        return None, None
    return views.mixing.partner, torch.cat([share.mean((2, 3)) for share in views.mixing.shares])


def _noting_entropy(targets: Iterator[Tensor], notes: list[Tensor]) -> Iterator[Tensor]:
    """Hand blocks of targets on, and note the sum of their rows' entropies, in nats."""
    for block in targets:
        # The logarithm of a row, where 0 ln 0 is 0: `xlogy` says the same in twice the time.
        notes.append(-(block.clamp(min=torch.finfo(block.dtype).tiny).log_().mul_(block)).sum())
        yield block
