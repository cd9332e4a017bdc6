"""What a step changes before it is found to be not finite is put back: for every method, and with every optimiser."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from audiossl.transforms import PatchesConfig, TwoViews, TwoViewsConfig
from audiossl.transforms.views import Views
from torch import nn

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.bag import BagOfPatches
from audiossl.bag_config import BagConfig
from audiossl.errors import UserError
from audiossl.methods.byol import Byol, ByolConfig
from audiossl.methods.contrastive import Contrastive, ContrastiveConfig
from audiossl.methods.emp_ssl import EmpSsl, EmpSslConfig
from audiossl.methods.esvit import EsViT, EsViTConfig
from audiossl.methods.supervised import Supervised, SupervisedConfig
from audiossl.optim import OptimConfig, build_optimizer
from audiossl.run.not_finite import MOST_OVERFLOWS, BadSteps
from audiossl.run.state import TrainingState
from audiossl.run.step_watch import StepWatch

CPU = torch.device("cpu")
NARROW = {"hidden_dim": 16, "projection_dim": 8}


def network():
    return build_backbone(BackboneConfig("resnet10", stages=2), (32, 32))


def emp_ssl():
    heads = BagConfig(n_patches=2, feature_dim=16, projection_dim=8)
    bag = BagOfPatches(BackboneConfig("resnet10", stages=2), heads, PatchesConfig(patch_s=0.5), (32, 64), 1.0)
    return EmpSsl(bag, EmpSslConfig())


METHODS = {
    "esvit": lambda: EsViT(network(), EsViTConfig(n_prototypes=16, hidden_dim=16, bottleneck_dim=8)),
    "byol": lambda: Byol(network(), ByolConfig(**NARROW, predictor_dim=8)),
    "contrastive": lambda: Contrastive(network(), ContrastiveConfig(**NARROW)),
    "emp_ssl": emp_ssl,
    "supervised": lambda: Supervised(network(), 3, SupervisedConfig(dropout=0.5)),
}


def loss_of(name, method, scale=1.0):
    views = Views([scale * torch.randn(2 * 4, 1, 32, 32)], torch.zeros(2, 4, 4))
    extra = {"esvit": (0.04,), "supervised": (torch.tensor([0, 1, 2, 0]),)}.get(name, ())
    return method(views, *extra).loss


def watch_of(models, optimizers=(), own=(), budget=1):
    state = TrainingState(SimpleNamespace(scaler=None))
    state.models, state.optimizers, state.own = list(models), list(optimizers), list(own)
    return StepWatch(state, CPU, budget)


def everything(method, optimizer):
    """All numbers that training changes, one after the other."""
    momenta = [value for moments in optimizer.state.values() for value in moments.values() if value is not None]
    return [
        torch.as_tensor(value).clone() for value in (*method.state_dict().values(), *momenta, torch.get_rng_state())
    ]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_a_step_that_is_undone_leaves_no_trace(name, optimizer):
    method = METHODS[name]().train()
    optimizer = build_optimizer(method, OptimConfig(name=optimizer, lr=0.1))
    watch = watch_of([method], [optimizer])

    def step(number, bad):
        watch.begin(number, 0, number - 1, None)
        loss = loss_of(name, method) * (torch.nan if bad else 1.0)
        watch.note_loss(loss)
        loss.backward()
        watch.note_gradients(scaled=False)
        found = watch.first_bad()
        if found:
            watch.undo()
        optimizer.step()
        optimizer.zero_grad()
        if hasattr(method, "update_teacher") and not found:
            method.update_teacher(0.5)
        return found

    assert step(1, bad=False) is None
    before = everything(method, optimizer)
    assert step(2, bad=True).step == 2
    for was, now in zip(before, everything(method, optimizer), strict=True):
        assert torch.equal(was, now)
    assert getattr(method, "centre", None) is None or method.centre._sum is None
    step(3, bad=False)
    assert any(not torch.equal(was, now) for was, now in zip(before, everything(method, optimizer), strict=True))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("scale", [torch.nan, torch.inf])
def test_pictures_that_are_not_finite_reach_the_loss_and_no_traceback_comes_before(name, scale):
    assert not loss_of(name, METHODS[name]().train(), scale).isfinite()


def test_the_memory_of_past_clips_is_what_it_was():
    views = TwoViews(TwoViewsConfig(view_s=1.0, memory=6), (32, 32), clip_s=1.0)
    watch = watch_of([nn.Linear(1, 1)], own=[views])
    for number in range(1, 4):  # the memory is full, and turns
        watch.begin(number, 0, 0, None)
        views(torch.randn(4, 1, 32, 32))
    kept, seen = views.memory.clips(), views.memory.n_seen
    for position in range(2):  # two micro-batches of one step
        watch.begin(4, 0, position, None)
        views(torch.full((4, 1, 32, 32), torch.nan))
    assert not views.memory.clips().isfinite().all()
    watch.undo()
    assert torch.equal(views.memory.clips(), kept)
    assert views.memory.n_seen == seen


def test_a_scaler_is_given_gradients_that_it_leaves_out_itself():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch = watch_of([model], [optimizer])
    watch.state.accelerator.scaler = scaler = torch.amp.GradScaler("cpu")
    weights = model.weight.clone()
    watch.begin(1, 0, 0, None)
    loss = model(torch.ones(1, 2)).sum()
    scaler.scale(loss).backward()
    watch.undo()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model.weight, weights)


def test_without_a_look_at_each_step_the_first_bad_one_is_found_later():
    watch = StepWatch(watch_of([]).state, torch.device("cpu"), budget=0)
    watch.at_each_step = False
    for number, loss in enumerate([1.0, float("inf"), float("nan"), 1.0], start=1):
        watch.begin(number, 0, number - 1, None)
        watch.note_loss(torch.tensor(loss))
    assert watch.first_bad().step == 2
    assert watch.first_bad() is None  # all is forgotten


def test_a_loss_scale_that_falls_for_ever_ends_the_run():
    optimizer = SimpleNamespace(step_was_skipped=True, param_groups=[])
    watch = watch_of([], [optimizer])
    ranks = SimpleNamespace(one_voice=nullcontext, largest=lambda number: number)
    session = SimpleNamespace(ranks=ranks, checkpoints=SimpleNamespace(latest=lambda: None), precision="fp16")
    steps = BadSteps(session, watch)

    def run(first, n):
        for number in range(first, first + n):
            watch.begin(number, 0, number, None)
            steps.look()

    run(1, MOST_OVERFLOWS)
    optimizer.step_was_skipped = False  # a scale was found
    run(100, 1)
    optimizer.step_was_skipped = True
    with pytest.raises(UserError, match=r"41 steps in a row: no checkpoint was written before; try --run\.precision"):
        run(200, MOST_OVERFLOWS + 1)
