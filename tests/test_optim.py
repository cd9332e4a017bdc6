"""Parameter groups, rates of a step, and LARS against its formula."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from audiossl.errors import UserError
from audiossl.optim import OptimConfig, Rates, build_optimizer, parameter_groups, rates, set_rates

# EMP-SSL's values.
LARS = {"name": "lars", "lr": 0.3, "weight_decay": 1e-4, "weight_decay_end": 1e-4, "nesterov": True}


def small_net():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))


def test_biases_and_gains_do_not_decay_and_nothing_is_forgotten():
    net = small_net()
    decayed, free = parameter_groups(net)
    assert [tuple(p.shape) for p in decayed["params"]] == [(3, 4), (2, 3)]
    assert [tuple(p.shape) for p in free["params"]] == [(3,), (3,), (3,)]
    net[0].weight.requires_grad_(False)
    assert len(parameter_groups(net)[0]["params"]) == 1


def test_a_constant_part_keeps_its_peak_rate_and_is_in_no_other_group():
    net = small_net()
    config = OptimConfig(lr=0.1, lr_1d=0.01, lr_clips=0, warmup_epochs=0)
    optimizer = build_optimizer(net, config, constant=net[2])
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 3, 1, 0]
    set_rates(optimizer, rates(config, 99, 100, 10, 256))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-6, 1e-6, 0.1, 0.01])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.4, 0.0, 0.4, 0.0]


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_decay_alone_shrinks_matrices_and_leaves_biases(name):
    net = small_net()
    config = OptimConfig(name=name, lr=0.1, warmup_epochs=0, weight_decay=0.5)
    optimizer = build_optimizer(net, config)
    set_rates(optimizer, rates(config, 0, 10, 5, 256))
    before = [p.detach().clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for old, new in zip(before, net.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old * (1 - 0.1 * 0.5) if old.ndim > 1 else old)


def test_rate_grows_with_the_batch_and_follows_the_step():
    config = OptimConfig(lr=1e-3, warmup_epochs=2)
    assert rates(config, 19, 100, 10, 512).lr == 2e-3  # end of the warm-up
    assert rates(config, 9, 100, 10, 256).lr == 0.5e-3
    assert abs(rates(config, 99, 100, 10, 256).lr - config.lr_end) < 1e-12
    assert rates(config, 99, 100, 10, 256).weight_decay == config.weight_decay_end


def test_rate_of_what_has_one_dimension():
    config = OptimConfig(lr=0.3, lr_1d=0.003, warmup_epochs=0.5, lr_end=0.0)
    for step in range(20):
        values = rates(config, step, 20, 10, 100)
        assert values.lr_1d == pytest.approx(values.lr / 100, rel=1e-12)
        same = rates(OptimConfig(lr=0.3, warmup_epochs=0.5, lr_end=0.0), step, 20, 10, 100)
        assert same.lr_1d == same.lr == values.lr


def test_rates_can_be_given_for_another_batch_or_for_all():
    for_100 = OptimConfig(lr=0.3, lr_1d=0.01, lr_clips=100, warmup_epochs=0)
    assert rates(for_100, 0, 10, 10, 100).lr == 0.3
    assert rates(for_100, 0, 10, 10, 50).lr_1d == 0.005
    for_all = OptimConfig(lr=0.3, lr_clips=0, warmup_epochs=0)
    assert {rates(for_all, 0, 10, 10, n).lr for n in (1, 100, 4096)} == {0.3}


@pytest.mark.parametrize("total", [1, 2, 27, 81])
def test_warmup_as_a_share_of_the_run(total):
    config = OptimConfig(lr=1.0, lr_clips=0, warmup_share=0.1, lr_end=0.0)  # and warmup_epochs 10, which yields
    n = round(0.1 * total)
    values = [rates(config, step, total, 27, 100).lr for step in range(total)]
    assert values[:n] == pytest.approx([(i + 1) / n for i in range(n)])
    after = [0.5 * (1 + math.cos(math.pi * i / max(total - n - 1, 1))) for i in range(total - n)]
    assert values[n:] == pytest.approx(after, abs=1e-12)


def test_groups_get_their_rates():
    net = small_net()
    optimizer = build_optimizer(net, OptimConfig(**LARS, lr_1d=0.01))
    set_rates(optimizer, Rates(lr=0.2, lr_1d=0.01, weight_decay=0.1, peak=0.4, peak_1d=0.02))
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(0.2, 0.1), (0.01, 0.0)]


class PlainLars:
    """EMP-SSL's LARS for one tensor at a time in plain numbers: the gradient scaled, then SGD with momentum."""

    def __init__(self, config: OptimConfig):
        self.config = config
        self.velocity: dict[int, Tensor] = {}

    def step(self, weights: list[Tensor], gradients: list[Tensor], values: Rates) -> None:
        for number, (w, g) in enumerate(zip(weights, gradients, strict=True)):
            lr = values.lr if w.ndim > 1 else values.lr_1d
            if w.ndim > 1:
                wd, size, slope = values.weight_decay, math.sqrt((w * w).sum()), math.sqrt((g * g).sum())
                ratio = self.config.lars_eta * size / (slope + wd * size + 1e-8) if size and slope else 1.0
                g = (min(ratio / lr, 1.0) if self.config.lars_clip else ratio) * (g + wd * w)
            v = self.velocity.get(number)
            self.velocity[number] = v = g.clone() if v is None else self.config.momentum * v + g
            w -= lr * (g + self.config.momentum * v if self.config.nesterov else v)


def gradients_of(shapes: list[torch.Size], steps: int) -> list[list[Tensor]]:
    """Of several sizes, so that the cap holds for some steps and not for others."""
    generator = torch.Generator().manual_seed(1)
    draw = [[torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes] for _ in range(steps)]
    return [[10.0 ** (step % 4 - 3) * g for g in gradients] for step, gradients in enumerate(draw)]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"lr_1d": 0.003},
        {"nesterov": False},
        {"lars_clip": False, "lars_eta": 0.001, "nesterov": False},
        {"momentum": 0.0, "nesterov": False},
        {"weight_decay": 0.0, "weight_decay_end": 0.0},
        {"weight_decay": 0.01, "weight_decay_end": 0.1, "warmup_share": 0.3},
    ],
)
def test_lars_is_its_formula(more):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3), nn.Linear(4, 3), nn.Linear(3, 2, bias=False)).double()
    config = OptimConfig(**{**LARS, "warmup_epochs": 0.5, "lr_clips": 100, **more})
    weights = [p.detach().clone() for p in net.parameters()]
    optimizer, plain = build_optimizer(net, config), PlainLars(config)
    capped = set()
    for step, gradients in enumerate(gradients_of([w.shape for w in weights], 10)):
        values = rates(config, step, 10, 10, 100)
        first = weights[0].norm() * config.lars_eta / gradients[0].norm()
        capped.add(bool(first > values.lr))
        for p, g in zip(net.parameters(), gradients, strict=True):
            p.grad = g.clone()
        set_rates(optimizer, values)
        optimizer.step()
        plain.step(weights, gradients, values)
        for p, w in zip(net.parameters(), weights, strict=True):
            torch.testing.assert_close(p.detach(), w, rtol=1e-12, atol=1e-14)
    assert capped == {True, False}


@pytest.mark.parametrize(("scale", "rate"), [(1.0, None), (100.0, None), (1e-4, 0.3)])
def test_lars_moves_a_share_of_the_weight_or_is_capped_to_the_rate(scale, rate):
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    optimizer = build_optimizer(layer, OptimConfig(**LARS))
    set_rates(optimizer, Rates(0.3, 0.003, 0.0, 0.3, 0.003))
    before, gradient = layer.weight.detach().clone(), scale * torch.randn(8, 8)
    layer.weight.grad = gradient.clone()
    optimizer.step()
    # Nesterov's first step is 1 + momentum times the rate.
    expected = 1.9 * (0.005 * before.norm() if rate is None else rate * gradient.norm())
    torch.testing.assert_close((layer.weight.detach() - before).norm(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("lr", [0.0, 1e-12])
def test_lars_with_no_rate_does_not_move(lr):
    net = small_net()
    optimizer = build_optimizer(net, OptimConfig(**LARS))
    before = copy.deepcopy(net.state_dict())
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    set_rates(optimizer, Rates(lr, lr, 1e-4, lr, lr))
    optimizer.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-10)
    assert all(value["momentum_buffer"].isfinite().all() for value in optimizer.state.values())


def test_lars_stands_weights_of_zero_and_gradients_that_are_none():
    net = small_net()
    nn.init.zeros_(net[2].weight)
    optimizer = build_optimizer(net, OptimConfig(**LARS))
    set_rates(optimizer, Rates(0.3, 0.003, 1e-4, 0.3, 0.003))
    before = net[0].weight.detach().clone()
    net[2].weight.grad = torch.ones(2, 3)  # and none of the others, as of a frozen layer
    optimizer.step()
    torch.testing.assert_close(net[2].weight.detach(), torch.full((2, 3), -0.3 * 1.9))
    assert torch.equal(net[0].weight, before)


def test_lars_in_bf16_is_close_to_fp32():
    torch.manual_seed(0)
    fine = nn.Linear(64, 64)
    coarse = copy.deepcopy(fine).bfloat16()
    before, gradient = fine.weight.detach().clone(), torch.randn(64, 64)
    for layer in (fine, coarse):
        optimizer = build_optimizer(layer, OptimConfig(**{**LARS, "lars_eta": 0.5}))
        set_rates(optimizer, Rates(1.0, 0.003, 1e-4, 1.0, 0.003))
        layer.weight.grad = gradient.to(layer.weight.dtype)
        optimizer.step()
    moved = (fine.weight - before).norm()
    assert (coarse.weight.float() - fine.weight).norm() < 0.02 * moved


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_a_run_goes_on_from_its_state(name):
    config = OptimConfig(**{**LARS, "name": name, "lr": 0.01, "lr_1d": 0.001, "warmup_share": 0.2})
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(8, 4, generator=generator) for _ in range(8)]

    def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            set_rates(optimizer, rates(config, step, 8, 4, 256))
            net(batches[step]).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    torch.manual_seed(0)
    whole = small_net()
    half = copy.deepcopy(whole)
    train(whole, build_optimizer(whole, config), range(8))
    first = build_optimizer(half, config)
    train(half, first, range(4))
    resumed = small_net()
    resumed.load_state_dict(half.state_dict())
    optimizer = build_optimizer(resumed, config)
    optimizer.load_state_dict(copy.deepcopy(first.state_dict()))
    train(resumed, optimizer, range(4, 8))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def plain_adamw(w, gradients, values, betas):
    """Loshchilov and Hutter (2019), algorithm 2, on one tensor."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, (g, (lr, decay)) in enumerate(zip(gradients, values, strict=True), 1):
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        step = (m / (1 - betas[0] ** t)) / ((v / (1 - betas[1] ** t)).sqrt() + 1e-8)
        w = w - lr * decay * w - lr * step
    return w


def test_adamw_is_its_formula_with_the_rates_of_the_step():
    torch.manual_seed(0)
    net, config = small_net(), OptimConfig(betas=[0.8, 0.99])
    optimizer = build_optimizer(net, config)
    names, values = ["0.weight", "0.bias"], [(0.1, 0.3), (0.05, 0.2), (0.2, 0.1)]
    before = [net.get_parameter(name).detach().clone() for name in names]
    gradients = [[torch.randn_like(w) for _ in values] for w in before]
    for step, (lr, decay) in enumerate(values):
        set_rates(optimizer, Rates(lr, lr, decay, lr, lr))
        for name, found in zip(names, gradients, strict=True):
            net.get_parameter(name).grad = found[step].clone()
        optimizer.step()
    for name, w, found in zip(names, before, gradients, strict=True):
        own = [(lr, decay if w.ndim > 1 else 0.0) for lr, decay in values]
        torch.testing.assert_close(net.get_parameter(name).detach(), plain_adamw(w, found, own, config.betas))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_a_loss_scale_leaves_steps_out_itself_and_unscales_before(name):
    net = small_net()
    optimizer, scaler = build_optimizer(net, OptimConfig(name=name, lr=0.1)), torch.amp.GradScaler("cpu")
    taken = []
    optimizer.register_step_post_hook(lambda *_: taken.append(len(taken)))
    for factor in (1.0, torch.inf, 1.0):
        before = [p.detach().clone() for p in net.parameters()]
        scaler.scale(factor * net(torch.ones(2, 4)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        moved = [not torch.equal(was, now) for was, now in zip(before, net.parameters(), strict=True)]
        assert any(moved) == (factor == 1.0)
    assert taken == [0, 1]  # the overflow was no step: Accelerate tells a run so by this


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs_with_the_rates_of_the_step(nesterov):
    torch.manual_seed(0)
    net = small_net()
    other = copy.deepcopy(net)
    optimizer = build_optimizer(net, OptimConfig(name="sgd", nesterov=nesterov))
    plain = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, nesterov=nesterov)
    for _ in range(3):
        batch = torch.randn(8, 4)
        for module, each in ((net, optimizer), (other, plain)):
            module(batch).square().mean().backward()
            set_rates(optimizer, Rates(0.1, 0.1, 0.0, 0.1, 0.1))
            each.step()
            each.zero_grad()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr": -1.0}, "--optim.lr must be 0 or more, found -1.0"),
        ({"betas": [0.9]}, r"--optim.betas must be two numbers from 0 to below 1, found \[0.9\]"),
        ({"betas": [0.9, 1.0]}, "--optim.betas must be two numbers"),
        ({"lr_1d": -0.1}, "--optim.lr_1d must be 0 or more"),
        ({"lr": math.nan}, "--optim.lr must be 0 or more, found nan"),
        ({"lr_clips": -1}, "--optim.lr_clips must be 0 or more"),
        ({"warmup_epochs": -1.0}, "--optim.warmup_epochs must be 0 or more"),
        ({"warmup_share": 1.5}, "--optim.warmup_share must be from 0 to 1, found 1.5"),
        ({"momentum": 1.0}, "--optim.momentum must be 0 or more and below 1"),
        ({"momentum": 0.0, "nesterov": True}, "--optim.nesterov is a form of momentum"),
        ({"lars_eta": 0.0}, "--optim.lars_eta must be above 0"),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(UserError, match=words):
        OptimConfig(**settings)
