"""Regions of one stage of a network, or of the picture itself, with the cells that they stand for.

The last stage of a network sees far and is coarse: a 32 x 48 picture leaves 2 x 3 cells of 16 x 16 points. Earlier
stages have finer grids. They are taken before the next stage's downsampling and without a norm, as EsViT's linear
evaluation takes them; the last is the network's own output, after its last norm.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn
from torch.nn import functional

from audiossl.backbones import Backbone
from audiossl.errors import UserError

Size = tuple[int, int]


class Regions(NamedTuple):
    """patches (B, P, D), row-major over grid = (F', T'), low frequency first; stride, rows and frames to a cell."""

    patches: Tensor
    grid: Size
    stride: Size


def regions_of(backbone: Backbone, image: Tensor, stage: int | None = None) -> Regions:
    """Regions of pictures (B, C, F, T) as a stage of the network gives them, float32.

    Args:
        backbone: any for its last stage; a Swin, ResNet or ConvNeXt for an earlier one.
        image: normalised pictures of any size.
        stage: from 1; None is the last, the network's own regions.

    Raises:
        UserError: the network has no such stage, or none that could be chosen.

    >>> import torch
    >>> from audiossl.backbones import BackboneConfig, build_backbone
    >>> backbone = build_backbone(BackboneConfig("swin_micro"), (32, 48)).eval()
    >>> [(found.grid, found.stride) for found in (regions_of(backbone, torch.zeros(1, 1, 32, 48), n) for n in (1, 3))]
    [((8, 12), (4, 4)), ((2, 3), (16, 16))]
    """
    stages = [] if stage is None else _stages(backbone.net)
    check_stage(backbone, stage)
    if stage is None or stage == len(stages):
        output = backbone(image)
        return Regions(output.patches.float(), output.grid, backbone.stride)
    seen: list[Tensor] = []
    hook = stages[stage - 1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        backbone(image)
    finally:
        hook.remove()
    # ResNet and ConvNeXt put channels first, Swin last.
    channels_last = isinstance(backbone.net, SwinTransformer | SwinTransformerV2)
    found = seen[0] if channels_last else seen[0].permute(0, 2, 3, 1)
    finer = 2 ** (len(stages) - stage)
    stride = backbone.stride[0] // finer, backbone.stride[1] // finer
    return Regions(found.flatten(1, 2).float(), (found.shape[1], found.shape[2]), stride)


def check_stage(backbone: Backbone, stage: int | None) -> None:
    """Raise UserError when the network has no such stage; None, the last, there is always."""
    if stage is None:
        return
    n_stages = len(_stages(backbone.net))
    if not n_stages:
        raise UserError(
            f"--stage {stage} is for a Swin, a ResNet or a ConvNeXt, and this encoder has none: leave it out."
        )
    if not 1 <= stage <= n_stages:
        raise UserError(f"--stage {stage} does not exist: the network has the stages 1 to {n_stages}.")


def _stages(net: Any) -> list[nn.Module]:
    """Stages of a network, each of half the grid of the one before; none where that is unknown."""
    if isinstance(net, SwinTransformer | SwinTransformerV2):
        return list(net.layers)
    if isinstance(net, ResNet):
        layers = [net.get_submodule(f"layer{n}") for n in (1, 2, 3, 4)]
        return [layer for layer in layers if len(list(layer.children()))]  # `--backbone.stages` leaves empty ones
    if isinstance(net, ConvNeXt):
        return list(net.stages)
    return []


def picture_regions(image: Tensor, grid: Size, stride: Size) -> Regions:
    """The points of the picture that lie in each cell, (B, P, C x stride): what a network is worth must exceed them.

    Cells that reach beyond the picture are filled with zeros, the mean of a normalised picture; points behind the last
    cell, which AudioNTT leaves out, are left out.
    """
    beyond = [cells * s - n for n, cells, s in zip(image.shape[2:], grid, stride, strict=True)]
    padded = functional.pad(image, (0, beyond[1], 0, beyond[0]))  # of less than 0: cut
    return Regions(functional.unfold(padded, stride, stride=stride).transpose(1, 2).float(), grid, stride)
