"""EMP-SSL: all patches of a clip should look alike, and the clips of a batch should fill the space.

[0] Tong et al., EMP-SSL: Towards Self-Supervised Learning in One Training Epoch, 2023.
[1] Yu et al., Learning Diverse and Discriminative Representations via the Principle of Maximal Coding Rate Reduction,
    2020: the coding rate.
[2] Wang and Isola, Understanding Contrastive Representation Learning, ICML 2020: the potential that may take its place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from audiossl.bag import BagOfPatches
from audiossl.errors import UserError
from audiossl.heads import Projector
from audiossl.losses.coding_rate import coding_rate, collapse_coding_rate, effective_rank, max_coding_rate
from audiossl.losses.gather import n_processes
from audiossl.losses.invariance import invariance
from audiossl.losses.projections import unit_rows
from audiossl.losses.uniformity import uniformity
from audiossl.methods.misfits import check_state, misfits
from audiossl.methods.output import Output, passes
from audiossl.transforms.views import Views


@dataclass
class EmpSslConfig:
    """EMP-SSL's settings; the defaults are the paper's."""

    # What keeps clips apart: coding_rate (EMP-SSL) or uniformity (the Gaussian potential, "von Mises").
    spread: Literal["coding_rate", "uniformity"] = "coding_rate"
    # Weight of the invariance; in units of the largest coding rate, so that it means the same at every batch and width
    # (the paper's 200 at 100 clips and 1,024 numbers is 1.01), or absolute, as the paper's is. With uniformity it is
    # always absolute.
    invariance: float = 1.01
    unit: Literal["max_rate", "absolute"] = "max_rate"
    # How coarsely the coding rate codes, and how narrow the potential is.
    eps: float = 0.2
    t: float = 2.0
    # Compare the clips of all processes; otherwise each process its own, a smaller batch.
    gather: bool = True
    # The network sees the patches in so many groups, one after the other, and again for the gradients: the memory of
    # one group. Batch norm then takes the statistics of each group.
    groups: int = 1
    # A run, whose trained projector is taken and stands still; its shapes must be this one's.
    projector: str | None = None

    def __post_init__(self) -> None:
        """Raise `UserError` for values that the method has no meaning for."""
        if self.groups < 1:
            raise UserError(f"--method.groups must be at least 1, found {self.groups}.")
        for name in ("eps", "t"):
            if not getattr(self, name) > 0.0:
                raise UserError(f"--method.{name} must be above 0, found {getattr(self, name)}.")
        if not self.invariance >= 0.0:
            raise UserError(f"--method.invariance must be 0 or more, found {self.invariance}.")


class EmpSsl(nn.Module):
    """Network, feature head, projector and losses as one module, so that a wrapper sees a single forward.

    Args:
        bag: what is kept: the network and its feature head, which make one vector of a patch, and the pooling.
        config: see `EmpSslConfig`.
        frontend: the front end that the patches come from, if it is to be learned.

    Shape: `Views` of P patches, all of one size, to `Output`.
    """

    def __init__(self, bag: BagOfPatches, config: EmpSslConfig, frontend: nn.Module | None = None):
        super().__init__()
        self.config, self.bag, self.frontend = config, bag, frontend
        self.projection_dim = bag.config.projection_dim
        # A projector that is part of the output is the encoder's and stands there already.
        self.projector = bag.projector or Projector(
            bag.patch_dim, bag.patch_dim, self.projection_dim, bag.config.activation, bag.config.batch_norm
        )

    def forward(self, views: Views) -> Output:
        """Loss of a batch of patches, which are to be made alike within a clip and different between clips."""
        config = self.config
        z = self.project(views)
        alike = invariance(z)
        gather = config.gather and config.spread == "coding_rate"  # otherwise the rate is but logged
        rate = coding_rate(z if config.spread == "coding_rate" else z.detach(), config.eps, gather).mean()
        n_clips = z.shape[1] * (n_processes() if gather else 1)
        least = collapse_coding_rate(self.projection_dim, config.eps)
        largest = max_coding_rate(n_clips, self.projection_dim, config.eps)
        if config.spread == "coding_rate":
            apart, weight = rate, config.invariance * (largest if config.unit == "max_rate" else 1.0)
        else:
            apart, weight = -uniformity(z, config.t, config.gather), config.invariance
        loss = -apart - weight * alike
        logs = {"loss": loss.detach(), "invariance": alike.detach(), "coding_rate": rate.detach()}
        logs["collapse_rate"] = torch.full_like(rate.detach(), least)
        # 0 where all clips are one, 1 where they are as different as can be, as a single one is.
        room = largest - least
        logs["rate_share"] = (rate.detach() - least) / room if room > 1e-6 else torch.ones_like(rate.detach())
        logs["effective_rank"] = effective_rank(z.detach().mean(0))
        logs["passes"] = passes(views.images, views.boxes.shape[1], self.bag.image_size)
        if views.silent is not None:
            logs["silent_patches"] = views.silent
        return Output(loss, logs)

    def project(self, views: Views) -> Tensor:
        """Projections of patches, rows of length one, (P, B, d) float32."""
        (images,) = views.images
        n_clips = views.boxes.shape[1]
        groups = images.unflatten(0, (-1, n_clips)).tensor_split(self.config.groups)
        if self.config.groups == 1 or not torch.is_grad_enabled():
            parts = [self._see(group.flatten(0, 1)) for group in groups if len(group)]
        else:
            parts = [
                checkpoint(
                    self._see,
                    group.flatten(0, 1),
                    use_reentrant=False,
                    context_fn=lambda: (contextlib.nullcontext(), self._without_statistics()),
                )
                for group in groups
                if len(group)
            ]
        return unit_rows(torch.cat(parts)).unflatten(0, (-1, n_clips))

    def _see(self, images: Tensor) -> Tensor:
        if len(images) == 1 and self.training and self.bag.config.batch_norm:
            raise UserError(
                "one patch at a time has no statistics for batch norm: raise --run.batch_size or --views.n_patches, "
                "lower --method.groups, or give --bag.batch_norm false."
            )
        return self.projector(self.bag.of_patches(images))

    @contextlib.contextmanager
    def _without_statistics(self) -> Iterator[None]:
        """While patches are seen for the second time, batch norms must not count them again."""
        norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
        kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked = norm.num_batches_tracked.clone()
        try:
            yield
        finally:
            for norm, (momentum, tracked) in zip(norms, kept, strict=True):
                norm.momentum, norm.num_batches_tracked = momentum, tracked

    def take_projector(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take a trained projector over, which then stands still.

        Args:
            state: weights of an EMP-SSL run, with its `projector.*`.
            source: where they are from, for the error.

        Raises UserError when it has no projector, or one of other shapes.
        """
        # A run's own, or an encoder's whose output it makes.
        trained = {name.split("projector.", 1)[1]: t for name, t in state.items() if _of_projector(name)}
        other = misfits(self.projector.state_dict(), trained)
        if other:
            found = "has no projector" if not trained else f"has a projector of other shapes ({other[0]})"
            raise UserError(
                f"--method.projector {source} {found}: give a run of EMP-SSL with the same --bag.feature_dim, "
                "--bag.projection_dim and --bag.batch_norm."
            )
        self.projector.load_state_dict(trained)
        self.projector.requires_grad_(False)

    def train(self, mode: bool = True) -> EmpSsl:
        """Training mode, in which a projector that stands still keeps its statistics."""
        super().train(mode)
        if not next(self.projector.parameters()).requires_grad:
            self.projector.eval()
        return self

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Begin with the weights of another run of the same network and heads.

        Raises UserError naming what does not fit.
        """
        check_state(self.state_dict(), state)
        self.load_state_dict(dict(state))

    @property
    def encoder(self) -> BagOfPatches:
        """The part that is kept."""
        return self.bag


def _of_projector(name: str) -> bool:
    return name.startswith(("projector.", "backbone.projector."))
