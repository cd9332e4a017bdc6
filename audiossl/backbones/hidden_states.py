"""Maps of every block of a network, in the order of the computation: what probes over layers and s3prl's users read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from audiossl.errors import UserError

from .backbone import Backbone
from .last_blocks import blocks_of, has_blocks


def hidden_states(backbone: Backbone, image: Tensor, layers: Sequence[int] | None = None) -> list[Tensor]:
    """Maps (B, D, F', T') of the network's blocks, or of some: numbers count from 0, or back from -1.

    Blocks as in `audiossl.backbones.last_blocks`; a ViT's class token is left out, and no norm is applied.
    Raises UserError for a block that the network has not.

    >>> import torch
    >>> from audiossl.backbones import BackboneConfig, build_backbone
    >>> backbone = build_backbone(BackboneConfig("resnet10"), (64, 96)).eval()
    >>> [tuple(state.shape) for state in hidden_states(backbone, torch.zeros(2, 1, 64, 96), [0, -1])]
    [(2, 64, 16, 24), (2, 512, 2, 3)]
    """
    blocks = [block.module for block in blocks_of(backbone)]
    wanted = range(len(blocks)) if layers is None else layers
    if wrong := [layer for layer in wanted if not -len(blocks) <= layer < len(blocks)]:
        raise UserError(f"layers has {wrong[0]}, and the network has {len(blocks)}: give numbers below that.")
    outputs: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[module] = output

    with ExitStack() as hooks:
        for block in blocks:
            hooks.callback(block.register_forward_hook(keep).remove)
        patches, grid = backbone.regions(image)
    channels_last = getattr(backbone.net, "output_fmt", "NCHW") == "NHWC"
    maps = [_as_map(outputs[block], grid, channels_last) for block in blocks]
    if not has_blocks(backbone.net):  # what follows the last stage belongs to it
        maps[-1] = patches.transpose(1, 2).unflatten(2, grid)
    return [maps[layer] for layer in wanted]


def _as_map(output: Tensor, grid: tuple[int, int], channels_last: bool) -> Tensor:
    """(B, D, F', T') of a block's own form: tokens (B, 1 + P, D), (B, F', T', D), or a map as it is."""
    if output.ndim == 3:
        tokens = output[:, output.shape[1] - grid[0] * grid[1] :]
        return tokens.transpose(1, 2).unflatten(2, grid)
    return output.permute(0, 3, 1, 2) if channels_last else output
