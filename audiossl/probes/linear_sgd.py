"""EsViT's linear evaluation (Li et al., 2022, as in DINO): one layer by SGD, its learning rates all in one pass.

Momentum 0.9, no weight decay, 100 epochs, batches of 128, the rate given per 256 clips, scaled to the batch, and
falling to zero along a half cosine, epoch by epoch; weights start at N(0, 0.01). There the authors ran the program
once a rate and published the best on the test images. Here every pair of rate and decay is a slice of one tensor, all
see the same batches, and the pair is chosen on validation. The gradient of a linear layer is short enough to be
written out.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from audiossl.probes.config import LinearSGDConfig
from audiossl.probes.features import Labelled, ProbeData, ProbeScore, accuracy, top5_accuracy
from audiossl.probes.linear import shuffled_batches

MOMENTUM = 0.9
RATE_BATCH = 256  # clips that learning rates are given for
INITIAL_STD = 0.01
CHUNK = 4096  # rows that are scored at a time


def linear_sgd(
    data: ProbeData,
    config: LinearSGDConfig | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> ProbeScore:
    """Train the grid of `config`, choose on validation (the first of equals), read the test split once.

    The same seed gives the same score on the same device. `chosen["grid"]` holds the validation accuracy of every pair,
    so that a best rate at the end of the grid can be seen. Any number of clips and classes is allowed.
    """
    config = config or LinearSGDConfig()
    grid = list(itertools.product(config.learning_rates, config.weight_decays))
    weight, bias = train_grid(data.train, data.n_classes, grid, config.epochs, config.batch_size, seed, device)
    y = torch.as_tensor(data.validation.y)
    right = torch.zeros(len(grid), dtype=torch.long)
    for rows in torch.arange(len(y)).split(CHUNK):
        x = torch.as_tensor(data.validation.x[rows.numpy()], device=device)
        right += (_logits(x, weight, bias).argmax(2).cpu() == y[rows, None]).sum(0)
    scores = (right.double() / len(y)).tolist()
    best = max(range(len(grid)), key=lambda i: scores[i])
    test = torch.as_tensor(data.test.x, device=device) @ weight[:, best] + bias[best]
    ranked = test.sort(dim=1, descending=True, stable=True).indices[:, :5].cpu().numpy()
    chosen = {
        "learning_rate": grid[best][0],
        "weight_decay": grid[best][1],
        "grid": [[*pair, 100 * score] for pair, score in zip(grid, scores, strict=True)],
    }
    top5 = top5_accuracy(ranked, data.test.y, data.n_classes)
    return ProbeScore(accuracy(ranked[:, 0], data.test.y), scores[best], chosen, top5, ranked[:, 0])


def train_grid(
    train: Labelled,
    n_classes: int,
    grid: list[tuple[float, float]],
    epochs: int,
    batch_size: int,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    """Weights (D, G, classes) and biases (G, classes) of the G pairs of learning rate per 256 clips and weight decay.

    Every pair starts from the same weights and sees the same batches, so each ends as it would alone.
    """
    x, y = torch.as_tensor(train.x, device=device), torch.as_tensor(train.y, device=device)
    rates = torch.tensor([rate for rate, _ in grid], device=device)[:, None] * batch_size / RATE_BATCH
    decays = torch.tensor([decay for _, decay in grid], device=device)[:, None]
    start = INITIAL_STD * torch.randn(x.shape[1], 1, n_classes, generator=torch.Generator().manual_seed(seed))
    weight = start.to(device).repeat(1, len(grid), 1)
    bias = torch.zeros(len(grid), n_classes, device=device)
    weight_step, bias_step = torch.zeros_like(weight), torch.zeros_like(bias)
    steps_an_epoch = math.ceil(len(x) / batch_size)
    for step, rows in enumerate(shuffled_batches(len(x), batch_size, epochs * steps_an_epoch, seed)):
        batch, labels = x[rows.to(x.device)], y[rows.to(x.device)]
        # Of cross entropy with respect to the logits: softmax minus one-hot, (B, G, classes).
        error = _logits(batch, weight, bias).softmax(2)
        error[torch.arange(len(batch), device=x.device), :, labels] -= 1
        error /= len(batch)
        gradient = (batch.T @ error.flatten(1)).view_as(weight)
        weight_step.mul_(MOMENTUM).add_(gradient).addcmul_(decays, weight)
        bias_step.mul_(MOMENTUM).add_(error.sum(0)).addcmul_(decays, bias)
        rate = rates * 0.5 * (1 + math.cos(math.pi * (step // steps_an_epoch) / epochs))
        weight -= rate * weight_step
        bias -= rate * bias_step
    return weight, bias


def _logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Logits (B, G, classes) of rows (B, D): one product for the whole grid."""
    return (x @ weight.flatten(1)).view(len(x), *bias.shape) + bias
