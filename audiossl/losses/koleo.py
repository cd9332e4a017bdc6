"""KoLeo: spreads the features of a batch evenly over the sphere.

Sablayrolles et al., Spreading vectors for similarity search, ICLR 2019 (the differential-entropy estimator of
Kozachenko and Leonenko); DINOv2 (Oquab et al., 2023) adds it to DINO with weight 0.1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def koleo_loss(features: Tensor, eps: float = 1e-6) -> Tensor:
    """Minus the mean logarithm of the distance of each normalised feature to its nearest neighbour in the batch.

    The neighbours are sought within this process, as in DINOv2.

    Shape: features (B, D) to a scalar; 0 for fewer than two clips, which have no neighbours.

    >>> bool(koleo_loss(torch.eye(4)) < koleo_loss(torch.ones(4, 4) + 0.1 * torch.eye(4)))
    True
    """
    if len(features) < 2:
        return features.sum() * 0.0
    with torch.autocast(features.device.type, enabled=False):
        z = functional.normalize(features.float(), dim=-1)
        with torch.no_grad():
            cosines = z @ z.T
            cosines.fill_diagonal_(-2.0)
            nearest = cosines.argmax(1)
        # eps inside the root's argument keeps the gradient finite for repeated clips, whose distance is 0.
        distance = ((z - z[nearest]).square().sum(1) + eps**2).sqrt()
        return -(distance + eps).log().mean()
