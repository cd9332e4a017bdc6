"""Linear probe: one linear layer on standardised features, trained by AdamW, as most papers report it.

Every pair of learning rate and weight decay is a layer of its own; all of them see the same batches in one
pass over the data, so the whole grid costs about as much as one setting. The pair is chosen on the validation
split.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from audiossl.probes.features import ProbeData, ProbeScore, accuracy

# Adam's learning rates are nearly free of the features' scale and width; the range holds the best of 32 to
# 3,072 dimensions with a few hundred to 85,000 clips. Weight decay is AdamW's, relative to the learning rate.
LEARNING_RATES = (3e-4, 1e-3, 3e-3, 1e-2)
WEIGHT_DECAYS = (0.0, 0.1, 1.0)


def linear_probe(
    data: ProbeData,
    learning_rates: Sequence[float] = LEARNING_RATES,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    batch_size: int = 256,
    min_steps: int = 1500,
    min_epochs: int = 20,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> ProbeScore:
    """Train the grid, choose on validation (the smaller values win ties), read the test split once.

    The same seed gives the same score. Weights start at zero (the problem is convex), the learning rate falls
    to zero along a half cosine, and training lasts `min_steps` or `min_epochs`, whichever is longer.
    """
    grid = list(itertools.product(learning_rates, weight_decays))
    weight, bias = _train(data.train, data.n_classes, grid, batch_size, min_steps, min_epochs, seed, device)

    def predictions(x: np.ndarray, i: int) -> np.ndarray:
        return F.linear(torch.as_tensor(x, device=device), weight[i], bias[i]).argmax(1).cpu().numpy()

    scores = [accuracy(predictions(data.validation.x, i), data.validation.y) for i in range(len(grid))]
    best = int(np.argmax(scores))
    predicted = predictions(data.test.x, best)
    chosen = {"learning_rate": grid[best][0], "weight_decay": grid[best][1]}
    return ProbeScore(accuracy(predicted, data.test.y), scores[best], chosen, predicted=predicted)


def _train(train, n_classes, grid, batch_size, min_steps, min_epochs, seed, device) -> tuple[Tensor, Tensor]:
    """Weights (G, C, D) and biases (G, C) of the G layers of the grid."""
    x, y = torch.as_tensor(train.x, device=device), torch.as_tensor(train.y, device=device)
    weight = torch.zeros(len(grid), n_classes, x.shape[1], device=device, requires_grad=True)
    bias = torch.zeros(len(grid), n_classes, device=device, requires_grad=True)
    optimizer = GridAdamW((weight, bias), grid)
    steps = max(min_steps, min_epochs * math.ceil(len(x) / batch_size))
    for step, rows in enumerate(shuffled_batches(len(x), batch_size, steps, seed)):
        rows = rows.to(x.device)
        logits = F.linear(x[rows], weight.flatten(0, 1), bias.flatten()).view(len(rows), len(grid), n_classes)
        # The sum over the grid keeps the layers' gradients apart: each sees only its own loss.
        target = y[rows][:, None].expand(-1, len(grid))
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten()) * len(grid)
        loss.backward()
        optimizer.step(0.5 * (1 + math.cos(math.pi * step / steps)))
    return weight.detach(), bias.detach()


class GridAdamW:
    """AdamW (Loshchilov and Hutter, 2019) with a learning rate and a weight decay for each layer of a grid.

    The settings are those of torch's, which wants a group of parameters for each pair: a dozen groups of layers as
    small as a probe's cost many times what the arithmetic does.
    """

    def __init__(self, parameters: Sequence[Tensor], grid: Sequence[tuple[float, float]]) -> None:
        self.parameters = parameters
        self.means, self.squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
        pairs = parameters[0].new_tensor(grid)
        self.rates, self.decays = ([pairs[:, i].view(-1, *[1] * (p.dim() - 1)) for p in parameters] for i in range(2))
        self.n_steps = 0

    @torch.no_grad()
    def step(self, factor: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        """Move by the gradients, at `factor` times the learning rates, and forget them."""
        self.n_steps += 1
        unbias, unbias_square = (1 / (1 - beta**self.n_steps) for beta in betas)
        lists = self.parameters, self.means, self.squares, self.rates, self.decays
        for parameter, mean, square, rate, decay in zip(*lists, strict=True):
            if (gradient := parameter.grad) is None:
                continue
            mean.lerp_(gradient, 1 - betas[0])
            square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
            parameter.mul_(1 - factor * rate * decay)
            change = mean / (square * unbias_square).sqrt_().add_(eps)
            parameter.sub_(change.mul_(factor * unbias * rate))
            parameter.grad = None


def shuffled_batches(n_rows: int, batch_size: int, steps: int, seed: int) -> Iterator[torch.Tensor]:
    """Row numbers of `steps` batches: every row once an epoch, in an order that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        for rows in torch.randperm(n_rows, generator=generator).split(batch_size):
            yield rows
            done += 1
            if done == steps:
                return
