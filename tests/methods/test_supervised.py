"""The supervised method against its formula written out, its weights and mixed views, and what it begins from."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from audiossl.transforms.student_mixing import Mixing
from audiossl.transforms.view_config import MultiCropConfig
from audiossl.transforms.views import MultiCrop, Views

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.errors import UserError
from audiossl.methods.esvit import EsViT, EsViTConfig
from audiossl.methods.supervised import Supervised, SupervisedConfig, balanced_weights, positive_weights

LABELS = torch.tensor([0, 2, 1, 2])
SCRIPT = Path(__file__).with_name("supervised_rank.py")


def method(n_classes=3, weights=None, name="swin_micro", **settings):
    torch.manual_seed(0)
    return Supervised(build_backbone(BackboneConfig(name), (32, 32)), n_classes, SupervisedConfig(**settings), weights)


def views(n_clips=4, **settings):
    generator = torch.Generator().manual_seed(1)
    crop = MultiCrop(MultiCropConfig(**{"n_locals": 1, **settings}), (32, 32), 1.0)
    return crop(torch.randn(n_clips, 1, 32, 32, generator=generator), generator)


def written_out(learner, seen, labels, shares=None, partner=None):
    """The loss view by view and clip by clip, in float64."""
    smoothing, n = learner.config.label_smoothing, learner.n_classes
    total, count, hits = 0.0, 0, 0
    with torch.no_grad():
        logits = torch.cat([learner.head(learner.backbone(group).features) for group in seen.images]).double()
    for row, scores in enumerate(logits):
        view, b = divmod(row, len(labels))
        shown = [0.0] * n
        share = 0.0 if shares is None else float(shares[view][b])
        shown[labels[b]] += 1 - share
        if partner is not None:
            shown[labels[partner[b]]] += share
        log_sum = math.log(sum(math.exp(score) for score in scores))
        weight = (
            1.0
            if learner.class_weights is None
            else float(sum(w * t for w, t in zip(learner.class_weights, shown, strict=True)))
        )
        for c in range(n):
            total -= weight * ((1 - smoothing) * shown[c] + smoothing / n) * (float(scores[c]) - log_sum)
        hits += int(scores.argmax()) == shown.index(max(shown))
        count += 1
    return total / count, 100 * hits / count


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, balanced_weights(LABELS, 3)])
def test_loss_and_accuracy_are_the_formula_over_all_views(smoothing, weights):
    learner, seen = method(weights=weights, label_smoothing=smoothing), views()
    out = learner(seen, LABELS)
    loss, accuracy = written_out(learner, seen, LABELS)
    assert out.loss.item() == pytest.approx(loss, abs=1e-5)
    assert out.logs["loss"].item() == pytest.approx(loss, abs=1e-5)
    assert out.logs["training_accuracy"].item() == pytest.approx(accuracy)
    assert not out.logs["loss"].requires_grad
    assert all(value.ndim == 0 for value in out.logs.values())


@pytest.mark.parametrize("settings", [{"mix_alpha": 0.8}, {"cut_alpha": 1.0}, {"mix_alpha": 0.8, "n_mixed": 1}])
def test_mixed_views_answer_to_both_labels_by_what_they_show(settings):
    learner, seen = method(weights=balanced_weights(LABELS, 3)), views(**settings)
    shares = torch.cat([share.mean((2, 3)) for share in seen.mixing.shares])
    assert shares.max() > 0.05
    loss, accuracy = written_out(learner, seen, LABELS, shares, seen.mixing.partner)
    out = learner(seen, LABELS)
    assert out.loss.item() == pytest.approx(loss, abs=1e-5)
    assert out.logs["training_accuracy"].item() == pytest.approx(accuracy)


def test_a_view_that_shows_the_other_clip_alone_answers_to_it_alone():
    learner, partner = method(), torch.tensor([1, 2, 3, 0])
    plain = Views([torch.randn(8, 1, 32, 32)], torch.zeros(2, 4, 4))
    swapped = plain._replace(mixing=Mixing(partner, [torch.ones(2, 4, 32, 32)]))
    torch.testing.assert_close(learner(swapped, LABELS).loss, learner(plain, LABELS[partner]).loss)
    assert not torch.allclose(learner(swapped, LABELS).loss, learner(plain, LABELS).loss)


def test_balanced_labels_count_the_same():
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 3])
    learner = method(4, balanced_weights(labels, 4), label_smoothing=0.0)
    seen = Views([torch.randn(8, 1, 32, 32)], torch.zeros(1, 8, 4))
    learner.eval()
    with torch.no_grad():
        scores = learner.head(learner.backbone(seen.images[0]).features).log_softmax(1)
    of_label = [-scores[labels == c, c].mean() for c in (0, 1, 3)]
    torch.testing.assert_close(learner(seen, labels).loss, torch.stack(of_label).mean())
    assert balanced_weights(labels, 4)[labels].mean() == pytest.approx(1.0)


def test_a_batch_that_is_seen_again_and_again_is_learnt():
    learner, seen = method(name="resnet10", label_smoothing=0.0).train(), views()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=1e-3)
    first = learner(seen, LABELS).loss.item()
    for _ in range(15):
        out = learner(seen, LABELS)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert out.loss.item() < 0.2 * first
    assert out.logs["training_accuracy"].item() == 100.0


def test_dropout_stands_before_the_head_and_only_in_training():
    learner, seen = method(dropout=0.9), views()
    assert learner(seen, LABELS).loss != learner(seen, LABELS).loss
    learner.eval()
    assert learner(seen, LABELS).loss == learner(seen, LABELS).loss


def test_the_backbone_is_kept_and_the_head_is_in_the_state():
    learner = method()
    assert learner.encoder is learner.backbone
    names = learner.state_dict().keys()
    assert {"head.linear.weight", "head.linear.bias"} <= names
    assert not any("class_weights" in name for name in method(weights=torch.ones(3)).state_dict())


def test_it_begins_from_an_esvit_run_or_from_its_own_kind():
    esvit = EsViT(build_backbone(BackboneConfig("swin_micro"), (32, 32)), EsViTConfig(16, 16, 8))
    for parameter in esvit.teacher.parameters():  # unlike the student's, so that it shows which is taken
        torch.nn.init.uniform_(parameter)
    tuned = method()
    head = tuned.head.linear.weight.clone()
    tuned.start_from(esvit.state_dict())
    for name, value in esvit.teacher.backbone.state_dict().items():
        assert tuned.backbone.state_dict()[name].equal(value), name
    assert tuned.head.linear.weight.equal(head)
    again, other = method(), method(n_classes=5)
    torch.nn.init.ones_(tuned.head.linear.weight)
    again.start_from(tuned.state_dict())
    other.start_from(tuned.state_dict())
    assert again.head.linear.weight.equal(tuned.head.linear.weight)
    assert other.head.linear.weight.shape[0] == 5
    assert other.backbone.state_dict().keys() == tuned.backbone.state_dict().keys()


def test_another_network_is_refused_and_nothing_is_loaded():
    learner = method()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    with pytest.raises(UserError, match=r"--run\.start_from: its weights lack \d+ tensors"):
        learner.start_from(method(name="resnet10").state_dict())
    assert all(value.equal(before[name]) for name, value in learner.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": 1.0}, "--method.label_smoothing must be from 0 to below 1, found 1.0"),
        ({"dropout": -0.1}, "--method.dropout must be from 0 to below 1, found -0.1"),
        ({"class_weights": "even"}, "--method.class_weights must be none or balanced, found 'even'"),
        ({"labels_per_class": -1}, "--method.labels_per_class is -1"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SupervisedConfig(**settings)


def test_one_label_is_refused():
    with pytest.raises(UserError, match="needs two labels or more, found 1"):
        method(n_classes=1)


@pytest.mark.distributed
def test_two_ranks_are_one_process(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen([sys.executable, SCRIPT, tmp_path / f"{name}.pt"], env={**os.environ, **environment})
        for name, environment in (("two", {"RANK": "0", **world}), ("two", {"RANK": "1", **world}), ("one", {}))
    ]
    assert [process.wait(timeout=240) for process in started] == [0, 0, 0]
    one, two = (torch.load(tmp_path / name) for name in ("one.pt", "two.pt"))
    for key in ("loss", "training_accuracy"):
        torch.testing.assert_close(two[key], one[key], atol=1e-4, rtol=1e-5)
    assert one["loss"][-1] < one["loss"][0]
    for name, value in one["state"].items():
        torch.testing.assert_close(two["state"][name], value, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 3.0, 0.5])])
def test_clips_of_several_labels_answer_each_by_itself(weights):
    learner, seen = method(weights=weights, multi_label=True, label_smoothing=0.1), views()
    table = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    with torch.no_grad():
        logits = torch.cat([learner.head(learner.backbone(group).features) for group in seen.images]).double()
    total = 0.0
    for row, scores in enumerate(logits):
        for k, score in enumerate(scores):
            wanted = 0.9 * float(table[row % 4, k]) + 0.05
            sure = 1 / (1 + math.exp(-float(score)))
            weight = 1.0 if weights is None else float(weights[k])
            total -= weight * wanted * math.log(sure) + (1 - wanted) * math.log(1 - sure)
    out = learner(seen, table)
    assert out.loss.item() == pytest.approx(total / len(logits), rel=1e-5)
    assert 0.0 <= out.logs["training_accuracy"] <= 100.0


def test_shares_of_labels_are_those_of_a_teacher():
    learner, seen = method(label_smoothing=0.0), views()
    whole = torch.nn.functional.one_hot(LABELS, 3).float()
    torch.testing.assert_close(learner(seen, whole).loss, learner(seen, LABELS).loss)
    other = whole.roll(1, 1)
    mixed = learner(seen, 0.25 * whole + 0.75 * other).loss
    torch.testing.assert_close(mixed, 0.25 * learner(seen, whole).loss + 0.75 * learner(seen, other).loss)


def test_positive_weights_make_both_answers_count_the_same():
    table = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    weights = positive_weights(table)
    assert (weights * table.sum(0))[0] == (1 - table).sum(0)[0]
    assert weights[1] == 1.0
