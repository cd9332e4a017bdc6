"""The settings of a backbone, free of torch so that a command line can read them at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class BackboneConfig:
    """Which network looks at the picture, and how its regions become one vector."""

    # resnet10, resnet10_half, resnet18, resnet50, swin_micro, swin_tiny, swin_small, swin_base, vit_tiny, vit_small,
    # vit_base, audiontt_2020, audiontt_2022, or timm/<model> for any model of timm that gives a map of features.
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
    # Of ResNets, begin every block as the identity, the gains of its last batch norm being 0, as timm does; false
    # begins with gains of 1, whose random features tell sounds apart better.
    zero_init: bool = True
    # Of AudioNTT, the width of its layers over frames: 512 (BYOL-A: 512, 1024 or 2048) and 2048; 0 for these.
    width: int = 0
