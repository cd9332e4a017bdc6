"""The mended Swin block: timm's where nothing is padded, and nothing wraps around where something is."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.backbones.swin import fit_window, mend_shifts, window_mask
from audiossl.errors import UserError

CPU = torch.device("cpu")


def stirred(module: torch.nn.Module) -> torch.nn.Module:
    """Weights under which every bias, norm and table of positions counts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def block(shift: int = 2, window: int = 4) -> SwinTransformerBlock:
    stock = SwinTransformerBlock(
        dim=8, input_resolution=(16, 16), num_heads=2, window_size=window, shift_size=shift, dynamic_mask=True
    )
    return mend_shifts(torch.nn.ModuleList([stirred(stock)]))[0]


@pytest.mark.parametrize("size", [(64, 96), (128, 96), (64, 192)])
def test_equals_timm_where_nothing_is_padded(size):
    torch.manual_seed(0)
    stock = SwinTransformer(
        img_size=(64, 96), in_chans=1, num_classes=0, embed_dim=16, depths=(2, 2, 2), num_heads=(1, 2, 4),
        window_size=(4, 6), strict_img_size=False, global_pool="", drop_path_rate=0.0,
    )  # fmt: skip
    stock = stirred(stock)
    mended = mend_shifts(copy.deepcopy(stock))
    image = torch.randn(2, 1, *size)
    with torch.no_grad():
        assert torch.allclose(mended.forward_features(image), stock.forward_features(image), atol=1e-5)


@pytest.mark.parametrize("grid", [(5, 6), (7, 9), (2, 3), (8, 8), (4, 6)])
@pytest.mark.parametrize("shift", [0, 2])
def test_a_token_attends_only_to_neighbours_in_its_window(grid, shift):
    """Reference: windows laid over the plane, moved by the shift; two tokens of one window see each other."""
    module = block(shift)
    x = torch.randn(1, *grid, 8, generator=torch.Generator().manual_seed(1))

    # Jacobian of the attention's output with respect to its input: which token hears which.
    jacobian = torch.autograd.functional.jacobian(lambda y: module._attn(y).sum(-1), x)[0, :, :, 0].abs().sum(-1)
    for a in [(r, c) for r in range(grid[0]) for c in range(grid[1])]:
        for b in [(r, c) for r in range(grid[0]) for c in range(grid[1])]:
            together = all((a[i] - shift) // 4 == (b[i] - shift) // 4 for i in (0, 1))
            assert (float(jacobian[a][b]) > 0) == together, (a, b)


def test_stock_timm_lets_tokens_wrap_around():
    # The reason for the mended block; when this fails, timm has mended its own.
    stock = block()
    stock.__class__ = SwinTransformerBlock
    x = torch.randn(1, 5, 5, 8)
    jacobian = torch.autograd.functional.jacobian(lambda y: stock._attn(y).sum(-1), x)
    assert float(jacobian[0, 0, 0, 0, 0, 4].abs().sum()) > 0


def test_padding_does_not_show():
    # The same tokens in a grid of whole windows and in one that needs padding: equal in whole windows.
    module = block(shift=0)
    x = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        assert torch.allclose(module(x[:, :6])[:, :4], module(x)[:, :4], atol=1e-6)


def test_padded_grids_are_finite_in_value_and_gradient():
    module = block()
    x = torch.randn(2, 1, 1, 8, requires_grad=True)
    module(x).sum().backward()
    assert x.grad.isfinite().all()


def test_mask_made_in_inference_mode_serves_training():
    window_mask.cache_clear()
    module = block()
    x = torch.randn(1, 6, 6, 8)
    with torch.inference_mode():
        module(x)
    module(x).sum().backward()
    assert window_mask.cache_info().hits >= 1


def test_window_mask_is_absent_when_nothing_is_masked():
    assert window_mask((8, 12), (4, 6), (0, 0), CPU, torch.float32) is None
    assert window_mask((8, 12), (4, 6), (2, 3), CPU, torch.float32).shape == (4, 24, 24)


def test_windows_fit_the_picture():
    assert [fit_window(n, 3, 6) for n in (16, 24, 32, 40, 48)] == [4, 6, 4, 5, 6]
    net = build_backbone(BackboneConfig("swin_micro"), (64, 96)).net
    assert [stage.blocks[1].window_size for stage in net.layers] == [(4, 6)] * 3


def test_an_odd_grid_is_halved_upwards():
    """10 x 6 cells, then 5 x 3 and 3 x 2; with timm before 1.0.31, which halves downwards, weights of other shapes."""
    net = build_backbone(BackboneConfig("swin_micro"), (40, 24)).net
    assert [{block.window_size for block in stage.blocks} for stage in net.layers] == [{(5, 6)}, {(5, 3)}, {(3, 2)}]
    assert net.layers[2].blocks[0].attn.relative_position_bias_table.shape == (5 * 3, 8)


@pytest.mark.parametrize(
    ("name", "window", "published", "sides"),
    [
        ("swin_tiny", 7, False, [(7, 7), (7, 7), (4, 6), (2, 3)]),  # the grids are 16 x 24, 8 x 12, 4 x 6, 2 x 3
        ("swin_tiny", 8, False, [(8, 8), (8, 8), (4, 6), (2, 3)]),
        ("swin_micro", 14, False, [(14, 14), (8, 12), (4, 6)]),
        ("swin_tiny", 0, True, [(7, 7)] * 4),
        ("swin_tiny", 14, True, [(14, 14)] * 3 + [(7, 7)]),  # laid out for 224 points: 56, 28, 14, 7
    ],
)
def test_windows_as_configured(name, window, published, sides):
    backbone = build_backbone(BackboneConfig(name, window=window, published=published), (64, 96)).eval()
    assert [stage.blocks[1].window_size for stage in backbone.net.layers] == sides
    with torch.no_grad():
        for size in ((64, 96), (32, 48), (100, 37)):
            assert backbone(torch.randn(1, 1, *size)).patches.isfinite().all()


@pytest.mark.parametrize("grid", [(5, 6), (2, 3)])
def test_padding_is_seen_on_request(grid):
    module = block(shift=0)
    x = torch.randn(1, *grid, 8)
    padded = torch.nn.functional.pad(x, (0, 0, 0, -grid[1] % 4, 0, -grid[0] % 4))
    with torch.no_grad():
        masked = module._attn(x)
        module.padding_is_seen = True
        seen = module._attn(x)
        assert torch.allclose(seen, module._attn(padded)[:, : grid[0], : grid[1]], atol=1e-6)
    assert not torch.allclose(seen, masked, atol=1e-3)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BackboneConfig("swin_tiny", window=1), "window=1 must be 0"),
        (BackboneConfig("swin_micro", window=-7), "window=-7 must be 0"),
        (BackboneConfig("resnet10", window=7), "window=7 is for Swin, and name='resnet10'"),
    ],
)
def test_wrong_windows(config, words):
    with pytest.raises(UserError, match=words):
        build_backbone(config, (64, 96))
