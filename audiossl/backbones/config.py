"""The settings of a backbone, free of torch so that a command line can read them at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class BackboneConfig:
    """Which network looks at the picture, and how its regions become one vector.

    name: resnet10, resnet18, resnet50, swin_micro, swin_tiny, swin_small, swin_base, vit_tiny, vit_small, or
        "timm/<model>" for any model of timm that gives a map of features.
    in_channels: pictures stacked as channels C.
    drop_path: rate of stochastic depth while training, for the student only.
    pool: see `audiossl.backbones.pool`.
    """

    name: str = "resnet10"
    in_channels: int = 1
    drop_path: float = 0.0
    pool: str = "mean"
