"""ResNets for small pictures, over timm: another stem, fewer stages, half the width.

EMP-SSL (Tong et al., 2023) and most work on small pictures replace the stem, which makes a quarter of each side before
the first block, by one convolution of stride 1. On patches of a spectrogram that is 16 times the work, and the regions
are finer by 4. Without its last stages a network is much smaller and its features are narrower: 256 without the fourth,
128 without the last two ("mini" and "tiny" in kachayev/ssl-in-one-epoch).
"""

from __future__ import annotations

from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from audiossl.errors import UserError

from .config import BackboneConfig

# Name -> timm's name, and what is built otherwise than there.
RESNETS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet10": ("resnet10t", {}),
    # The widths of the ResNet-10 in tsb0601/EMP-SSL.
    "resnet10_half": ("resnet10t", {"stem_width": 16, "channels": (32, 64, 128, 256)}),
    "resnet18": ("resnet18", {}),
    "resnet50": ("resnet50", {}),
}
STEMS = ("imagenet", "small")
N_STAGES = 4


def fit_resnet(net: nn.Module, config: BackboneConfig, in_channels: int) -> nn.Module:
    """Give a ResNet of timm the stem and the stages of `config`, in place; any other network is returned as it is.

    Raises UserError for a stem or a number of stages that there is not, and for those settings with another network.
    """
    if config.stem not in STEMS:
        raise UserError(f"backbone stem={config.stem!r} is unknown: choose one of {', '.join(STEMS)}.")
    if not 0 <= config.stages <= N_STAGES:
        raise UserError(f"backbone stages={config.stages} must be from 1 to {N_STAGES}, or 0 for all.")
    if not isinstance(net, ResNet):
        own = {f"stem={config.stem!r}": ("stem", "imagenet"), f"stages={config.stages}": ("stages", 0)}
        own[f"zero_init={config.zero_init}"] = ("zero_init", True)
        wrong = {text: undo for text, undo in own.items() if getattr(config, undo[0]) != undo[1]}
        if wrong:  # of a preset, as a rule
            undone = " ".join(f"--backbone.{name} {str(value).lower()}" for name, value in wrong.values())
            text = ", ".join(wrong)
            raise UserError(f"backbone {text} is for ResNets, and name={config.name!r} is none: give {undone}.")
        return net
    if config.stem == "small":
        _small_stem(net, in_channels)
    if config.stages:
        _cut(net, config.stages)
    if not config.zero_init:
        _unit_gains(net)
    return net


def _small_stem(net: Any, in_channels: int) -> None:
    """One 3 x 3 convolution of stride 1, and no pooling after it."""
    net.conv1 = nn.Conv2d(in_channels, net.bn1.num_features, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")  # as timm's other convolutions
    net.maxpool = nn.Identity()
    for stage in net.feature_info:
        stage["reduction"] = max(stage["reduction"] // 4, 1)


def _cut(net: Any, stages: int) -> None:
    """Remove the stages behind the first `stages`."""
    for number in range(stages + 1, N_STAGES + 1):
        setattr(net, f"layer{number}", nn.Sequential())
    net.feature_info = net.feature_info[: 1 + stages]  # the stem is the first
    net.num_features = net.head_hidden_size = net.feature_info[-1]["num_chs"]


def _unit_gains(net: nn.Module) -> None:
    """Set to 1 what timm sets to 0: the gains of each block's last batch norm."""
    for block in net.modules():
        if isinstance(block, BasicBlock | Bottleneck):
            last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
            assert isinstance(last, nn.BatchNorm2d)
            nn.init.ones_(last.weight)
