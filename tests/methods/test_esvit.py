"""EsViT: loss by the plain formulas, teacher, centres, gradients, that it learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from audiossl.transforms.view_config import MultiCropConfig
from audiossl.transforms.views import MultiCrop, Views

from audiossl.backbones import build_backbone
from audiossl.backbones.config import BackboneConfig
from audiossl.errors import UserError
from audiossl.methods.esvit import EsViT, EsViTConfig

SMALL = {"n_prototypes": 32, "hidden_dim": 32, "bottleneck_dim": 16}


def small_method(**changes):
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig("resnet10"), (64, 96))
    return EsViT(backbone, EsViTConfig(**{**SMALL, **changes}))


def some_views(n_clips=4, n_locals=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(n_clips, 1, 64, 96, generator=generator)
    return MultiCrop(MultiCropConfig(n_locals=n_locals), (64, 96), 1.0)(image, generator)


def plain_loss(method, views, temperature):
    """The paper's loss with centring, written as its loops: views first, then regions; batch norms in eval mode."""
    n = views.boxes.shape[1]
    crops = [image for group in views.images for image in group.split(n)]
    student = [method.student.backbone(image) for image in crops]
    teacher = [method.teacher.backbone(image) for image in crops[:2]]
    total, pairs = torch.zeros(()), 0
    for i in range(2):
        q_view = F.softmax((method.teacher.head(teacher[i].features) - method.centre.centre) / temperature, -1)
        q_region = F.softmax(
            (method.teacher.region_head(teacher[i].patches) - method.region_centre.centre) / temperature, -1
        )
        for v, out in enumerate(student):
            if v == i:
                continue
            logp = F.log_softmax(method.student.head(out.features) / 0.1, -1)
            view = -(q_view * logp).sum(-1).mean()
            cosine = F.normalize(out.patches, dim=-1) @ F.normalize(teacher[i].patches, dim=-1).transpose(1, 2)
            index = cosine.argmax(-1)
            q = torch.stack([q_region[b, index[b]] for b in range(n)])
            region = -(q * F.log_softmax(method.student.region_head(out.patches) / 0.1, -1)).sum(-1).mean()
            total, pairs = total + 0.5 * view + 0.5 * region, pairs + 1
    return total / pairs


@pytest.mark.parametrize("n_locals", [0, 2])
def test_loss_equals_the_plain_formula(n_locals):
    method = small_method().eval()
    method.centre.centre.normal_(std=0.1)
    method.region_centre.centre.normal_(std=0.1)
    views = some_views(n_locals=n_locals)
    out = method(views, teacher_temperature=0.04)
    assert out.loss.item() == pytest.approx(plain_loss(method, views, 0.04).item(), rel=2e-5)
    assert out.logs["loss_over_ln_k"].item() == pytest.approx(out.loss.item() / math.log(32), rel=1e-5)
    assert out.logs["teacher_entropy"] + out.logs["kl"] == pytest.approx(out.logs["view_loss"].item(), rel=1e-5)


def views_of_sizes(*sizes, n_clips=3):
    """Two views of 64 x 96 and one of each other size."""
    torch.manual_seed(5)
    groups = [torch.randn(2 * n_clips, 1, 64, 96), *(torch.randn(n_clips, 1, *size) for size in sizes)]
    return Views(groups, torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(2 + len(sizes), n_clips, 4))


@pytest.mark.parametrize("sizes", [[], [(64, 48)], [(64, 48), (32, 48)], [(32, 96), (32, 32), (64, 64)]])
def test_loss_gradients_and_centres_equal_the_plain_formula_for_views_of_any_sizes(sizes):
    # In (64, 48) and (32, 48) the width is the same and the height is not.
    method = small_method(head_batch_norm=False)
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # the plain formula sees one view after the other
    views = views_of_sizes(*sizes)
    parameters = [p for p in method.student.parameters() if p.requires_grad]
    mine = torch.autograd.grad(method(views, 0.04).loss, parameters)
    expected = torch.autograd.grad(plain_loss(method, views, 0.04), parameters)
    for a, b in zip(mine, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        seen = [method.teacher.backbone(image) for image in views.images[0].split(3)]
        logits = torch.cat([method.teacher.head(out.features) for out in seen])
        of_regions = torch.cat([method.teacher.region_head(out.patches).flatten(0, 1) for out in seen])
    method.update_teacher(1.0)
    torch.testing.assert_close(method.centre.centre, 0.1 * logits.mean(0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(method.region_centre.centre, 0.1 * of_regions.mean(0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"centring": "sinkhorn", "koleo": 0.1}, {"region_weight": 0.0}])
def test_every_trained_parameter_gets_a_gradient_and_the_teacher_none(changes):
    method = small_method(head_batch_norm=True, **changes).train()
    method(some_views(), 0.04).loss.backward()
    for name, parameter in method.student.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name
    assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


def test_teacher_starts_as_the_student_and_follows_by_its_momentum():
    method = small_method().train()
    pairs = list(zip(method.teacher.parameters(), method.student.parameters(), strict=True))
    assert all(t.equal(s) for t, s in pairs)
    with torch.no_grad():
        for _, s in pairs:
            s.add_(1.0)
    before = [t.clone() for t, _ in pairs]
    method.update_teacher(0.9)
    for old, (t, s) in zip(before, pairs, strict=True):
        torch.testing.assert_close(t, 0.9 * old + 0.1 * s)


def test_centres_move_with_the_teacher_and_only_in_training():
    method = small_method()
    method.eval()(some_views(), 0.04)
    method.update_teacher(1.0)
    assert method.centre.centre.abs().max() == 0
    method.train()(some_views(), 0.04)
    assert method.centre.centre.abs().max() == 0
    method.update_teacher(1.0)
    assert method.centre.centre.abs().max() > 0
    assert method.region_centre.centre.abs().max() > 0


def test_centres_and_teacher_survive_a_state_dict():
    method = small_method().train()
    method(some_views(), 0.04)
    method.update_teacher(0.5)
    other = small_method()
    other.load_state_dict(method.state_dict())
    assert other.centre.centre.equal(method.centre.centre)
    assert {name.split(".")[0] for name in method.state_dict()} == {
        "student",
        "teacher",
        "centre",
        "region_centre",
    }


def test_prototypes_are_the_last_layers_of_both_heads():
    method = small_method()
    names = {name for name, p in method.named_parameters() if any(p is q for q in method.prototypes())}
    assert {name.rsplit(".", 1)[1] for name in names} == {"original0", "original1"}
    assert len(names) == 4
    assert all(name.startswith("student") for name in names)


@pytest.mark.parametrize("name", ["resnet10", "swin_micro", "vit_tiny"])
def test_backbones_of_every_kind_take_views_of_two_sizes(name):
    torch.manual_seed(0)
    method = EsViT(build_backbone(BackboneConfig(name), (64, 96)), EsViTConfig(**SMALL)).train()
    out = method(some_views(), 0.04)
    out.loss.backward()
    assert out.loss.isfinite()


def test_a_few_steps_on_two_kinds_of_sound_lower_the_loss_and_part_them():
    torch.manual_seed(0)
    image = 0.3 * torch.randn(16, 1, 64, 96)
    image[:8, :, 8:16] += 3.0  # a low tone
    image[8:, :, 40:48] += 3.0  # a high tone
    method = small_method(
        centring="sinkhorn", head_batch_norm=True, teacher_temperature=0.05, koleo=0.1, region_weight=0.25
    ).train()
    views = MultiCrop(MultiCropConfig(n_locals=1, band_stretch=[0.9, 1.1], mixup=0.1), (64, 96), 1.0)
    optimizer = torch.optim.AdamW(method.student.parameters(), lr=1e-3)
    losses = []
    for step in range(25):
        out = method(views(image, torch.Generator().manual_seed(step)), 0.05)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        method.update_teacher(0.8)
        losses.append(out.loss.item())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    features = F.normalize(method.eval().encoder(image).features, dim=-1)
    same = (features[:8] @ features[:8].T).mean()
    different = (features[:8] @ features[8:].T).mean()
    assert same > different


def test_wrong_settings_name_their_flag():
    with pytest.raises(UserError, match=r"--method\.teacher_temperature must be above 0"):
        EsViTConfig(teacher_temperature=0.0)
    with pytest.raises(UserError, match=r"--method\.region_weight"):
        EsViTConfig(region_weight=2.0)
