"""BYOL: a student predicts what a slow teacher makes of another view of the same clip; nothing is pushed apart.

[0] Grill et al., Bootstrap Your Own Latent, NeurIPS 2020.
[1] Niizumi et al., BYOL for Audio, IJCNN 2021, and its second version, TASLP 2023: BYOL-A, by its presets.
[2] Chen and He, Exploring Simple Siamese Representation Learning, CVPR 2021: SimSiam, by its preset.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from audiossl.backbones import Backbone
from audiossl.errors import UserError
from audiossl.heads import ByolHead, DeepProjector
from audiossl.losses.cosine import cosine_loss
from audiossl.methods.misfits import check_state
from audiossl.methods.output import Output, passes
from audiossl.transforms.views import Views


@dataclass
class ByolConfig:
    """BYOL's settings; the defaults are the paper's."""

    # momentum: the teacher follows the student slowly (BYOL). student: it is the student itself, whose gradient is
    # stopped (SimSiam, and "BYOL without momentum").
    teacher: Literal["momentum", "student"] = "momentum"
    # The teacher's momentum goes over half a cosine from the first value to the second, over the run. (BYOL: 0.996 for
    # 1,000 epochs, 0.99 for 300. BYOL-A: 0.99 throughout.)
    momentum: float = 0.996
    momentum_end: float = 1.0
    # byol: two layers. deep: SimSiam's three, with a batch norm at the end.
    projector: Literal["byol", "deep"] = "byol"
    # Widths of the projector's hidden layers and of the projections, and of the predictor's hidden layer.
    hidden_dim: int = 4096
    projection_dim: int = 256
    predictor_dim: int = 4096
    # The predictor's layer before its batch norm has a bias; SimSiam's has none.
    predictor_bias: bool = True
    # The predictor's learning rate does not fall (SimSiam).
    constant_predictor_rate: bool = False
    # A branch sees one view after the other, as published, so that batch norms know the clips of one view only;
    # otherwise both at once, which costs less.
    view_by_view: bool = True

    def __post_init__(self) -> None:
        """Raise `UserError` for values that the method has no meaning for."""
        for name, known in (("teacher", ("momentum", "student")), ("projector", ("byol", "deep"))):
            if getattr(self, name) not in known:
                raise UserError(f"--method.{name} must be {' or '.join(known)}, found {getattr(self, name)!r}.")
        for name in ("momentum", "momentum_end"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"--method.{name} must be from 0 to 1, found {getattr(self, name)}.")
        for name in ("hidden_dim", "projection_dim", "predictor_dim"):
            if getattr(self, name) < 1:
                raise UserError(f"--method.{name} must be at least 1, found {getattr(self, name)}.")


class Branch(nn.Module):
    """A backbone and its projector: the student without its predictor, or the teacher."""

    def __init__(self, backbone: Backbone, config: ByolConfig):
        super().__init__()
        head = {"byol": ByolHead, "deep": DeepProjector}[config.projector]
        self.backbone = backbone
        self.projector: nn.Module = head(backbone.feature_dim, config.hidden_dim, config.projection_dim)

    def forward(self, image: Tensor) -> Tensor:
        """Projections (N, d) of views (N, C, F, T)."""
        return self.projector(self.backbone(image).features)


class Byol(nn.Module):
    """Student, predictor and teacher as one module, so that a wrapper sees a single forward.

    The teacher begins as a copy of the student, without stochastic depth, and follows it by `update_teacher`. Its
    batch norms use the statistics of its own batch while training, and its running statistics come from the views that
    it sees, so that it can be used as it stands: weights alone are averaged.

    Args:
        backbone: the student's network.
        config: see `ByolConfig`.
        frontend: the front end that the views come from, if it is to be learned: its parameters then belong to the
            method, so that they are optimised, wrapped and saved with the rest.

    Shape: `Views` of two views or more, all of one size, to `Output`.

    >>> from audiossl.backbones import BackboneConfig, build_backbone
    >>> method = Byol(build_backbone(BackboneConfig("resnet10"), (32, 32)), ByolConfig())
    >>> out = method(Views([torch.randn(2 * 4, 1, 32, 32)], torch.zeros(2, 4, 4)))
    >>> out.loss.shape, sorted(out.logs)
    (torch.Size([]), ['cosine', 'loss', 'passes', 'projection_std'])
    """

    def __init__(self, backbone: Backbone, config: ByolConfig, frontend: nn.Module | None = None):
        super().__init__()
        self.config, self.frontend = config, frontend
        self.student = Branch(backbone, config)
        width = config.projection_dim
        self.predictor = ByolHead(width, config.predictor_dim, width, config.predictor_bias)
        self.teacher: Branch | None = None
        if config.teacher == "momentum":
            self.teacher = copy.deepcopy(self.student).requires_grad_(False)
            self.teacher.backbone.disable_drop_path()

    def forward(self, views: Views) -> Output:
        """Loss of a batch of views: from 0 to 8 for two, the sum over both directions; the mean of pairs for more."""
        if len(views.images) != 1:
            raise UserError("BYOL compares views of one size: set --views.n_locals 0.")
        (image,) = views.images
        n_views, n_clips = views.boxes.shape[:2]
        n_parts = n_views if self.config.view_by_view else 1
        parts = image.chunk(n_parts)
        projected = [self.student(part) for part in parts]
        predicted = torch.cat([self.predictor(z) for z in projected]).unflatten(0, (n_views, n_clips))
        if self.teacher is None:
            target = torch.cat(projected).detach()
        else:
            with torch.no_grad():
                target = torch.cat([self.teacher(part) for part in parts])
        target = target.unflatten(0, (n_views, n_clips))
        # View v with the one k places behind it: each ordered pair of two different views once.
        losses = [cosine_loss(predicted, target.roll(k, 0)) for k in range(1, n_views)]
        loss = 2.0 * torch.stack(losses).mean()
        with torch.no_grad():
            logs = {
                "loss": loss.detach(),
                "cosine": 1.0 - loss.detach() / 4.0,
                # 1 where the directions of the batch's clips are spread evenly, 0 where all are one.
                "projection_std": nn.functional.normalize(target.float(), dim=-1).std(1).mean()
                * self.config.projection_dim**0.5,
                "passes": (1 if self.teacher is None else 2) * passes([image], n_clips, self.clip_size),
            }
        return Output(loss, logs)

    @property
    def clip_size(self) -> tuple[int, int]:
        """(F, T) of a whole clip's picture, for which the network was built."""
        return self.student.backbone.image_size

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Begin with the weights of another run of the same network and heads.

        Raises UserError naming what does not fit.
        """
        check_state(self.state_dict(), state)
        self.load_state_dict(dict(state))

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher, once after each optimiser step: teacher <- m teacher + (1 - m) student."""
        if self.teacher is not None:
            torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1.0 - momentum)

    @property
    def encoder(self) -> Backbone:
        """The part that is kept: the student's backbone."""
        return self.student.backbone
