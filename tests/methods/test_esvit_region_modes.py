"""EsViT's three ways to match regions, two-stage training, and steps that other programs stumble over."""

import pytest
import torch
from audiossl.transforms.view_config import MultiCropConfig
from audiossl.transforms.views import MultiCrop, Views

from audiossl.backbones import build_backbone
from audiossl.backbones.config import BackboneConfig
from audiossl.errors import UserError
from audiossl.losses.match import match_by_features
from audiossl.losses.region import region_loss
from audiossl.methods.esvit import EsViT, EsViTConfig

SMALL = {"n_prototypes": 32, "hidden_dim": 32, "bottleneck_dim": 16}


def small_method(**changes):
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig("resnet10"), (64, 96))
    return EsViT(backbone, EsViTConfig(**{**SMALL, **changes}), clip_s=1.0)


def some_views(n_clips=4, n_locals=2):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(n_clips, 1, 64, 96, generator=generator)
    return MultiCrop(MultiCropConfig(n_locals=n_locals), (64, 96), 1.0)(image, generator)


def matches_and_weights(method, views, monkeypatch):
    """What the region loss is given in one forward pass."""
    given = {}

    def keeping(students, matches, weights, *rest):
        given.update(matches=matches, weights=weights)
        return region_loss(students, matches, weights, *rest)

    monkeypatch.setattr("audiossl.methods.esvit.region_loss", keeping)
    method(views, 0.04)
    return given["matches"], given["weights"]


def in_batch(match):
    """Regions of each clip's own teacher (G, V, B, P) as the numbers that the region loss takes."""
    return (match + 6 * torch.arange(match.shape[2])[:, None])[..., None]


def test_argmax_is_the_default_and_counts_regions_alike(monkeypatch):
    method, views = small_method().eval(), some_views()
    matches, weights = matches_and_weights(method, views, monkeypatch)
    teacher = method.teacher(Views(views.images[:1], views.boxes[:2]))[0].regions.features
    for seen, match, weight in zip(method.student(views), matches, weights, strict=True):
        assert match.equal(in_batch(match_by_features(seen.regions.features, teacher)))
        assert (weight == 1 / match.shape[3]).all()


def test_overlap_matches_equal_boxes_cell_by_cell_and_far_ones_by_features(monkeypatch):
    method, views = small_method(region_matching="overlap").eval(), some_views(n_locals=1)
    boxes = torch.tensor([[0.0, 0.5, 0.0, 1.0], [0.0, 0.5, 0.0, 1.0], [0.5, 1.0, 0.0, 1.0]])
    views = Views(views.images, boxes[:, None].expand(3, 4, 4))
    matches, _ = matches_and_weights(method, views, monkeypatch)
    cells = torch.arange(6).expand(2, 2, 4, 6)
    assert matches[0].equal(in_batch(cells))
    far = method.student(views)[1].regions.features
    teacher = method.teacher(Views(views.images[:1], views.boxes[:2]))[0].regions.features
    assert matches[1].equal(in_batch(match_by_features(far, teacher)))


def test_energy_leaves_silent_regions_out(monkeypatch):
    method = small_method(region_matching="energy").eval()
    image = torch.full((8, 1, 64, 96), -1.0)
    image[:, :, :32, :32] = 2.0  # the first of 2 x 3 regions
    views = Views([image], torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(2, 4, 4))
    _, (weights,) = matches_and_weights(method, views, monkeypatch)
    torch.testing.assert_close(weights[..., 0], torch.eye(6)[0].expand(2, 4, 6))


@pytest.mark.parametrize("mode", ["argmax", "overlap", "energy"])
@pytest.mark.parametrize("centring", ["centre", "sinkhorn"])
@pytest.mark.parametrize("n_locals", [0, 1])
def test_steps_in_fp32_with_clipping_stay_finite_and_leave_the_views_alone(mode, centring, n_locals):
    method = small_method(region_matching=mode, centring=centring, koleo=0.1, head_batch_norm=True).train()
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    views = some_views(n_locals=n_locals)
    before = [image.clone() for image in views.images]
    for _ in range(2):
        out = method(views, 0.04)
        optimizer.zero_grad()
        out.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(method.parameters(), 3.0)
        optimizer.step()
        method.update_teacher(0.9)
        assert norm.isfinite()
        assert all(value.isfinite() for value in out.logs.values())
    # Student and teacher see the same pictures: a change in place would reach the other.
    assert all(image.equal(copy) for image, copy in zip(views.images, before, strict=True))


@pytest.mark.parametrize("centring", ["centre", "sinkhorn"])
def test_a_batch_of_one_clip_trains(centring):
    method = small_method(centring=centring, koleo=0.1, head_batch_norm=True).train()
    out = method(some_views(n_clips=1, n_locals=2), 0.04)
    out.loss.backward()
    assert out.loss.isfinite()


def test_the_second_stage_goes_on_from_views_alone():
    first = small_method(region_weight=0.0).train()
    first(some_views(), 0.04)
    with torch.no_grad():
        for parameter in first.student.parameters():
            parameter.add_(0.01)
    first.update_teacher(0.5)
    second = small_method(region_weight=0.5)
    fresh = {name: value.clone() for name, value in second.state_dict().items()}
    second.start_from(first.state_dict())
    for name, value in second.state_dict().items():
        assert value.equal(fresh[name] if ".region_head." in name else first.state_dict()[name]), name
    assert second.train()(some_views(), 0.04).loss.isfinite()


def test_a_first_stage_of_another_kind_is_refused_with_names():
    second = small_method()
    before = {name: value.clone() for name, value in second.state_dict().items()}
    other = small_method(region_weight=0.0, bottleneck_dim=8).state_dict()
    with pytest.raises(UserError, match=r"has other shapes or names for 6 tensors .student\.head\.mlp\.4\.weight"):
        second.start_from(other)
    del other["student.head.mlp.0.bias"]
    with pytest.raises(UserError, match=r"lacks 1 tensors .student\.head\.mlp\.0\.bias"):
        second.start_from(other)
    assert all(value.equal(before[name]) for name, value in second.state_dict().items())


def test_an_unknown_mode_names_its_flag():
    with pytest.raises(
        UserError, match=r"--method\.region_matching must be argmax, overlap or energy, found 'nearest'"
    ):
        EsViTConfig(region_matching="nearest")
