"""Backbones over timm, and AudioNTT: any network, any size of picture, one output.

timm's networks give maps as (B, D, F', T'), (B, F', T', D) or tokens (B, 1 + P, D): this is the one place
that knows. Regions are taken after the network's last norm, as EsViT does, and the vector is pooled from them
alone: a class token takes part in a ViT's attention but is not the output, so that networks can be compared,
unless pool="class_token" asks for it.
"""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

import timm
import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional

from audiossl.errors import UserError

from .audiontt import AUDIONTTS, build_audiontt
from .config import BackboneConfig
from .narrow_maps import StridedConv2d, make_safe
from .pool import check_pool, pool_patches, pooled_dim
from .resnet import RESNETS, fit_resnet
from .swin import PAPER, build_swin, mend_shifts
from .vit import VITS, build_published_vit

Size = tuple[int, int]

SWINS = ("swin_micro", *PAPER)
NAMES = (*RESNETS, *SWINS, *VITS, *AUDIONTTS)


class BackboneOutput(NamedTuple):
    """features (B, D); patches (B, P, D), row-major over grid = (F', T'), low frequency first."""

    features: Tensor
    patches: Tensor
    grid: Size


class Backbone(nn.Module):
    """A timm network as image (B, C, F, T) -> BackboneOutput, for pictures of several sizes in one network.

    Attributes: dim, length of a region's vector; feature_dim, length of the pooled vector; stride, bins and
    frames to a region; image_size, the picture (F, T) it was built for.
    Pictures that the patch embedding does not divide, or that are shorter than a region of a network that would
    leave nothing of them, are padded with zeros (the mean of a normalised picture) at the high and late end.
    """

    net: Any  # of timm: its networks share names, not a type

    def __init__(self, net: nn.Module, config: BackboneConfig, image_size: Size, in_channels: int):
        super().__init__()
        check_pool(config.pool)
        make_safe(net)
        self.net = net
        self.pool = config.pool
        self.image_size = image_size
        self.dim: int = self.net.num_features
        self.patch_size: Size = _patch_size(net)
        self.final_norm = hasattr(getattr(net, "head", None), "norm")
        self.stride: Size = _stride(net)
        self.least_size: Size = self.stride if self.patch_size == (1, 1) and _drops_remainders(net) else (1, 1)
        self.n_rows = self._probe(config, in_channels)[0]
        self.feature_dim = pooled_dim(config.pool, self.dim, self.n_rows)

    @torch.no_grad()
    def _probe(self, config: BackboneConfig, in_channels: int) -> Size:
        """Grid of a picture of `image_size`; refuses networks of timm that give no map for it."""
        self.eval()
        try:
            patches, grid, class_token = self._see(torch.zeros(1, in_channels, *self.image_size))
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        else:
            self.train()
            if config.pool == "class_token" and class_token is None:
                raise UserError(f"pool='class_token' needs a ViT, and backbone name={config.name!r} has no such token.")
            if patches.shape[2] == self.dim:
                return grid
            reason = f"it gives {patches.shape[2]} features in place of {self.dim}"
        size = " x ".join(map(str, self.image_size))
        raise UserError(f"backbone name={config.name!r} gives no map of a {size} picture ({reason}): choose another.")

    def regions(self, image: Tensor) -> tuple[Tensor, Size]:
        """Regions (B, P, D) and their grid (F', T')."""
        patches, grid, _ = self._see(image)
        return patches, grid

    def _see(self, image: Tensor) -> tuple[Tensor, Size, Tensor | None]:
        """Regions (B, P, D), their grid (F', T'), and the class token (B, D) of networks that have one."""
        image = self._padded(image)
        x = self.net.forward_features(image)
        if x.ndim == 3:  # tokens: the class token and registers come first
            grid = (image.shape[2] // self.patch_size[0], image.shape[3] // self.patch_size[1])
            patches = x[:, x.shape[1] - grid[0] * grid[1] :]
            return patches, grid, x[:, 0] if getattr(self.net, "cls_token", None) is not None else None
        if self.final_norm:  # ConvNeXt and its kin keep the last norm in the head
            x = self.net.head.norm(x)
        if x.shape[1] == self.dim:
            x = x.permute(0, 2, 3, 1)
        return x.flatten(1, 2), (x.shape[1], x.shape[2]), None

    def _padded(self, image: Tensor) -> Tensor:
        """The picture with zeros at the high and late end, as far as the network needs them."""
        sides = zip(image.shape[2:], self.patch_size, self.least_size, strict=True)
        pad = [max(-n % patch, least - n) for n, patch, least in sides]
        return functional.pad(image, (0, pad[1], 0, pad[0])) if any(pad) else image

    def forward(self, image: Tensor) -> BackboneOutput:
        """Features (B, feature_dim) and regions (B, P, dim) of pictures (B, C, F, T)."""
        patches, grid, class_token = self._see(image)
        if class_token is not None and self.pool == "class_token":
            return BackboneOutput(class_token, patches, grid)
        return BackboneOutput(pool_patches(patches, grid, self.pool, self.n_rows), patches, grid)

    def middles(self, grid: Size, size: Size) -> tuple[Tensor, Tensor]:
        """Middles of the grid's cells: rows (F',) and frames (T',) of a picture (F, T), both from 0.

        Cells that reach beyond the picture, because it was padded, have theirs at its edge.
        """
        rows, frames = (
            ((torch.arange(n_cells, dtype=torch.float32) + 0.5) * stride - 0.5).clamp(max=n - 1)
            for n_cells, stride, n in zip(grid, self.stride, size, strict=True)
        )
        return rows, frames

    def disable_drop_path(self) -> None:
        """Switch stochastic depth off for good: for a teacher copied from its student."""
        for module in self.modules():
            if isinstance(module, DropPath):
                module.drop_prob = 0.0


def _patch_size(net: Any) -> Size:
    """Bins and frames that a picture must be a multiple of: (1, 1) for convolutional networks."""
    size = getattr(getattr(net, "patch_embed", None), "patch_size", (1, 1))
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _stride(net: Any) -> Size:
    """Bins and frames to a region."""
    reduction = net.feature_info[-1]["reduction"]
    return (reduction, reduction) if isinstance(reduction, int) else (int(reduction[0]), int(reduction[1]))


def _drops_remainders(net: nn.Module) -> bool:
    """Whether the network strides without padding, as ConvNeXt does: of one column two by two nothing is left."""
    # Kinds of their own, as EfficientNets have, pad by themselves.
    convolutions = (m for m in net.modules() if isinstance(m, nn.Conv2d) and type(m) in (nn.Conv2d, StridedConv2d))
    return any(max(conv.stride) > 1 and max(conv.kernel_size) > 1 and conv.padding == (0, 0) for conv in convolutions)


def _build_timm(name: str, config: BackboneConfig, image_size: Size, in_channels: int, **more: Any) -> nn.Module:
    """Build a timm model of any family for one size of picture and, where the family allows, for others."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise UserError(f"timm has no model {name!r}{_did_you_mean(near)}.")
    common: dict[str, Any] = {"in_chans": in_channels, "num_classes": 0, "global_pool": "", **more}
    if config.drop_path:
        common["drop_path_rate"] = config.drop_path
    # Families name the permission for other sizes differently, and convolutional ones need none.
    sizes: tuple[dict[str, Any], ...] = (
        {"img_size": image_size, "dynamic_img_size": True},
        {"img_size": image_size, "strict_img_size": False},
        {"img_size": image_size},
        {},
    )
    reason = ""
    for size in sizes:
        try:
            return mend_shifts(timm.create_model(name, **size, **common))
        except (TypeError, AssertionError) as error:  # this family does not know that argument
            reason = str(error)
    raise UserError(f"timm's model {name!r} cannot be built as a backbone ({reason}): choose another.")


def _did_you_mean(near: list[str]) -> str:
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def build_backbone(config: BackboneConfig, image_size: Size, in_channels: int = 1) -> Backbone:
    """Build a backbone with random weights for pictures (C, F, T) of so many channels and `image_size` (F, T).

    Pictures of other sizes pass through it too.

    Raises UserError for an unknown name (with the nearest ones) or pooling, a model that gives no map, and for
    `window`, `published`, `stem`, `stages`, `zero_init` and `width` with a network that has none.

    >>> backbone = build_backbone(BackboneConfig("resnet10"), (64, 96))
    >>> output = backbone(torch.zeros(2, 1, 64, 96))
    >>> output.features.shape, output.patches.shape, output.grid
    (torch.Size([2, 512]), torch.Size([2, 6, 512]), (2, 3))
    """
    name = config.name
    if config.window and name not in SWINS:
        raise UserError(f"backbone window={config.window} is for Swin, and name={name!r} has no windows: leave it out.")
    if config.published and name not in (*PAPER, *VITS):
        raise UserError(
            f"backbone published=True is for {', '.join((*PAPER, *VITS))}, not name={name!r}: leave it out."
        )
    if config.width and name not in AUDIONTTS:
        raise UserError(f"backbone width={config.width} is for AudioNTT, not for name={name!r}: leave it out.")
    if name in SWINS:
        net = build_swin(config, in_channels, image_size)
    elif config.published:
        net = build_published_vit(config, in_channels)
    elif name in AUDIONTTS:
        net = build_audiontt(config, in_channels, image_size[0])
    elif name in RESNETS:
        timm_name, more = RESNETS[name]
        net = _build_timm(timm_name, config, image_size, in_channels, **more)
    elif name in VITS:
        net = _build_timm(VITS[name], config, image_size, in_channels)
    elif name.startswith("timm/"):
        net = _build_timm(name.removeprefix("timm/"), config, image_size, in_channels)
    else:
        near = [f"timm/{name}"] if timm.is_model(name) else difflib.get_close_matches(name, NAMES, cutoff=0.5)
        raise UserError(
            f"backbone name={name!r} is unknown{_did_you_mean(near)}; "
            f"the names are {', '.join(NAMES)} and timm/<model>."
        )
    return Backbone(fit_resnet(net, config, in_channels), config, image_size, in_channels)
