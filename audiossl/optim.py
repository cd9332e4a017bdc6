"""Optimisers and their parameter groups: the learning rate and decay of each step come from `audiossl.schedules`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal

import torch
from timm.optim.lars import Lars
from torch import nn

from audiossl.errors import UserError
from audiossl.schedules import cosine, warmup_cosine


@dataclass
class OptimConfig:
    """The optimiser and its schedules; the defaults are DINO's and EsViT's, those of LARS are EMP-SSL's."""

    name: Literal["adamw", "sgd", "lars"] = "adamw"
    # Peak rate for `lr_clips` clips per optimiser step over all processes; the rate in use grows with the batch.
    lr: float = 5e-4
    # Peak rate of biases and gains (all that has one dimension) alone; 0 for the same as the others'.
    lr_1d: float = 0.0
    # Clips per optimiser step that the rates are given for; 0 for the same rates with every batch.
    lr_clips: int = 256
    # Rate at the last step.
    lr_end: float = 1e-6
    # Linear rise at the begin; cut to the run where it is longer.
    warmup_epochs: float = 10.0
    # The rise as a share of the run, in place of the epochs; 0 leaves it to them.
    warmup_share: float = 0.0
    # Half a cosine from the first value to the second; biases and gains are not decayed.
    weight_decay: float = 0.04
    weight_decay_end: float = 0.4
    # Largest L2 norm of all gradients together, or with clip_each, as in EsViT, of each tensor's; 0 for no clipping.
    clip_grad: float = 3.0
    clip_each: bool = False
    # To fine-tune: each layer's rate over that of the next one behind it (BEiT: 0.65 to 0.9); 1 for the same rates.
    layer_decay: float = 1.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    # Of sgd and lars: momentum, and Nesterov's form of it, which EMP-SSL uses.
    momentum: float = 0.9
    nesterov: bool = False
    # Of lars: a weight's own rate is lars_eta |w| / (|g| + weight_decay |w|), and with lars_clip never above the rate
    # of the step, as in EMP-SSL; without it the two are multiplied, as in You et al. (2017) and EsViT (eta 0.001).
    lars_eta: float = 0.005
    lars_clip: bool = True

    def __post_init__(self) -> None:
        """Raise `UserError` for a number out of range."""
        not_negative = ("lr", "lr_1d", "lr_clips", "lr_end", "warmup_epochs", "weight_decay", "weight_decay_end")
        for name in (*not_negative, "clip_grad"):
            if not getattr(self, name) >= 0:
                raise UserError(f"--optim.{name} must be 0 or more, found {getattr(self, name)}.")
        if not 0 <= self.warmup_share <= 1:
            raise UserError(f"--optim.warmup_share must be from 0 to 1, found {self.warmup_share}.")
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"--optim.layer_decay must be above 0 and at most 1, found {self.layer_decay}.")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"--optim.betas must be two numbers from 0 to below 1, found {self.betas}.")
        if not 0 <= self.momentum < 1:
            raise UserError(f"--optim.momentum must be 0 or more and below 1, found {self.momentum}.")
        if self.nesterov and not self.momentum:
            raise UserError("--optim.nesterov is a form of momentum, and --optim.momentum is 0: leave one of them out.")
        if not self.lars_eta > 0:
            raise UserError(f"--optim.lars_eta must be above 0, found {self.lars_eta}.")


def parameter_groups(
    module: nn.Module, constant: nn.Module | None = None, layer_decay: float = 1.0
) -> list[dict[str, object]]:
    """Two groups of the trainable parameters: decayed, and not decayed (biases, gains and others of one dimension).

    Those of `constant`, a part of the module, are two groups more, whose rate stays at its peak. With `layer_decay`
    every layer has groups of its own, with the share of the rate that is left of it there as their `scale`.
    """
    apart = {id(p) for p in constant.parameters()} if constant is not None else set()
    scales = _scales(module, layer_decay)
    groups: list[dict[str, object]] = []
    for stays, scale in itertools.product((False, True) if apart else (False,), sorted(set(scales.values()))):
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad and scales[name] == scale]
        mine = [p for _, p in named if (id(p) in apart) == stays]
        groups += [
            {"params": [p for p in mine if p.ndim > 1], "decays": True, "constant": stays, "scale": scale},
            {"params": [p for p in mine if p.ndim <= 1], "decays": False, "constant": stays, "scale": scale},
        ]
    return groups


def _scales(module: nn.Module, layer_decay: float) -> dict[str, float]:
    """Share of the rate that each parameter has, by name."""
    if layer_decay == 1.0:
        return {name: 1.0 for name, _ in module.named_parameters()}
    from audiossl.backbones.depths import parameter_depths

    depths = parameter_depths(module)
    deepest = max(depths.values())
    return {name: layer_decay ** (deepest - depth) for name, depth in depths.items()}


def build_optimizer(module: nn.Module, config: OptimConfig, constant: nn.Module | None = None) -> torch.optim.Optimizer:
    """The optimiser over a module's trainable parameters; `set_rates` gives it its rate before each step.

    `constant`, a part of the module, keeps the peak rate throughout: SimSiam's predictor (Chen and He, 2021).

    LARS (You et al., 2017) as EMP-SSL uses it, from a step's gradient g, its rate lr and decay wd, for every weight w
    of two dimensions and more:

        r = min(eta |w| / (|g| + wd |w| + 1e-8) / lr, 1)
        v <- momentum v + r (g + wd w)
        w <- w - lr v, with Nesterov's momentum w - lr (r (g + wd w) + momentum v)

    so that lr is but a cap for them. What has one dimension gets plain SGD, and lr is its true rate: with EMP-SSL's 0.3
    networks have collapsed within three steps which a hundredth of it for biases and gains kept alive, hence `lr_1d`.
    """
    groups = parameter_groups(module, constant, config.layer_decay)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    if config.name == "lars":
        return _lars(groups, config)
    # Fused, by its groups: asked for as a whole, torch's would step over a gradient that overflowed in fp16 by itself,
    # and the run, which counts such steps, would not hear of it.
    fused = [{**group, "fused": True} for group in groups]
    return torch.optim.AdamW(fused, lr=config.lr, betas=(config.betas[0], config.betas[1]), weight_decay=0.0)


def _lars(groups: list[dict[str, object]], config: OptimConfig) -> Lars:
    # timm's, which keeps all norms on the device. Where w or g is 0 it takes r = 1, that is, decays by lr wd, and
    # EMP-SSL's (solo-learn's wrapper) does not decay: 3e-5 of a weight, in steps in which it has no gradient.
    # `always_adapt` asks for r without decay too; the second group, never decayed, is plain SGD without it.
    return Lars(
        [{**group, "always_adapt": group["decays"]} for group in groups],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        trust_coeff=config.lars_eta,
        trust_clip=config.lars_clip,
    )


@dataclass(frozen=True)
class Rates:
    """What the optimiser does at one step: `lr_1d` is the rate of what has one dimension, which does not decay.

    `peak` and `peak_1d` are those of the parts whose rate is constant.
    """

    lr: float
    lr_1d: float
    weight_decay: float
    peak: float
    peak_1d: float


def rates(config: OptimConfig, step: int, total_steps: int, steps_per_epoch: int, clips_per_step: int) -> Rates:
    """Learning rates and weight decay of a step, of the batch over all processes and micro-batches.

    >>> first = rates(OptimConfig(warmup_epochs=0), 0, 100, 10, 128)
    >>> first.lr, first.lr_1d, round(first.weight_decay, 6)
    (0.00025, 0.00025, 0.04)
    """
    scale = clips_per_step / config.lr_clips if config.lr_clips else 1.0
    warmup_steps = round(config.warmup_share * total_steps or config.warmup_epochs * steps_per_epoch)

    def rate(peak: float) -> float:
        return warmup_cosine(step, total_steps, warmup_steps, peak * scale, config.lr_end)

    return Rates(
        lr=rate(config.lr),
        lr_1d=rate(config.lr_1d or config.lr),
        weight_decay=cosine(step, total_steps, config.weight_decay, config.weight_decay_end),
        peak=config.lr * scale,
        peak_1d=(config.lr_1d or config.lr) * scale,
    )


def set_rates(optimizer: torch.optim.Optimizer, values: Rates) -> None:
    """Give the groups their learning rates, and their decay to those that decay."""
    for group in optimizer.param_groups:
        several, one = (values.peak, values.peak_1d) if group["constant"] else (values.lr, values.lr_1d)
        group["lr"] = (several if group["decays"] else one) * group["scale"]
        group["weight_decay"] = values.weight_decay if group["decays"] else 0.0
