"""Vision transformers (Dosovitskiy et al., 2021) as EsViT and DINO lay them out, over timm.

Positions are learned for 14 x 14 cells and resampled to the grid of each picture. timm smooths them first where the
grid is smaller; the published networks were trained on small crops with plain bicubic resampling, and are held to it
here: at 96 points the regions would differ by 0.1 otherwise.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from .config import BackboneConfig

VITS = {
    "vit_tiny": "vit_tiny_patch16_224",
    "vit_small": "vit_small_patch16_224",
    "vit_base": "vit_base_patch16_224",
}


class PublishedVisionTransformer(VisionTransformer):
    """timm's ViT whose positions are resampled without smoothing."""

    cls_token: nn.Parameter  # which other ViTs of timm may lack

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Cells (B, F', T', D) to tokens (B, 1 + F' T', D), the class token first, with their positions added."""
        cells, here = self.patch_embed.grid_size, x.shape[1:3]
        positions = resample_abs_pos_embed(self.pos_embed, list(here), list(cells), antialias=False)
        tokens = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x.flatten(1, 2)], dim=1)
        return self.pos_drop(tokens + positions)


def build_published_vit(config: BackboneConfig, in_channels: int) -> nn.Module:
    """ViT of one of the project's names for pictures of any size; its layer norms' epsilon, 1e-6, is timm's too."""
    common: dict[str, Any] = {"in_chans": in_channels, "num_classes": 0, "global_pool": "", "dynamic_img_size": True}
    net = timm.create_model(VITS[config.name], drop_path_rate=config.drop_path, **common)
    net.__class__ = PublishedVisionTransformer
    return net
