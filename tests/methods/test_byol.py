"""BYOL and SimSiam against their formulas written out, step by step, and against one process with all clips."""

import copy
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from audiossl.transforms.views import Views
from torch import nn
from torch.nn.functional import normalize

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.errors import UserError
from audiossl.methods.byol import Byol, ByolConfig
from audiossl.methods.contrastive import Contrastive, ContrastiveConfig
from audiossl.methods.supervised import Supervised, SupervisedConfig

SCRIPT = Path(__file__).with_name("byol_rank.py")
NARROW = {"hidden_dim": 24, "projection_dim": 12, "predictor_dim": 16}
SIMSIAM = {"teacher": "student", "projector": "deep", "predictor_bias": False, "constant_predictor_rate": True}


def method(name="resnet10", **settings):
    torch.manual_seed(0)
    return Byol(build_backbone(BackboneConfig(name), (32, 32)), ByolConfig(**{**NARROW, **settings}))


def views(n_clips=4, n_views=2, seed=1):
    images = torch.randn(n_views * n_clips, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    return Views([images], torch.zeros(n_views, n_clips, 4))


def written_out(learner, seen):
    """The sum over both directions of |p / |p| - z' / |z'||^2, views one after the other (Grill et al., equation 2)."""
    one, two = seen.images[0].chunk(2)
    target = learner.teacher or learner.student
    p = [learner.predictor(learner.student.projector(learner.student.backbone(v).features)) for v in (one, two)]
    z = [target.projector(target.backbone(v).features).detach() for v in (one, two)]
    return sum(
        (normalize(mine, dim=1) - normalize(theirs, dim=1)).square().sum(1).mean()
        for mine, theirs in zip(p, reversed(z), strict=True)
    )


@pytest.mark.parametrize("settings", [{}, SIMSIAM, {"teacher": "student"}])
def test_loss_and_gradients_are_the_formula(settings):
    learner = method(**settings)
    other = copy.deepcopy(learner)
    seen = views()
    out = learner(seen)
    expected = written_out(other, seen)
    torch.testing.assert_close(out.loss, expected)
    out.loss.backward()
    expected.backward()
    for (name, mine), theirs in zip(learner.named_parameters(), other.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None) == name.startswith("teacher."), name
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_logs_say_what_they_are_called():
    learner, seen = method(), views(8)
    teacher = copy.deepcopy(learner.teacher)
    out = learner(seen)
    assert out.logs["loss"].item() == pytest.approx(out.loss.item())
    assert out.logs["cosine"].item() == pytest.approx(1 - out.loss.item() / 4)
    target = normalize(torch.cat([teacher(v) for v in seen.images[0].chunk(2)]), dim=1).unflatten(0, (2, 8))
    assert out.logs["projection_std"].item() == pytest.approx(target.std(1).mean().item() * 12**0.5, rel=1e-4)
    assert out.logs["passes"].item() == 4  # two views, seen by student and teacher
    assert method(teacher="student")(seen).logs["passes"].item() == 2
    assert all(value.ndim == 0 and not value.requires_grad for value in out.logs.values())


def test_more_views_are_the_mean_of_all_ordered_pairs():
    learner = method(view_by_view=False).eval()
    seen = views(n_views=3)
    loss = learner(seen).loss
    three = seen.images[0].chunk(3)
    pairs = [
        learner(Views([torch.cat([three[a], three[b]])], torch.zeros(2, 4, 4))).loss
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    torch.testing.assert_close(loss, torch.stack(pairs).mean())


def test_a_perfect_student_has_no_loss_and_the_range_is_0_to_8():
    learner = method()
    learner.predictor = nn.Identity()
    same = torch.randn(4, 1, 32, 32).repeat(2, 1, 1, 1)
    assert learner(Views([same], torch.zeros(2, 4, 4))).loss.item() == pytest.approx(0, abs=1e-5)
    learner.predictor = nn.Sequential(nn.Identity(), _Turned())
    assert learner(Views([same], torch.zeros(2, 4, 4))).loss.item() == pytest.approx(8, abs=1e-5)


class _Turned(nn.Module):
    def forward(self, x):
        return -x


def test_the_teacher_follows_by_its_momentum_and_never_by_gradients():
    learner = method()
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
    before = [p.detach().clone() for p in learner.teacher.parameters()]
    learner(views()).loss.backward()
    optimizer.step()
    for old, p in zip(before, learner.teacher.parameters(), strict=True):
        torch.testing.assert_close(p, old)
    learner.update_teacher(0.9)
    moved = False
    for old, p, s in zip(before, learner.teacher.parameters(), learner.student.parameters(), strict=True):
        torch.testing.assert_close(p, 0.9 * old + 0.1 * s.detach())
        moved |= not torch.equal(old, p)
    assert moved
    before = copy.deepcopy(learner.teacher)
    learner.update_teacher(1.0)  # at the end of the published schedule it stands still
    for p, old in zip(learner.teacher.parameters(), before.parameters(), strict=True):
        assert torch.equal(p, old)


def test_the_teachers_statistics_are_those_of_what_it_saw():
    # A published implementation averages parameters and forgets buffers.
    learner = method(view_by_view=False)
    with torch.no_grad():
        for seed in range(60):
            learner(views(16, seed=seed))
    seen = views(64, seed=99).images[0]
    with torch.no_grad():
        trained = learner.teacher.train()(seen)
        evaluated = learner.teacher.eval()(seen)
    cosine = torch.cosine_similarity(trained - trained.mean(0), evaluated - evaluated.mean(0), dim=1)
    assert cosine.mean() > 0.9
    norm = next(m for m in learner.teacher.modules() if isinstance(m, nn.BatchNorm2d))
    assert norm.num_batches_tracked == 61


def test_view_by_view_batch_norms_know_one_view_alone():
    quiet, loud = torch.randn(4, 1, 32, 32), 100 + torch.randn(4, 1, 32, 32)
    seen = Views([torch.cat([quiet, loud])], torch.zeros(2, 4, 4))
    apart, together = method(view_by_view=True)(seen).loss, method(view_by_view=False)(seen).loss
    assert abs(apart.item() - together.item()) > 1e-3
    assert method(view_by_view=True).eval()(seen).loss.item() == pytest.approx(
        method(view_by_view=False).eval()(seen).loss.item(), rel=1e-5
    )


def test_a_student_that_is_its_own_teacher_holds_nothing_twice():
    learner = method(**SIMSIAM)
    assert learner.teacher is None
    assert not any(name.startswith("teacher.") for name in learner.state_dict())
    learner.update_teacher(0.5)  # nothing to move
    last = learner.student.projector[-1]
    assert isinstance(last, nn.BatchNorm1d)
    assert last.weight is None
    assert learner.predictor[0].bias is None


def test_what_is_kept_is_the_students_backbone():
    learner = method()
    assert learner.encoder is learner.student.backbone


@pytest.mark.parametrize("kind", ["byol", "contrastive"])
def test_a_classifier_begins_with_what_was_kept(kind):
    if kind == "byol":
        learner = method()
        with torch.no_grad():
            for p in learner.student.parameters():
                p.add_(0.1)
    else:
        learner = Contrastive(build_backbone(BackboneConfig("resnet10"), (32, 32)), ContrastiveConfig(hidden_dim=8))
    classifier = Supervised(build_backbone(BackboneConfig("resnet10"), (32, 32)), 3, SupervisedConfig())
    classifier.start_from(learner.state_dict())
    for name, value in learner.encoder.state_dict().items():
        torch.testing.assert_close(classifier.backbone.state_dict()[name], value)


@pytest.mark.parametrize("kind", ["byol", "contrastive"])
def test_a_run_begins_with_the_weights_of_another_and_refuses_others(kind):
    def fresh(width=12):
        backbone = build_backbone(BackboneConfig("resnet10"), (32, 32))
        if kind == "byol":
            return Byol(backbone, ByolConfig(**{**NARROW, "projection_dim": width}))
        return Contrastive(backbone, ContrastiveConfig(hidden_dim=8, projection_dim=width))

    first, second = fresh(), fresh()
    second.start_from(first.state_dict())
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    with pytest.raises(UserError, match=r"--run.start_from: \d+ tensors .*same backbone and heads"):
        fresh(width=20).start_from(first.state_dict())


def test_a_contrastive_step_is_its_loss():
    from audiossl.losses.nt_xent import nt_xent

    torch.manual_seed(0)
    config = ContrastiveConfig(hidden_dim=16, projection_dim=8, temperature=0.3)
    learner = Contrastive(build_backbone(BackboneConfig("resnet10"), (32, 32)), config)
    seen = views(6)
    z = copy.deepcopy(learner).projector(copy.deepcopy(learner).backbone(seen.images[0]).features)
    out = learner(seen)
    torch.testing.assert_close(out.loss, nt_xent(z.unflatten(0, (2, 6)), 0.3))
    assert out.logs["passes"].item() == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": "none"}, "--method.teacher must be momentum or student"),
        ({"projector": "wide"}, "--method.projector must be byol or deep"),
        ({"momentum": 1.1}, "--method.momentum must be from 0 to 1"),
        ({"hidden_dim": 0}, "--method.hidden_dim must be at least 1"),
    ],
)
def test_values_without_meaning_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ByolConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"temperature": 0.0}, "--method.temperature"), ({"projection_dim": 0}, "--method.projection_dim")],
)
def test_contrastive_values_without_meaning_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        ContrastiveConfig(**settings)


@pytest.mark.parametrize("kind", ["byol", "contrastive"])
def test_views_of_several_sizes_are_refused(kind):
    backbone = build_backbone(BackboneConfig("resnet10"), (32, 32))
    learner = Byol(backbone, ByolConfig(**NARROW)) if kind == "byol" else Contrastive(backbone, ContrastiveConfig())
    several = Views([torch.zeros(8, 1, 32, 32), torch.zeros(4, 1, 32, 16)], torch.zeros(3, 4, 4))
    with pytest.raises(UserError, match="views of one size"):
        learner(several)


@pytest.mark.distributed
@pytest.mark.parametrize("kind", ["byol", "contrastive"])
def test_two_ranks_are_one_process(tmp_path, kind):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen([sys.executable, SCRIPT, kind, tmp_path / f"{name}.pt"], env={**os.environ, **environment})
        for name, environment in (("two", {"RANK": "0", **world}), ("two", {"RANK": "1", **world}), ("one", {}))
    ]
    assert [process.wait(timeout=240) for process in started] == [0, 0, 0]
    one, two = (torch.load(tmp_path / name) for name in ("one.pt", "two.pt"))
    torch.testing.assert_close(two["loss"], one["loss"], atol=1e-4, rtol=1e-4)
    assert one["loss"][-1] < one["loss"][0]
    for name, value in one["state"].items():
        torch.testing.assert_close(two["state"][name], value, atol=1e-4, rtol=1e-3, msg=name)
