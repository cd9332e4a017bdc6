"""Maps of all blocks: their means are the pooled blocks, for every family."""

import pytest
import torch

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.backbones.hidden_states import hidden_states
from audiossl.backbones.last_blocks import blocks_of, last_blocks
from audiossl.errors import UserError

FAMILIES = ["swin_micro", "resnet10", "vit_tiny", "timm/convnext_atto", "audiontt_2020", "timm/mobilenetv3_small_050"]


@pytest.fixture(params=FAMILIES)
def backbone(request):
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(request.param), (64, 96)).eval()


@torch.no_grad()
def test_every_family_has_maps_over_time_and_frequency(backbone):
    states = hidden_states(backbone, torch.randn(2, 1, 64, 96))
    assert len(states) == len(blocks_of(backbone))
    for state in states:
        batch, dim, rows, frames = state.shape
        assert batch == 2
        assert dim > 1
        assert rows <= 64
        assert rows <= frames <= 96
    times = [state.shape[3] for state in states]
    assert times == sorted(times, reverse=True)


@torch.no_grad()
def test_a_network_without_known_blocks_ends_in_its_own_map():
    backbone = build_backbone(BackboneConfig("audiontt_2020"), (64, 96)).eval()
    image = torch.randn(2, 1, 64, 96)
    patches, grid = backbone.regions(image)
    assert torch.equal(hidden_states(backbone, image)[-1], patches.unflatten(1, grid).permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["resnet10", "swin_micro"])
@torch.no_grad()
def test_their_means_are_the_pooled_blocks(name):
    backbone = build_backbone(BackboneConfig(name), (64, 96)).eval()
    image = torch.randn(2, 1, 64, 96)
    early = [state.mean((2, 3)) for state in hidden_states(backbone, image)]
    n = len(early)
    pooled = last_blocks(backbone, image, n)
    first = early[0].shape[1]
    assert torch.allclose(pooled[:, :first], early[0], atol=1e-5)
    if name == "resnet10":  # whose last stage has no norm
        assert torch.allclose(pooled, torch.cat(early, 1), atol=1e-5)
    chosen = hidden_states(backbone, image, [-1, 0])
    assert torch.equal(chosen[1].mean((2, 3)), early[0])
    assert torch.equal(chosen[0].mean((2, 3)), early[-1])


def test_a_block_that_is_not_there():
    backbone = build_backbone(BackboneConfig("resnet10"), (64, 96))
    with pytest.raises(UserError, match="layers has 4, and the network has 4"):
        hidden_states(backbone, torch.zeros(1, 1, 64, 96), [4])
