"""Features of the last blocks: against the networks run block by block, for every family and size of picture."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.nn import functional

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.backbones.last_blocks import check_last_blocks, last_blocks
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError

SIZES = [(64, 96), (50, 37), (32, 48)]


def build(name: str, **settings):
    """A network in which every bias and norm counts, since fresh ones are 0 and 1."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name, **settings), (64, 96)).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return backbone


def padded(image, multiple: int):
    return functional.pad(image, (0, -image.shape[3] % multiple, 0, -image.shape[2] % multiple))


def swin_blocks(net, image):
    """Every block's map, pooled: the last norm for those of the last stage alone."""
    x, pooled = net.patch_embed(padded(image, 4)), []
    for number, stage in enumerate(net.layers):
        x = stage.downsample(x)
        for block in stage.blocks:
            x = block(x)
            pooled.append((net.norm(x) if number == len(net.layers) - 1 else x).mean((1, 2)))
    return pooled


def vit_blocks(net, image):
    x, tokens = net.norm_pre(net._pos_embed(net.patch_embed(padded(image, 16)))), []
    for block in net.blocks:
        x = block(x)
        tokens.append(net.norm(x)[:, 0])
    return tokens, net.norm(x)[:, 1:].mean(1)


def resnet_blocks(net, image):
    x, pooled = net.maxpool(net.act1(net.bn1(net.conv1(image)))), []
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        for block in layer:
            x = block(x)
            pooled.append(x.mean((2, 3)))
    return pooled


def convnext_blocks(net, image):
    x, pooled = net.stem(image), []
    for number, stage in enumerate(net.stages):
        x = stage.downsample(x)
        for block in stage.blocks:
            x = block(x)
            pooled.append((net.head.norm(x) if number == len(net.stages) - 1 else x).mean((2, 3)))
    return pooled


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "blocks", "depth"),
    [
        ("swin_micro", swin_blocks, 8),
        ("resnet10", resnet_blocks, 4),
        ("resnet18", resnet_blocks, 8),
        ("timm/convnext_atto", convnext_blocks, 12),
    ],
)
def test_equals_the_network_run_block_by_block(name, blocks, depth, size):
    backbone, image = build(name), torch.randn(2, 1, *size)
    with torch.no_grad():
        expected = blocks(backbone.net, image)
        assert len(expected) == depth
        for n in (1, 2, 4, depth):
            assert torch.allclose(last_blocks(backbone, image, n), torch.cat(expected[-n:], 1), atol=1e-5)
        assert torch.allclose(last_blocks(backbone, image, 1), backbone(image).features, atol=1e-5)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_vit_gives_its_class_tokens_and_on_request_its_patches(size, published):
    backbone, image = build("vit_tiny", published=published), torch.randn(2, 1, *size)
    with torch.no_grad():
        tokens, patches = vit_blocks(backbone.net, image)
        for n in (1, 4, 12):
            expected = torch.cat(tokens[-n:], 1)
            assert torch.allclose(last_blocks(backbone, image, n), expected, atol=1e-5)
            expected = torch.cat([expected, patches], 1)
            assert torch.allclose(last_blocks(backbone, image, n, avgpool_patchtokens=True), expected, atol=1e-5)


def test_swin_tiny_gives_the_widths_of_the_paper():
    backbone = build_backbone(BackboneConfig("swin_tiny"), (64, 96)).eval()
    with torch.no_grad():
        assert last_blocks(backbone, torch.zeros(1, 1, 64, 96), 4).shape == (1, 384 + 384 + 768 + 768)


@pytest.mark.parametrize("name", ["timm/mobilenetv3_small_050", "timm/efficientnet_b0"])
def test_other_networks_give_their_last_stages(name):
    backbone, image = build(name), torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        whole = backbone(image).features
        assert torch.allclose(last_blocks(backbone, image, 1), whole, atol=1e-5)
        two = last_blocks(backbone, image, 2)
    before = backbone.net.feature_info[-2]["num_chs"]
    assert two.shape == (2, before + whole.shape[1])
    assert torch.allclose(two[:, before:], whole, atol=1e-5)


def test_no_hook_is_left_behind():
    backbone, image = build("swin_micro"), torch.randn(1, 1, 64, 96)
    last_blocks(backbone, image, 4)
    with pytest.raises(RuntimeError):  # nor after a picture that cannot pass
        last_blocks(backbone, torch.randn(1, 3, 64, 96), 4)
    assert all(not module._forward_hooks for module in backbone.modules())


def test_the_encoder_reads_waves():
    torch.manual_seed(0)
    encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("swin_micro"))).eval()
    wave = 0.1 * torch.randn(3, 16000)
    with torch.no_grad():
        features = encoder.last_blocks(wave, 4)
        expected = torch.cat(swin_blocks(encoder.backbone.net, encoder.image(wave))[-4:], 1)
    assert features.dtype == torch.float32
    assert torch.allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "n", "avgpool", "words"),
    [
        ("swin_micro", 9, False, "last_blocks is 9, and the network has 8 blocks: give a number from 1 to 8"),
        ("swin_micro", 0, False, "last_blocks is 0"),
        ("timm/mobilenetv3_small_050", 40, False, "last_blocks is 40, and the network has . stages"),
        ("resnet10", 2, True, "avgpool_patchtokens is for a ViT with a class token"),
    ],
)
def test_what_a_network_does_not_have_is_said(name, n, avgpool, words):
    backbone = build(name)
    with pytest.raises(UserError, match=words):
        check_last_blocks(backbone, n, avgpool)
    with pytest.raises(UserError, match=words):
        last_blocks(backbone, torch.zeros(1, 1, 64, 96), n, avgpool)


def test_a_vit_without_class_token_gives_the_mean_of_its_patches():
    name = "vit_dpwee_patch16_reg1_gap_256"
    if not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} does not have {name} yet")
    backbone, image = build(f"timm/{name}"), torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        assert torch.allclose(last_blocks(backbone, image, 1), backbone(image).features, atol=1e-5)
        assert last_blocks(backbone, image, 3).shape == (2, 3 * backbone.dim)
