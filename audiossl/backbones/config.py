"""The settings of a backbone, free of torch so that a command line can read them at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class BackboneConfig:
    """Which network looks at the picture, and how its regions become one vector."""

    # resnet10, resnet10_half, resnet18, resnet50, swin_micro, swin_tiny, swin_small, swin_base, vit_tiny, vit_small,
    # vit_base, or timm/<model> for any model of timm that gives a map of features.
    name: str = "resnet10"
    # Rate of stochastic depth, for the student only.
    drop_path: float = 0.0
    # mean, mean_max, freq_mean, time_mean or class_token: see audiossl.backbones.pool.
    pool: str = "mean"
    # Side of Swin's attention windows in cells, such as EsViT's 7 or 14; 0 fits it to the picture.
    window: int = 0
    # The network as EsViT's code lays it out, number for number: Swin for 224 x 224 points with windows of 7, or of
    # `window`, at every size of picture, and padding that is seen; ViT with 14 x 14 positions, resampled as there.
    published: bool = False
    # Of ResNets, what comes before the first stage: imagenet makes a quarter of each side; small, for small pictures,
    # one 3 x 3 convolution that keeps them whole.
    stem: str = "imagenet"
    # Of ResNets, how many of the four stages there are, 1 to 4; 0 for all.
    stages: int = 0
