"""Gradients of a run: clipping, and the watch for a loss that is not finite; neither waits for the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def clip(parameters: Iterable[Tensor], max_norm: float, per_tensor: bool = False) -> None:
    """Scale gradients in place so that their L2 norm is at most `max_norm`.

    Args:
        parameters: those without a gradient are left out.
        max_norm: bound of the norm over all gradients, or of each one.
        per_tensor: each gradient by itself, as DINO and EsViT do (`clip_gradients` there, 3.0).
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    norms = list(torch._foreach_norm(gradients))
    if not per_tensor:
        norms = [torch.stack([norm.to(norms[0].device) for norm in norms]).norm()] * len(gradients)
    for gradient, norm in zip(gradients, norms, strict=True):
        gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0).to(gradient.dtype))


class FiniteWatch:
    """Remembers, on the device, the first optimiser step whose loss was not finite."""

    def __init__(self, device: torch.device) -> None:
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)  # -1: none

    def look(self, loss: Tensor, step: int) -> None:
        """Note `step` when the loss is NaN or infinite and none was before."""
        bad = ~torch.isfinite(loss.detach()).all() & (self.first_bad < 0)
        self.first_bad = torch.where(bad, step, self.first_bad)

    def look_at_weights(self, models: Iterable[nn.Module], step: int) -> None:
        """Note `step` when a weight is not finite: a checkpoint of it would be worthless."""
        finite = [torch.isfinite(weight).all() for model in models for weight in model.parameters()]
        if finite:
            bad = ~torch.stack(finite).all() & (self.first_bad < 0)
            self.first_bad = torch.where(bad, step, self.first_bad)
