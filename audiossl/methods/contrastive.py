"""A plain contrastive method: a clip's two views are to find each other among all views of the batch.

Chen et al., A Simple Framework for Contrastive Learning of Visual Representations (SimCLR), ICML 2020. The baseline
beside methods without negatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from audiossl.backbones import Backbone
from audiossl.errors import UserError
from audiossl.heads import DeepProjector
from audiossl.losses.nt_xent import nt_xent
from audiossl.methods.misfits import check_state
from audiossl.methods.output import Output, passes
from audiossl.transforms.views import Views


@dataclass
class ContrastiveConfig:
    """Settings of the projector and of the loss."""

    # What cosines are divided by.
    temperature: float = 0.1
    # Widths of the projector's hidden layers and of the projections.
    hidden_dim: int = 1024
    projection_dim: int = 128
    # Compare the clips of all processes; otherwise each process its own, a smaller batch.
    gather: bool = True

    def __post_init__(self) -> None:
        """Raise `UserError` for values that the method has no meaning for."""
        if not self.temperature > 0.0:
            raise UserError(f"--method.temperature must be above 0, found {self.temperature}.")
        for name in ("hidden_dim", "projection_dim"):
            if getattr(self, name) < 1:
                raise UserError(f"--method.{name} must be at least 1, found {getattr(self, name)}.")


class Contrastive(nn.Module):
    """A backbone and a projector of three layers with batch norm, trained by NT-Xent.

    Args:
        backbone: the network.
        config: see `ContrastiveConfig`.
        frontend: the front end that the views come from, if it is to be learned.

    Shape: `Views` of two views of one size to `Output`.

    >>> import torch
    >>> from audiossl.backbones import BackboneConfig, build_backbone
    >>> method = Contrastive(build_backbone(BackboneConfig("resnet10"), (32, 32)), ContrastiveConfig())
    >>> out = method(Views([torch.randn(2 * 4, 1, 32, 32)], torch.zeros(2, 4, 4)))
    >>> out.loss.shape, sorted(out.logs)
    (torch.Size([]), ['loss', 'passes'])
    """

    def __init__(self, backbone: Backbone, config: ContrastiveConfig, frontend: nn.Module | None = None):
        super().__init__()
        self.config, self.frontend = config, frontend
        self.backbone = backbone
        self.projector = DeepProjector(backbone.feature_dim, config.hidden_dim, config.projection_dim)

    def forward(self, views: Views) -> Output:
        """Loss of a batch of two views."""
        n_views, n_clips = views.boxes.shape[:2]
        if len(views.images) != 1 or n_views != 2:
            raise UserError("NT-Xent compares two views of one size: set --views.n_locals 0.")
        (image,) = views.images
        z = self.projector(self.backbone(image).features).unflatten(0, (2, n_clips))
        loss = nt_xent(z, self.config.temperature, self.config.gather)
        seen = passes([image], n_clips, self.backbone.image_size)
        return Output(loss, {"loss": loss.detach(), "passes": seen})

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Begin with the weights of another run of the same network and projector.

        Raises UserError naming what does not fit.
        """
        check_state(self.state_dict(), state)
        self.load_state_dict(dict(state))

    @property
    def encoder(self) -> Backbone:
        """The part that is kept: the backbone, without its projector."""
        return self.backbone
