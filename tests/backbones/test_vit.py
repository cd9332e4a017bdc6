"""ViT: the class token as the vector of a clip, and positions as the reference resamples them."""

from __future__ import annotations

import pytest
import torch

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.errors import UserError

SIZE = (64, 96)


@pytest.mark.parametrize("published", [False, True])
def test_class_token_is_the_networks_first_token(published):
    backbone = build_backbone(BackboneConfig("vit_tiny", pool="class_token", published=published), SIZE).eval()
    image = torch.randn(2, 1, *SIZE)
    with torch.no_grad():
        output = backbone(image)
        tokens = backbone.net.forward_features(image)
    assert backbone.feature_dim == 192
    assert torch.equal(output.features, tokens[:, 0])
    assert torch.equal(output.patches, tokens[:, 1:])


def test_class_token_needs_a_network_that_has_one():
    for name in ("resnet10", "swin_micro", "timm/vit_relpos_small_patch16_224"):
        with pytest.raises(UserError, match="pool='class_token' needs a ViT, and backbone name="):
            build_backbone(BackboneConfig(name, pool="class_token"), SIZE)


def test_published_positions_are_resampled_without_smoothing():
    # Reference: tokens of a picture of zeros are the embedding's bias and nothing else before positions come to them.
    net = build_backbone(BackboneConfig("vit_tiny", published=True), SIZE).net
    cells = torch.zeros(1, 4, 6, 192)
    positions = net.pos_embed[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    plain = torch.nn.functional.interpolate(positions, (4, 6), mode="bicubic").flatten(2).transpose(1, 2)
    with torch.no_grad():
        tokens = net._pos_embed(cells)
        assert torch.allclose(tokens[:, 1:], plain, atol=1e-6)
        assert torch.allclose(tokens[:, 0], net.cls_token[:, 0] + net.pos_embed[:, 0])
        whole = net._pos_embed(torch.zeros(1, 14, 14, 192))
        assert torch.allclose(whole[:, 1:], net.pos_embed[:, 1:], atol=1e-6)


@pytest.mark.parametrize("name", ["resnet50", "swin_micro", "timm/convnext_atto"])
def test_published_is_for_networks_that_were(name):
    with pytest.raises(UserError, match=r"published=True is for swin_tiny, .* vit_base, not name="):
        build_backbone(BackboneConfig(name, published=True), SIZE)
