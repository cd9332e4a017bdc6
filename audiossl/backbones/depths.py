"""How deep each parameter of a network stands: for learning rates that fall from the head to the picture.

timm's networks say which of their parameters form a layer (`group_matcher`); of others every top-level part is one.
"""

from __future__ import annotations

from typing import Any

from timm.models import group_parameters
from torch import nn

from .backbone import Backbone


def parameter_depths(module: nn.Module) -> dict[str, int]:
    """Depth of every parameter of `module` by name: 0 for a network's first layer, one more for each after it.

    What is outside of a `Backbone` inside `module`, such as a head, is one deeper than its last layer.

    >>> from audiossl.backbones import BackboneConfig, build_backbone
    >>> depths = parameter_depths(build_backbone(BackboneConfig("resnet10"), (64, 96)))
    >>> depths["net.conv1.0.weight"], depths["net.layer4.0.conv1.weight"]
    (0, 4)
    """
    depths: dict[str, int] = {}
    for place, part in module.named_modules():
        if isinstance(part, Backbone):
            net, prefix = part.net, f"{place}.net." if place else "net."
            depths |= {prefix + name: depth for name, depth in _of_net(net).items()}
    behind = max(depths.values(), default=-1) + 1
    return {name: depths.get(name, behind) for name, _ in module.named_parameters()}


def _of_net(net: nn.Module) -> dict[str, int]:
    matcher: Any = getattr(net, "group_matcher", None)
    if matcher is not None:
        found: dict[str, int] = group_parameters(net, matcher(coarse=False), reverse=True)
        numbers = {depth: number for number, depth in enumerate(sorted(set(found.values())))}
        return {name: numbers[depth] for name, depth in found.items()}
    parts = [name for name, part in net.named_children() if any(True for _ in part.parameters())]
    return {name: parts.index(name.split(".")[0]) for name, _ in net.named_parameters() if "." in name}
