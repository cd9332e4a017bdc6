"""How deep each parameter stands, and the learning rates that follow from it."""

import pytest
import torch
from audiossl.transforms import PatchesConfig
from torch import nn

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.backbones.depths import parameter_depths
from audiossl.bag import BagOfPatches
from audiossl.bag_config import BagConfig
from audiossl.heads import ClassifierHead
from audiossl.optim import OptimConfig, build_optimizer, rates, set_rates

FIRST = {"resnet10": "net.conv1.0.weight", "swin_micro": "net.patch_embed.proj.weight", "vit_tiny": "net.cls_token"}


@pytest.mark.parametrize(
    ("name", "layers"),
    [("resnet10", 5), ("swin_micro", 9), ("vit_tiny", 13), ("audiontt_2020", 2), ("timm/convnext_atto", 14)],
)
def test_every_parameter_has_a_depth_without_gaps(name, layers):
    backbone = build_backbone(BackboneConfig(name), (64, 96))
    depths = parameter_depths(backbone)
    assert depths.keys() == dict(backbone.named_parameters()).keys()
    assert set(depths.values()) == set(range(layers))
    assert depths.get(FIRST.get(name), 0) == 0


def test_what_is_behind_the_network_is_deepest():
    bag = BagOfPatches(BackboneConfig("resnet10", stages=2), BagConfig(), PatchesConfig(), (32, 48), 1.0)
    module = nn.ModuleDict({"backbone": bag, "head": ClassifierHead(8, 2)})
    depths = parameter_depths(module)
    deepest = max(depths.values())
    assert depths["head.linear.weight"] == deepest
    assert depths["backbone.network.net.layer2.0.conv1.weight"] == deepest - 1


def test_rates_fall_by_the_layer_and_every_parameter_moves_once():
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig("resnet10", stages=2), (32, 48))
    module = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(backbone.feature_dim, 2)})
    config = OptimConfig(lr=1e-3, lr_clips=0, warmup_epochs=0, layer_decay=0.5, weight_decay=0.3)
    optimizer = build_optimizer(module, config)
    set_rates(optimizer, rates(config, 0, 10, 5, 64))
    lr = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(lr) == sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.parameters()))
    assert lr[id(module["head"].weight)] == 1e-3
    for name, depth in parameter_depths(module).items():
        assert lr[id(module.get_parameter(name))] == pytest.approx(1e-3 * 0.5 ** (3 - depth)), name
