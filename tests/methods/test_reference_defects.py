"""Defects of EsViT's own code that no other test speaks of: masks built anew, host reads in a step, stray output."""

from __future__ import annotations

import pytest
import torch
from audiossl.transforms import MultiCrop, MultiCropConfig
from torch.utils._python_dispatch import TorchDispatchMode

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.backbones.swin import window_mask
from audiossl.methods.esvit import EsViT, EsViTConfig
from audiossl.run import gradients

# What makes the host wait for its device: a value of it is asked for, or a size depends on values.
HOST_READS = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "_unique2", "unique_dim")


def method_of(name="swin_micro", image_size=(32, 48), **changes):
    torch.manual_seed(0)
    settings = {"n_prototypes": 32, "hidden_dim": 32, "bottleneck_dim": 16, **changes}
    return EsViT(build_backbone(BackboneConfig(name), image_size), EsViTConfig(**settings)).train()


def views_of(image_size=(32, 48), **settings):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(3, 1, *image_size, generator=generator)
    return MultiCrop(MultiCropConfig(**{"n_locals": 2, **settings}), image_size, 1.0)(image, generator)


class HostReads(TorchDispatchMode):
    """Counts the operations that read a value of the device."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.n += name in HOST_READS or by_mask
        return func(*args, **(kwargs or {}))


def test_host_reads_are_counted():
    x = torch.arange(3.0)
    with HostReads() as reads:
        x.sum().item()
        bool(x[0] > 1)
        x[x > 1]
        x + 1
    assert reads.n == 3


@pytest.mark.parametrize("matching", ["argmax", "overlap", "energy"])
@pytest.mark.parametrize("mixing", [{}, {"mix_alpha": 0.8, "cut_alpha": 1.0}])
@pytest.mark.parametrize("per_tensor", [False, True])
def test_no_value_leaves_the_device_in_a_step(matching, mixing, per_tensor, monkeypatch):
    """Forward, backward, clipping of every tensor and the teacher's step; the reference reads some 180 norms."""
    method, views = method_of(region_matching=matching, koleo=0.1), views_of(**mixing)
    method(views, 0.04)  # the masks of these sizes are made, once
    with HostReads() as reads:
        method(views, 0.04).loss.backward()
        gradients.clip(method.parameters(), 3.0, per_tensor)
        method.update_teacher(0.9)
    assert reads.n == 0


def test_window_masks_are_made_once_for_each_size():
    window_mask.cache_clear()
    # 40 x 56 points are 10 x 14 cells in windows of 5 and 6: padded, and rolled in every other block.
    method, views = method_of(image_size=(40, 56)), views_of(image_size=(40, 56))
    method(views, 0.04)
    made = window_mask.cache_info().misses
    assert made > 0
    for _ in range(3):
        method(views, 0.04)
    assert window_mask.cache_info().misses == made
    assert window_mask.cache_info().hits > 3 * made


@pytest.mark.parametrize("name", ["swin_micro", "vit_tiny", "resnet10"])
@pytest.mark.parametrize("image_size", [(32, 96), (96, 32), (64, 208)])
def test_pictures_need_not_be_square_and_nothing_is_printed(name, image_size, capfd):
    method = method_of(name, image_size)
    loss = method(views_of(image_size), 0.04).loss
    loss.backward()
    assert loss.isfinite()
    out, err = capfd.readouterr()
    assert out + err == ""


def test_every_tensor_may_be_clipped_by_itself_as_in_the_reference():
    weights = [torch.zeros(4, requires_grad=True) for _ in range(3)]
    for weight, norm in zip(weights, (0.5, 3.0, 30.0), strict=True):
        weight.grad = torch.full((4,), norm / 2)  # of four equal numbers
    gradients.clip(weights, 3.0, per_tensor=True)
    norms = [float(weight.grad.norm()) for weight in weights]
    assert norms == pytest.approx([0.5, 3.0, 3.0], rel=1e-5)
