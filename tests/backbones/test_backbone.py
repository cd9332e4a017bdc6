"""Backbones of every family: one output, several picture sizes, right order of regions, clear refusals."""

from __future__ import annotations

import copy

import pytest
import torch

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.errors import UserError

SIZE = (64, 96)
# Name, dim, grids of a global picture, a local crop and an odd picture.
FAMILIES = [
    ("resnet10", 512, (2, 3), (1, 2), (2, 2)),
    ("swin_micro", 256, (4, 6), (2, 3), (4, 3)),
    ("vit_tiny", 192, (4, 6), (2, 3), (4, 3)),
    ("timm/convnext_atto", 320, (2, 3), (1, 1), (1, 1)),
]


@pytest.mark.parametrize(("name", "dim", "grid", "local_grid", "odd_grid"), FAMILIES)
def test_one_output_for_every_family_and_size(name, dim, grid, local_grid, odd_grid):
    backbone = build_backbone(BackboneConfig(name), SIZE)
    assert backbone.dim == backbone.feature_dim == dim
    for size, expected in ((SIZE, grid), ((32, 48), local_grid), ((50, 37), odd_grid)):
        output = backbone(torch.randn(2, 1, *size))
        assert output.grid == expected
        assert output.patches.shape == (2, expected[0] * expected[1], dim)
        assert torch.allclose(output.features, output.patches.mean(1), atol=1e-6)


@pytest.mark.parametrize("name", [*(family[0] for family in FAMILIES), "audiontt_2020", "timm/tf_efficientnet_lite0"])
def test_of_the_smallest_pictures_at_least_a_region_is_left(name):
    # Of 17 to 31 columns too: ConvNeXt's strides leave 4, 2, 1 and then 0 of 17.
    backbone = build_backbone(BackboneConfig(name), SIZE).eval()
    for n_frames in (1, 2, 3, 15, 16, 17, 31, 33):
        with torch.no_grad():
            output = backbone(torch.randn(1, 1, SIZE[0], n_frames))
        assert output.grid[1] >= 1
        assert output.patches.isfinite().all()


@pytest.mark.parametrize("name", ["resnet10", "swin_micro", "vit_tiny", "timm/convnext_atto"])
def test_every_parameter_takes_part(name):
    # A parameter without gradient stops distributed training.
    backbone = build_backbone(BackboneConfig(name), SIZE)
    output = backbone(torch.randn(2, 1, *SIZE))
    (output.features.square().sum() + output.patches.square().sum()).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["resnet10", "swin_micro", "vit_tiny"])
def test_regions_are_row_major_low_frequency_first(name):
    # A change in one corner of the picture moves the region of that corner most.
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name), (128, 192)).eval()
    plain = torch.randn(1, 1, 128, 192)
    with torch.no_grad():
        reference = backbone(plain)
        rows, columns = reference.grid
        for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1)):
            changed = plain.clone()
            f, t = row * 128 // rows, column * 192 // columns
            changed[:, :, f : f + 128 // rows, t : t + 192 // columns] += 1.0
            moved = (backbone(changed).patches - reference.patches).norm(dim=2)[0]
            assert int(moved.argmax()) == row * columns + column


def test_known_sizes():
    millions = {"resnet10": 4.92, "resnet18": 11.17, "swin_micro": 2.64, "vit_tiny": 5.39}
    for name, expected in millions.items():
        backbone = build_backbone(BackboneConfig(name), SIZE)
        assert sum(p.numel() for p in backbone.parameters()) / 1e6 == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("name", "dim"), [("resnet50", 2048), ("swin_tiny", 768), ("vit_small", 384)])
def test_larger_networks_can_be_built(name, dim):
    output = build_backbone(BackboneConfig(name), SIZE)(torch.zeros(1, 1, *SIZE))
    assert output.features.shape == (1, dim)


def test_several_channels():
    backbone = build_backbone(BackboneConfig("swin_micro"), SIZE, in_channels=3)
    assert backbone(torch.randn(1, 3, *SIZE)).features.shape == (1, 256)


@pytest.mark.parametrize("name", ["resnet10", "swin_micro", "vit_tiny"])
def test_bf16_autocast_and_channels_last(name):
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name), SIZE).eval()
    image = torch.randn(2, 1, *SIZE)
    with torch.no_grad():
        plain = backbone(image).features
        backbone.to(memory_format=torch.channels_last)
        assert torch.allclose(plain, backbone(image.to(memory_format=torch.channels_last)).features, atol=1e-4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            coarse = backbone(image).features.float()
    assert (coarse - plain).norm() / plain.norm() < 0.05


def test_drop_path_is_the_students_and_can_be_switched_off():
    torch.manual_seed(0)
    student = build_backbone(BackboneConfig("swin_micro", drop_path=0.5), SIZE).train()
    teacher = copy.deepcopy(student)
    teacher.disable_drop_path()
    image = torch.randn(4, 1, *SIZE)
    assert not torch.equal(student(image).features, student(image).features)
    assert torch.equal(teacher(image).features, teacher(image).features)
    without = build_backbone(BackboneConfig("swin_micro"), SIZE)
    without.load_state_dict(student.state_dict())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet11", "did you mean .*resnet10"),
        ("convnext_atto", "did you mean timm/convnext_atto"),
        ("nonsense", "the names are resnet10"),
        ("timm/convnext_ato", "did you mean .*convnext_atto"),
        ("timm/nest_tiny", "nest_tiny"),
    ],
)
def test_wrong_names(name, words):
    with pytest.raises(UserError, match=words):
        build_backbone(BackboneConfig(name), SIZE)


@pytest.mark.parametrize("size", [(32, 16), (16, 16), (32, 24), (64, 48)])
def test_small_pictures_in_bf16_read_no_memory_that_nobody_wrote(size):
    """Freed memory full of NaN shows what reads it: oneDNN does, for a stride of 2 on a map of one column."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig("resnet10"), (32, 32)).train()
    for _ in range(3):
        freed = [torch.full((2**k,), torch.nan) for k in range(4, 21) for _ in range(6)]
        del freed
        with torch.autocast("cpu", torch.bfloat16):
            features = backbone(torch.randn(8, 1, *size)).features
        features.float().square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in backbone.parameters())
