"""The settings of a backbone, free of torch so that a command line can read them at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class BackboneConfig:
    """Which network looks at the picture, and how its regions become one vector."""

    # resnet10, resnet18, resnet50, swin_micro, swin_tiny, swin_small, swin_base, vit_tiny, vit_small, or timm/<model>
    # for any model of timm that gives a map of features.
    name: str = "resnet10"
    # Rate of stochastic depth, for the student only.
    drop_path: float = 0.0
    # mean, mean_max, freq_mean or time_mean: see audiossl.backbones.pool.
    pool: str = "mean"
