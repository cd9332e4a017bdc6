"""Mixed views of the student: the teacher's stay clean, and both losses ask for what a view and a region show."""

import pytest
import torch
import torch.nn.functional as F
from audiossl.transforms.student_mixing import Mixing
from audiossl.transforms.view_config import MultiCropConfig
from audiossl.transforms.views import MultiCrop, Views

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.losses.match import match_by_features
from audiossl.methods.esvit import EsViT, EsViTConfig

SMALL = {"n_prototypes": 32, "hidden_dim": 16, "bottleneck_dim": 12, "student_temperature": 0.1}
MIXED = {"mix_alpha": 0.8, "cut_alpha": 1.0}


def small_method(**changes):
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig("resnet10"), (64, 96))
    return EsViT(backbone, EsViTConfig(**{**SMALL, **changes}), clip_s=1.0)


def some_views(n_clips=4, n_locals=2, **changes):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(n_clips, 1, 64, 96, generator=generator)
    return MultiCrop(MultiCropConfig(n_locals=n_locals, **changes), (64, 96), 1.0)(image, generator)


def test_the_teacher_sees_what_it_would_see_without_mixing():
    plain, mixed = some_views(), some_views(**MIXED)
    assert mixed.clean.equal(plain.images[0])
    assert not mixed.images[0].equal(plain.images[0])
    seen = []
    method = small_method().train()
    method.teacher.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].images[0].clone()))
    method(mixed, 0.04)
    assert seen[0].equal(plain.images[0])


def plain_loss(method, views, temperature):
    """Both losses by their formulas, pair by pair, clip by clip and region by region."""
    config, mixing = method.config, views.mixing
    n_clips = views.boxes.shape[1]
    students = method.student(views)
    (teacher,) = method.teacher(Views([views.clean], views.boxes[:2]))
    w, w_t = method.student.head.prototypes, method.teacher.head.prototypes
    u, u_t = method.student.region_head.prototypes, method.teacher.region_head.prototypes
    q_views = F.softmax(teacher.embeddings @ w_t.T / temperature, dim=-1)
    q_regions = F.softmax(teacher.regions.embeddings @ u_t.T / temperature, dim=-1)
    of_views, of_regions, pairs, number = 0.0, 0.0, 0, 0
    for seen, shares in zip(students, mixing.shares, strict=True):
        for v in range(len(seen.embeddings)):
            for i in range(2):
                if i == number:
                    continue
                pairs += 1
                for b in range(n_clips):
                    for clip, share in ((b, 1 - shares[v, b]), (int(mixing.partner[b]), shares[v, b])):
                        log_p = F.log_softmax(seen.embeddings[v, b] @ w.T / config.student_temperature, dim=-1)
                        of_views = of_views - share.mean() * (q_views[i, clip] * log_p).sum() / n_clips
                        features = seen.regions.features[v, b]
                        match = match_by_features(features[None, None], teacher.regions.features[i, clip][None, None])
                        cells = F.avg_pool2d(share[None, None], 32, ceil_mode=True).flatten()
                        for m in range(len(features)):
                            z = seen.regions.embeddings[v, b, m]
                            log_p = F.log_softmax(z @ u.T / config.student_temperature, dim=-1)
                            loss = -(q_regions[i, clip, match[0, 0, 0, m]] * log_p).sum()
                            of_regions = of_regions + cells[m] * loss / len(features) / n_clips
            number += 1
    return of_views / pairs, of_regions / pairs


@pytest.mark.parametrize("views", [{"mix_alpha": 0.8}, {"cut_alpha": 1.0}, {**MIXED, "n_mixed": 3}])
def test_losses_of_mixed_views_equal_the_plain_formulas(views):
    method, drawn = small_method().eval(), some_views(n_clips=3, **views)
    logs = method(drawn, 0.04).logs
    of_views, of_regions = plain_loss(method, drawn, 0.04)
    torch.testing.assert_close(logs["view_loss"], of_views.detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(logs["region_loss"], of_regions.detach(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("mode", ["argmax", "overlap", "energy"])
def test_a_share_of_nothing_changes_nothing_and_one_of_everything_trades_clips(mode):
    method, plain = small_method(region_matching=mode).eval(), some_views(n_clips=3)
    before = method(plain, 0.04)
    partner = torch.tensor([1, 2, 0])
    nothing = [torch.zeros(len(group) // 3, 3, *group.shape[2:]) for group in plain.images]
    unmixed = plain._replace(clean=plain.images[0], mixing=Mixing(partner, nothing))
    torch.testing.assert_close(method(unmixed, 0.04).loss, before.loss)
    traded = [group.unflatten(0, (-1, 3))[:, partner].flatten(0, 1) for group in plain.images]
    everything = Views(traded, plain.boxes, plain.images[0], Mixing(partner, [1.0 + share for share in nothing]))
    if mode == "energy":  # what sounds beyond the clip's end is known of the clip's own box only
        everything = everything._replace(boxes=plain.boxes[:, :1].expand(-1, 3, -1))
        before = method(plain._replace(boxes=plain.boxes[:, :1].expand(-1, 3, -1)), 0.04)
    torch.testing.assert_close(method(everything, 0.04).loss, before.loss)


def test_mixed_views_train_with_both_centrings_and_one_clip():
    for centring in ("centre", "sinkhorn"):
        for n_clips in (1, 4):
            method = small_method(centring=centring, head_batch_norm=True).train()
            out = method(some_views(n_clips=n_clips, **MIXED), 0.04)
            out.loss.backward()
            assert out.loss.isfinite()


def test_several_local_sizes_train():
    views = some_views(n_locals=2, local_s=[0.5, 0.25])
    assert [tuple(group.shape) for group in views.images] == [(8, 1, 64, 96), (8, 1, 64, 48), (8, 1, 64, 32)]
    assert len(views.boxes) == 6
    method = small_method().train()
    method(views, 0.04).loss.backward()
    assert all(p.grad.isfinite().all() for p in method.student.parameters() if p.grad is not None)
