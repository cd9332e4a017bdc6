"""BYOL's loss: twice the distance of two directions (Grill et al., Bootstrap Your Own Latent, 2020, equation 2)."""

from __future__ import annotations

from torch import Tensor, autocast
from torch.nn import functional


def cosine_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean over rows of 2 - 2 cos(predicted, target), the squared distance of unit vectors: from 0 to 4, a scalar.

    Computed in float32, also under autocast. SimSiam's loss, -cos, has half its gradient.

    Args:
        predicted: (..., d), of any length but zero.
        target: of the same shape. Gradients flow into both: detach a teacher's.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0]])
    >>> cosine_loss(x, 3 * x).item(), cosine_loss(x, -x).item()
    (0.0, 4.0)
    """
    with autocast(predicted.device.type, enabled=False):
        return 2.0 - 2.0 * functional.cosine_similarity(predicted.float(), target.float(), dim=-1).mean()
