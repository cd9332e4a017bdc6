"""ResNets for small pictures: the stem, the stages and the widths, against networks put together by hand."""

from __future__ import annotations

import pytest
import timm
import torch
from torch.nn import functional

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.backbones.last_blocks import check_last_blocks, last_blocks
from audiossl.errors import UserError

SIZE = (64, 32)


def build(name: str = "resnet10", **settings):
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(name, **settings), SIZE)


@pytest.mark.parametrize(
    ("name", "settings", "dim", "stride"),
    [
        ("resnet10", {"stem": "small"}, 512, 8),
        ("resnet10", {"stages": 3}, 256, 16),
        ("resnet10_half", {}, 256, 32),
        ("resnet10_half", {"stem": "small"}, 256, 8),
        ("resnet18", {"stem": "small", "stages": 3}, 256, 4),
        ("resnet18", {"stem": "small", "stages": 2}, 128, 2),
        ("resnet18", {"stem": "imagenet", "stages": 1}, 64, 4),
        ("resnet18", {"stem": "small", "stages": 1}, 64, 1),
        ("timm/resnet14t", {"stem": "small", "stages": 2}, 512, 2),
    ],
)
def test_dim_stride_and_grid(name, settings, dim, stride):
    backbone = build(name, **settings)
    assert (backbone.dim, backbone.feature_dim, backbone.stride) == (dim, dim, (stride, stride))
    for size in (SIZE, (32, 32), (50, 37)):
        output = backbone(torch.randn(2, 1, *size))
        assert output.grid == (-(-size[0] // stride), -(-size[1] // stride))
        assert output.patches.shape == (2, output.grid[0] * output.grid[1], dim)


@pytest.mark.parametrize("name", ["resnet10", "resnet10_half", "resnet18"])
def test_small_stem_is_one_convolution_and_no_pooling(name):
    net, image = build(name, stem="small").eval().net, torch.randn(2, 1, *SIZE)
    with torch.no_grad():
        x = functional.conv2d(image, net.conv1.weight, padding=1)
        x = functional.relu(functional.batch_norm(x, net.bn1.running_mean, net.bn1.running_var, eps=1e-5))
        assert x.shape == (2, 32 if name == "resnet10_half" else 64, *SIZE)
        expected = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        torch.testing.assert_close(net.forward_features(image), expected)


def test_small_stem_is_initialised_as_the_other_convolutions():
    # He et al. (2015), fan out: variance 2 / (9 x 64), of 9 x 64 x 3 numbers.
    torch.manual_seed(0)
    weight = build_backbone(BackboneConfig("resnet18", stem="small"), SIZE, in_channels=3).net.conv1.weight.detach()
    assert weight.shape == (64, 3, 3, 3)
    assert float(weight.var()) == pytest.approx(2 / (9 * 64), rel=0.1)


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_a_cut_network_is_the_beginning_of_the_whole(stages):
    whole, cut = build("resnet18").eval(), build("resnet18", stages=stages).eval()
    missing = cut.load_state_dict(whole.state_dict(), strict=False).missing_keys
    x = image = torch.randn(2, 1, *SIZE)
    with torch.no_grad():
        for part in ("conv1", "bn1", "act1", "maxpool", *(f"layer{n + 1}" for n in range(stages))):
            x = getattr(whole.net, part)(x)
        torch.testing.assert_close(cut(image).patches, x.flatten(2).transpose(1, 2))
    assert missing == []


def test_half_widths_are_those_of_the_published_code():
    net = build("resnet10_half", stem="small").net
    assert [stage[0].conv2.out_channels for stage in (net.layer1, net.layer2, net.layer3, net.layer4)] == [
        32, 64, 128, 256,
    ]  # fmt: skip
    assert net.layer1[0].downsample is None


def test_regions_are_row_major_low_frequency_first():
    backbone = build(stem="small", stages=3).eval()
    plain = torch.randn(1, 1, *SIZE)
    with torch.no_grad():
        reference = backbone(plain)
        for row, column in ((0, 0), (0, 7), (15, 0), (7, 3), (15, 7)):
            changed = plain.clone()
            changed[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1.0
            moved = (backbone(changed).patches - reference.patches).norm(dim=2)[0]
            assert int(moved.argmax()) == row * 8 + column


@pytest.mark.parametrize("settings", [{"stem": "small"}, {"stages": 3}, {"stem": "small", "stages": 2}])
@pytest.mark.parametrize("size", [(32, 16), (8, 4), (2, 1), (1, 1), (16, 2), (16, 16)])
def test_small_pictures_in_bf16_read_no_memory_that_nobody_wrote(settings, size):
    """As for the whole networks in test_backbone: a stride of 2 on a map of one column is the danger."""
    backbone = build("resnet10_half", **settings).train()
    for _ in range(2):
        freed = [torch.full((2**k,), torch.nan) for k in range(4, 18) for _ in range(6)]
        del freed
        with torch.autocast("cpu", torch.bfloat16):
            features = backbone(torch.randn(8, 1, *size)).features
        features.float().square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in backbone.parameters())


@pytest.mark.parametrize("pool", ["mean", "mean_max", "freq_mean", "time_mean"])
def test_every_pooling_and_size(pool):
    backbone = build("resnet10_half", stem="small", stages=2, pool=pool).eval()
    for size in (SIZE, (32, 32), (64, 300)):
        assert backbone(torch.randn(1, 1, *size)).features.shape == (1, backbone.feature_dim)


def test_last_blocks_of_a_cut_network():
    backbone, image = build("resnet18", stem="small", stages=2).eval(), torch.randn(2, 1, *SIZE)
    with torch.no_grad():
        assert torch.equal(last_blocks(backbone, image, 1), backbone(image).features)
        assert last_blocks(backbone, image, 4).shape == (2, 64 + 64 + 128 + 128)
    with pytest.raises(UserError, match="the network has 4 blocks"):
        check_last_blocks(backbone, 5)


def test_the_defaults_are_timms_networks():
    for name, model in (("resnet10", "resnet10t"), ("resnet18", "resnet18")):
        net = timm.create_model(model, in_chans=1, num_classes=0, global_pool="").eval()
        backbone = build(name).eval()
        backbone.net.load_state_dict(net.state_dict())
        image = torch.randn(1, 1, 64, 96)
        with torch.no_grad():
            torch.testing.assert_close(backbone(image).patches, net.forward_features(image).flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BackboneConfig("swin_micro", stem="small"), "stem='small' is for ResNets, and name='swin_micro' is none"),
        (BackboneConfig("vit_tiny", stages=3), "stages=3 is for ResNets, and name='vit_tiny' is none"),
        (BackboneConfig("timm/convnext_atto", stages=2), "stages=2 is for ResNets, and name='timm/convnext_atto'"),
        (BackboneConfig("resnet10", stages=5), "stages=5 must be from 1 to 4, or 0 for all"),
        (BackboneConfig("resnet10", stages=-1), "stages=-1 must be from 1 to 4"),
        (BackboneConfig("resnet10", stem="tiny"), "stem='tiny' is unknown: choose one of imagenet, small"),
    ],
)
def test_wrong_settings(config, words):
    with pytest.raises(UserError, match=words):
        build_backbone(config, (64, 96))


def test_blocks_may_begin_with_gains_of_1():
    blocks = [module for module in build().modules() if hasattr(module, "bn2")]
    assert blocks
    assert all(block.bn2.weight.eq(0).all() for block in blocks)
    for name, last in (("resnet10", "bn2"), ("resnet50", "bn3")):
        net = build(name, zero_init=False)
        assert all(getattr(block, last).weight.eq(1).all() for block in net.modules() if hasattr(block, last))


def test_an_error_says_how_to_undo_what_a_preset_says_of_resnets():
    with pytest.raises(
        UserError, match=r"stages=3, zero_init=False is for .* --backbone.stages 0 --backbone.zero_init true"
    ):
        build("audiontt_2020", stages=3, zero_init=False)
