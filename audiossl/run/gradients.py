"""Gradients of a run: clipping, and whether they and the weights are finite; nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


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


def all_finite(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    """Whether no number is NaN or infinite, as a 0-dimensional tensor on the device.

    By L2 norms, which cost a CPU a thirteenth of `isfinite`; beyond 1e19 float32 count as infinite: their norm is.

    >>> bool(all_finite([torch.ones(3), torch.tensor([1.0, float("nan")])], torch.device("cpu")))
    False
    """
    found = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
    if not found:
        return torch.ones((), dtype=torch.bool, device=device)
    return torch.isfinite(torch.stack([norm.float().to(device) for norm in torch._foreach_norm(found)])).all()
