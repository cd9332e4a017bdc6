"""Parameter groups and rates of a step."""

import torch
from torch import nn

from audiossl.optim import OptimConfig, build_optimizer, parameter_groups, rates, set_rates


def small_net():
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2, bias=False))


def test_biases_and_gains_do_not_decay_and_nothing_is_forgotten():
    net = small_net()
    decayed, free = parameter_groups([net])
    assert [tuple(p.shape) for p in decayed["params"]] == [(3, 4), (2, 3)]
    assert [tuple(p.shape) for p in free["params"]] == [(3,), (3,), (3,)]
    net[0].weight.requires_grad_(False)
    assert len(parameter_groups([net])[0]["params"]) == 1


def test_decay_alone_shrinks_matrices_and_leaves_biases():
    net = small_net()
    optimizer = build_optimizer(net, OptimConfig())
    values = rates(OptimConfig(lr=0.1, warmup_epochs=0, weight_decay=0.5), 0, 10, 5, 256)
    set_rates(optimizer, values)
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
