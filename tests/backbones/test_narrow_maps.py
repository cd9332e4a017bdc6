"""Strided convolutions on maps of a column or two: equal to plain ones, and nothing read that nobody wrote."""

import pytest
import torch
from torch import nn

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.backbones.narrow_maps import StridedConv2d

WIDTHS = pytest.mark.parametrize("width", [1, 2, 3, 4, 7])


def a_pair(kernel, stride, padding):
    plain = nn.Conv2d(8, 16, kernel, stride=stride, padding=padding, dtype=torch.float64)
    safe = StridedConv2d(8, 16, kernel, stride=stride, padding=padding, dtype=torch.float64)
    safe.load_state_dict(plain.state_dict())
    return plain, safe


@WIDTHS
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (7, 2, 3), (3, (2, 1), 1), (5, 3, 2)])
def test_outputs_and_gradients_are_those_of_the_plain_convolution(width, kernel, stride, padding):
    results = []
    for layer in a_pair(kernel, stride, padding):
        image = torch.randn(2, 8, 9, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        out = layer(image.requires_grad_())
        out.square().sum().backward()
        results.append((out, image.grad, layer.weight.grad, layer.bias.grad))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


@WIDTHS
@pytest.mark.parametrize("height", [4, 8, 16])
def test_in_bf16_no_memory_is_read_that_nobody_wrote(height, width):
    layer = StridedConv2d(64, 128, 3, stride=2, padding=1, bias=False)
    for _ in range(3):
        image = torch.randn(8, 64, height, width)
        freed = [torch.full((2**k,), torch.nan) for k in range(4, 18) for _ in range(6)]
        del freed
        with torch.autocast("cpu", torch.bfloat16):
            out = layer(image)
        torch.testing.assert_close(out.float(), layer(image), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", ["resnet10", "resnet18"])
def test_networks_have_them_where_they_stride(name):
    net = build_backbone(BackboneConfig(name), (32, 32)).net
    strided = [module for module in net.modules() if isinstance(module, nn.Conv2d) and module.kernel_size[1] > 1]
    strided = [module for module in strided if module.stride[1] > 1]
    assert len(strided) >= 4
    assert all(type(module) is StridedConv2d for module in strided)
