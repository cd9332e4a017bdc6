"""Swin Transformer (Liu et al., 2021) for pictures of any size: timm's network, its shifted windows mended.

timm rolls the grid of tokens and then pads it to whole windows (huggingface/pytorch-image-models#2438): its
mask then does not sit on the rows that wrapped around, and tokens at the low end of the frequency axis attend
to the high end. Here, as in Swin's own code and EsViT, the grid is padded first and then rolled. One
departure: padded tokens are masked, so that a small crop does not attend to its own padding; EsViT lets it, and
so does a `published` network here. Where nothing is padded the block equals timm's.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import timm
import torch
from timm.models.swin_transformer import (
    SwinTransformer,
    SwinTransformerBlock,
    window_partition,
    window_reverse,
)
from torch import Tensor, nn
from torch.nn import functional

from audiossl.errors import UserError

from .config import BackboneConfig

Size = tuple[int, int]

# Embedding, depths, heads; tiny, small and base as in the paper. micro is the project's own for CPUs: three
# stages, so that 64 x 96 leaves 4 x 6 regions (four would leave 2 x 3), 2.6 M parameters.
MICRO: dict[str, Any] = {"embed_dim": 64, "depths": (2, 4, 2), "num_heads": (2, 4, 8)}
PAPER = {
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "swin_small": "swin_small_patch4_window7_224",
    "swin_base": "swin_base_patch4_window7_224",
}
PATCH = 4
# What EsViT's code lays its networks out for, in points and cells, and its layer norms' epsilon.
PUBLISHED_SIDE, PUBLISHED_WINDOW, PUBLISHED_EPS = 224, 7, 1e-6


def _axis_regions(length: int, window: int, shift: int) -> Tensor:
    """Stretch (0, 1, 2) of each place of a padded, rolled axis: only rolling brings unequal ones together."""
    regions = torch.zeros(length, dtype=torch.long)
    if shift:
        regions[-window:] = 1
        regions[-shift:] = 2
    return regions


@lru_cache(maxsize=512)
def window_mask(
    grid: Size, window: Size, shift: Size, device: torch.device, dtype: torch.dtype, padding_is_seen: bool = False
) -> Tensor | None:
    """Additive mask (windows, tokens, tokens) of a grid padded to whole windows and rolled, or None.

    Tokens of one window see each other only if they were neighbours before rolling; padding sees but padding, unless
    it counts as tokens like others.
    """
    padded = tuple(-(-n // w) * w for n, w in zip(grid, window, strict=True))
    if (padded == grid or padding_is_seen) and not any(shift):
        return None
    with torch.inference_mode(False):  # a mask made in inference mode could not be used for training afterwards
        rows, columns = (_axis_regions(padded[i], window[i], shift[i]) for i in (0, 1))
        regions = rows[:, None] * 3 + columns
        real = torch.zeros(padded, dtype=torch.bool)
        real[: grid[0], : grid[1]] = True
        real = real.roll((-shift[0], -shift[1]), (0, 1))
        if not padding_is_seen:
            regions = regions.masked_fill(~real, -1)
        groups = window_partition(regions[None, :, :, None], window).flatten(1)
        apart = groups[:, :, None] != groups[:, None, :]
        return torch.zeros(apart.shape, dtype=dtype).masked_fill(apart, float("-inf")).to(device)


class PaddedSwinBlock(SwinTransformerBlock):
    """timm's Swin block that pads before it rolls, with a cached mask for every size of grid."""

    padding_is_seen = False

    def _attn(self, x: Tensor) -> Tensor:
        _, height, width, _ = x.shape
        window, shift = self.window_size, self.shift_size
        pad_h, pad_w = -height % window[0], -width % window[1]
        if pad_h or pad_w:
            x = functional.pad(x, (0, 0, 0, pad_w, 0, pad_h))
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), (1, 2))
        windows = window_partition(x, window).flatten(1, 2)
        mask = window_mask((height, width), window, shift, x.device, x.dtype, self.padding_is_seen)
        windows = self.attn(windows, mask=mask).unflatten(1, window)
        x = window_reverse(windows, window, height + pad_h, width + pad_w)
        if any(shift):
            x = x.roll(shift, (1, 2))
        return x[:, :height, :width] if pad_h or pad_w else x


class PublishedSwinBlock(PaddedSwinBlock):
    """The block as EsViT's code runs it: tokens attend to the padding of their window."""

    padding_is_seen = True


def fit_window(n_tokens: int, n_stages: int, largest: int) -> int:
    """Side of the attention window, 4 to `largest`, that pads an axis least; the larger on a tie.

    >>> fit_window(24, 3, largest=6), fit_window(16, 3, largest=6)
    (6, 4)
    """

    def padded_share(window: int) -> float:
        share = 0.0
        for stage in range(n_stages):
            n = -(-n_tokens // 2**stage)
            if n > window:  # a grid smaller than the window gets a window of its own size
                share += -(-n // window) * window / n - 1.0
        return share

    return min(range(largest, 3, -1), key=padded_share)


def build_swin(config: BackboneConfig, in_channels: int, image_size: Size) -> nn.Module:
    """Swin network of one of the project's names, its windows fitted to pictures of `image_size` or as configured.

    Other sizes pass through the same network, padded to whole windows and masked. A window larger than the grid of
    a stage shrinks to it, and that stage does not shift.

    Raises UserError for a window of one cell or less than none.
    """
    if config.window == 1 or config.window < 0:
        raise UserError(f"backbone window={config.window} must be 0 (fitted to the picture) or at least 2 cells.")
    micro = config.name == "swin_micro"
    grid = (-(-image_size[0] // PATCH), -(-image_size[1] // PATCH))
    common: dict[str, Any] = {
        "in_chans": in_channels, "num_classes": 0, "strict_img_size": False, "global_pool": "",
        "drop_path_rate": config.drop_path,
    }  # fmt: skip
    if config.published:
        grid, window = (PUBLISHED_SIDE // PATCH,) * 2, (config.window or PUBLISHED_WINDOW,) * 2
        common["norm_layer"] = partial(nn.LayerNorm, eps=PUBLISHED_EPS)
    elif config.window:
        window = (config.window, config.window)
    else:
        # Micro's windows are of at most 6, so that small crops do not consist of padding.
        stages, largest = (3, 6) if micro else (4, 8)
        window = (fit_window(grid[0], stages, largest), fit_window(grid[1], stages, largest))
    common |= {"img_size": (grid[0] * PATCH, grid[1] * PATCH), "window_size": window}
    if micro:
        net: nn.Module = SwinTransformer(patch_size=PATCH, **MICRO, **common)
    else:
        net = timm.create_model(PAPER[config.name], **common)
    return mend_shifts(net, padding_is_seen=config.published)


def mend_shifts(net: nn.Module, padding_is_seen: bool = False) -> nn.Module:
    """Let every Swin block of a timm network pad before it rolls; the parameters stay as they are."""
    for module in net.modules():
        if type(module) is SwinTransformerBlock:
            module.__class__ = PublishedSwinBlock if padding_is_seen else PaddedSwinBlock
    return net
