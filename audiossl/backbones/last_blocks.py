"""Features of the last n blocks, as the linear evaluations of DINO and EsViT read them: pooled, side by side.

Swin: every block's map, taken before the stage's downsampling; the network's last norm is applied to the blocks of the
last stage alone (EsViT, `forward_return_n_last_blocks`: n = 4 of Swin-T gives 384 + 384 + 768 + 768 numbers). ConvNeXt
is read like Swin, a ResNet by its residual blocks, without a norm. ViT: the class token of each block after the last
norm, with the mean of the last block's patches behind them if asked for (DINO). Any other network of timm has no
blocks that are known here: its stages are counted in their place, and the last of them is the network's own map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

from audiossl.errors import UserError

from .backbone import Backbone


class Block(NamedTuple):
    """A module whose output is read, and how that becomes (B, D)."""

    module: nn.Module
    pool: Callable[[Tensor], Tensor]


def last_blocks(backbone: Backbone, image: Tensor, n: int, avgpool_patchtokens: bool = False) -> Tensor:
    """Pooled outputs of the last `n` blocks, the deepest last: pictures (B, C, F, T) of any size to (B, D).

    `avgpool_patchtokens` appends the mean of a ViT's last patches. With n = 1 a network without class token gives its
    features under pool "mean".

    Raises UserError when the network has fewer blocks, or no class token for `avgpool_patchtokens` to stand beside.

    >>> from audiossl.backbones import BackboneConfig, build_backbone
    >>> backbone = build_backbone(BackboneConfig("resnet10"), (64, 96)).eval()
    >>> last_blocks(backbone, torch.zeros(2, 1, 64, 96), 4).shape  # 64 + 128 + 256 + 512
    torch.Size([2, 960])
    """
    check_last_blocks(backbone, n, avgpool_patchtokens)
    parts, patches = _pooled(backbone, image, list(range(-n, 0)))
    return torch.cat([*parts, patches.mean(1)] if avgpool_patchtokens else parts, dim=1)


def pooled_blocks(backbone: Backbone, image: Tensor, layers: Sequence[int]) -> Tensor:
    """Pooled outputs of some blocks side by side, in the order of `layers`, which count from 0, or back from -1.

    Raises UserError for a block that the network has not.

    >>> from audiossl.backbones import BackboneConfig, build_backbone
    >>> backbone = build_backbone(BackboneConfig("resnet10"), (64, 96)).eval()
    >>> pooled_blocks(backbone, torch.zeros(2, 1, 64, 96), [-1, 0]).shape  # 512 + 64
    torch.Size([2, 576])
    """
    depth = len(blocks_of(backbone))
    if wrong := [layer for layer in layers if not -depth <= layer < depth]:
        raise UserError(
            f"layers has {wrong[0]}, and the network has {depth}: give numbers from {-depth} to {depth - 1}."
        )
    return torch.cat(_pooled(backbone, image, layers)[0], dim=1)


def _pooled(backbone: Backbone, image: Tensor, layers: Sequence[int]) -> tuple[list[Tensor], Tensor]:
    """Pooled outputs (B, D) of the blocks, one each, and the network's regions (B, P, D)."""
    blocks = blocks_of(backbone)
    wanted = [layer % len(blocks) for layer in layers]
    pooled: dict[int, Tensor] = {}
    with ExitStack() as hooks:
        for place in set(wanted):
            # Pooled at once: the maps of all blocks together would be many times a batch.
            hooks.callback(blocks[place].module.register_forward_hook(_keep(pooled, place, blocks[place].pool)).remove)
        patches, _ = backbone.regions(image)
    if not has_blocks(backbone.net):  # what follows the last stage belongs to it
        pooled[len(blocks) - 1] = patches.mean(1)
    return [pooled[place] for place in wanted], patches


def check_last_blocks(backbone: Backbone, n: int, avgpool_patchtokens: bool = False) -> None:
    """Raise UserError when `backbone` has no `n` blocks, or cannot do what `avgpool_patchtokens` asks."""
    depth = len(blocks_of(backbone))
    if not 1 <= n <= depth:
        what = "blocks" if has_blocks(backbone.net) else "stages"
        raise UserError(f"last_blocks is {n}, and the network has {depth} {what}: give a number from 1 to {depth}.")
    if avgpool_patchtokens and getattr(backbone.net, "cls_token", None) is None:
        raise UserError("avgpool_patchtokens is for a ViT with a class token, and this network has none: leave it out.")


def _keep(pooled: dict[int, Tensor], place: int, pool: Callable[[Tensor], Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        pooled[place] = pool(output)

    return hook


def _is_vit(net: nn.Module) -> bool:
    return hasattr(net, "num_prefix_tokens") and hasattr(net, "blocks") and hasattr(net, "norm")


def has_blocks(net: nn.Module) -> bool:
    """Whether blocks of this network are known; of others, stages are counted, and the last one is its own map."""
    return _is_vit(net) or isinstance(net, SwinTransformer | SwinTransformerV2 | ConvNeXt | ResNet)


def blocks_of(backbone: Backbone) -> list[Block]:
    """All blocks of the network, or its stages, in the order of the computation."""
    net: Any = backbone.net
    if _is_vit(net):
        return [Block(block, _token_of(net)) for block in net.blocks]
    over = (1, 2) if getattr(net, "output_fmt", "NCHW") == "NHWC" else (2, 3)
    norm: nn.Module = nn.Identity()
    if isinstance(backbone.net, ResNet):
        stages = [list(stage) for stage in (net.layer1, net.layer2, net.layer3, net.layer4)]
    elif isinstance(backbone.net, ConvNeXt):
        stages, norm = [list(stage.blocks) for stage in net.stages], net.head.norm
    elif isinstance(backbone.net, SwinTransformer | SwinTransformerV2):
        stages, norm = [list(stage.blocks) for stage in net.layers], net.norm
    else:
        stages = [[net.get_submodule(info["module"])] for info in net.feature_info]
    early = [Block(block, lambda x: x.mean(over)) for stage in stages[:-1] for block in stage]
    return early + [Block(block, lambda x: norm(x).mean(over)) for block in stages[-1]]


def _token_of(net: Any) -> Callable[[Tensor], Tensor]:
    """The class token after the last norm, or the mean of the patches in a ViT without one."""
    if getattr(net, "cls_token", None) is not None:
        return lambda x: net.norm(x)[:, 0]
    return lambda x: net.norm(x)[:, net.num_prefix_tokens :].mean(1)
