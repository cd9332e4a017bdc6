"""Batches of all processes joined, for losses that compare the clips of a batch with each other.

Such a loss of a small batch is not the share of a larger one's: each process must see the clips of all. Gradients
follow them back, which a plain `torch.distributed.all_gather` does not let them do.
"""

from __future__ import annotations

import torch
import torch.distributed.nn.functional as differentiable
from torch import Tensor

from audiossl.errors import UserError


def n_processes() -> int:
    """How many processes train together; 1 without torch.distributed.

    >>> n_processes()
    1
    """
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def gather_clips(z: Tensor, dim: int) -> Tensor:
    """Join the processes' tensors along the axis of the clips, the first process's clips first.

    The gradient of a process's own clips is the sum of what all processes' losses ask of them. Where every process
    computes the same loss of the joined batch, that is W times its gradient, W processes, and the mean that
    DistributedDataParallel takes over them is the gradient of one process with all clips. Without W processes nothing
    happens.

    Raises UserError when the processes hold tensors of different shapes, on each of them.

    Shape: (..., B, ...) to (..., W B, ...).

    >>> gather_clips(torch.zeros(20, 8, 4), dim=1).shape
    torch.Size([20, 8, 4])
    """
    if n_processes() == 1:
        return z
    shape = torch.tensor(z.shape, device=z.device)
    shapes = [torch.empty_like(shape) for _ in range(n_processes())]
    torch.distributed.all_gather(shapes, shape)
    found = [tuple(other.tolist()) for other in shapes]
    if len(set(found)) > 1:
        # Asked first, since the collective itself would wait forever or return garbage.
        raise UserError(
            f"the batches of the processes have shapes {', '.join(map(str, found))}: "
            "give each process as many clips as the others, for instance with drop_last=True"
        )
    return torch.cat(differentiable.all_gather(z), dim)
