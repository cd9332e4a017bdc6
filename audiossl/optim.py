"""Optimisers and their parameter groups: the learning rate and decay of each step come from `audiossl.schedules`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from audiossl.schedules import cosine, warmup_cosine


@dataclass
class OptimConfig:
    """The optimiser and its schedules; the defaults are DINO's and EsViT's."""

    name: Literal["adamw", "sgd"] = "adamw"
    # Peak rate for 256 clips per optimiser step over all processes; the rate in use grows with the batch.
    lr: float = 5e-4
    # Rate at the last step.
    lr_end: float = 1e-6
    # Linear rise at the begin; cut to the run where it is longer.
    warmup_epochs: float = 10.0
    # Half a cosine from the first value to the second; biases and gains are not decayed.
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    # Largest L2 norm of all gradients together; 0 for no clipping.
    clip_grad: float = 3.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])


def parameter_groups(modules: Iterable[nn.Module]) -> list[dict[str, object]]:
    """Two groups of the trainable parameters: decayed, and not decayed (biases, gains and others of one dimension)."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "decays": True},
        {"params": [p for p in parameters if p.ndim <= 1], "decays": False},
    ]


def build_optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimiser over a module's trainable parameters; `set_rates` gives it its rate before each step."""
    groups = parameter_groups([module])
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), weight_decay=0.0)


@dataclass(frozen=True)
class Rates:
    """What the optimiser does at one step."""

    lr: float
    weight_decay: float


def rates(config: OptimConfig, step: int, total_steps: int, steps_per_epoch: int, clips_per_step: int) -> Rates:
    """Learning rate and weight decay of a step, of the batch over all processes and micro-batches.

    >>> first = rates(OptimConfig(warmup_epochs=0), 0, 100, 10, 128)
    >>> first.lr, round(first.weight_decay, 6)
    (0.00025, 0.04)
    """
    scale = clips_per_step / 256
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    return Rates(
        lr=warmup_cosine(step, total_steps, warmup_steps, config.lr * scale, config.lr_end),
        weight_decay=cosine(step, total_steps, config.weight_decay, config.weight_decay_end),
    )


def set_rates(optimizer: torch.optim.Optimizer, values: Rates) -> None:
    """Give every group its learning rate, and its decay to those that decay."""
    for group in optimizer.param_groups:
        group["lr"] = values.lr
        group["weight_decay"] = values.weight_decay if group["decays"] else 0.0
