"""Invariance of EMP-SSL: the patches of a clip should lie in the same direction, that of their mean.

Tong et al., EMP-SSL: Towards Self-Supervised Learning in One Training Epoch, 2023. Gradients flow through the mean too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audiossl.losses.projections import checked


def invariance(z: Tensor) -> Tensor:
    """Mean over patches and clips of the cosine between a patch and the mean of its clip's patches, a scalar up to 1.

    With rows of length one, the products of a clip's patches with their mean average to the mean's square, so that
    their mean cosine is the length of the mean, and no cosine has to be computed. A clip of one patch has 1. Computed
    in float32, also under autocast. It is a mean over clips: over processes with batches of one size the mean of their
    values, and of their gradients, is that of the joined batch.

    Args:
        z: projections, rows of length one (see `audiossl.losses.projections.unit_rows`), (P, B, d).

    Raises UserError when z is not (P, B, d) with at least one of each.

    >>> same, apart = torch.eye(2).expand(3, -1, -1), torch.eye(2)[:, None]
    >>> invariance(same), invariance(apart)
    (tensor(1.), tensor(0.7071))
    """
    with torch.autocast(z.device.type, enabled=False):
        alike: Tensor = torch.linalg.vector_norm(checked(z).mean(0), dim=-1).mean()
        return alike
