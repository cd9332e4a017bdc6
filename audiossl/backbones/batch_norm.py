"""Statistics of batch norms for a network that was not trained: without them they are 0 and 1 and normalise nothing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def calibrate_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> int:
    """Measure the running statistics of every batch norm anew; return how many norms there are.

    Each statistic becomes its plain mean over the batches, seen as in training: give batches of one size, in random
    order. All else stays in eval mode meanwhile, and the modes are as before afterwards. What was measured before is
    forgotten. A network without batch norm is left alone.

    >>> norm = nn.BatchNorm1d(1, affine=False).eval()
    >>> calibrate_batch_norm(norm, [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])])
    1
    >>> norm.running_mean.item(), norm.running_var.item()  # of (2, 6) and (2, 2)
    (4.0, 2.0)
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return 0
    modes = [(module, module.training) for module in network.modules()]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.training = True
    try:
        for batch in batches:
            network(batch)
    finally:
        for module, training in modes:
            module.training = training
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return len(norms)


def freeze_batch_norm(network: nn.Module) -> None:
    """Let every batch norm use the statistics that it has, until the network is put into training mode again.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).train()
    >>> freeze_batch_norm(network)
    >>> network.training, network[1].training
    (True, False)
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
