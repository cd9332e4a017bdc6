"""Batch norms measured on data: each statistic the plain mean over batches, and nothing else changed."""

from __future__ import annotations

import torch
from torch import nn

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.backbones.batch_norm import calibrate_batch_norm


def test_statistics_are_plain_means_over_the_batches():
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2), nn.BatchNorm1d(2)).eval()
    batches = [2 + 3 * torch.randn(16, 3) for _ in range(5)]
    assert calibrate_batch_norm(net, batches) == 2
    torch.testing.assert_close(net[0].running_mean, torch.stack([x.mean(0) for x in batches]).mean(0))
    torch.testing.assert_close(net[0].running_var, torch.stack([x.var(0) for x in batches]).mean(0))
    seen = [((x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()).relu() @ net[2].weight.T for x in batches]
    inner = torch.stack([x.mean(0) for x in seen]).mean(0) + net[2].bias
    torch.testing.assert_close(net[3].running_mean, inner.detach())


def test_a_second_measurement_forgets_the_first():
    net = nn.BatchNorm1d(1)
    calibrate_batch_norm(net, [torch.full((4, 1), 100.0)])
    calibrate_batch_norm(net, [torch.tensor([[1.0], [3.0]])])
    assert (net.running_mean.item(), net.running_var.item()) == (2.0, 2.0)


def test_weights_modes_momenta_and_dropout_are_left_alone():
    net = nn.Sequential(nn.BatchNorm1d(3, momentum=0.3), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(3))).train()
    net[2].eval()
    before = [p.detach().clone() for p in net.parameters()]
    calibrate_batch_norm(net, [torch.randn(64, 3)])
    assert [module.training for module in net.modules()] == [True, True, True, False, False]
    assert (net[0].momentum, net[2][0].momentum) == (0.3, 0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    # Dropout was off: behind it the norm saw deviation 1, not sqrt(2).
    assert net[2][0].running_var.max() < 1.2


def test_a_random_resnet_then_normalises_what_it_sees():
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig("resnet10"), (64, 32)).eval()
    images = 5 + 2 * torch.randn(32, 1, 64, 32)
    seen = []  # copies: the activation behind the norm writes in place
    backbone.net.bn1.register_forward_hook(lambda norm, inputs, output: seen.append(output.clone()))
    calibrate_batch_norm(backbone, images.split(16))
    with torch.no_grad():
        backbone(images)
    assert seen[-1].mean().abs() < 0.05
    assert abs(float(seen[-1].var()) - 1) < 0.05


def test_a_network_without_batch_norm_is_left_alone():
    backbone = build_backbone(BackboneConfig("swin_micro"), (64, 96))
    assert calibrate_batch_norm(backbone, [torch.zeros(1, 7)]) == 0  # and the batch is not even looked at
