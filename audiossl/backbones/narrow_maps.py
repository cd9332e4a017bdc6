"""Convolutions with a stride, safe on maps of one or two columns.

In bf16 on a CPU, oneDNN (of torch 2.14) reads memory there that nobody wrote: with AMX the outputs of a 3 x 3
convolution of stride 2 are NaN or anything else, elsewhere its gradients are now and then.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

ENOUGH = 4  # columns of a map that are read rightly


class StridedConv2d(nn.Conv2d):
    """`nn.Conv2d`, which on a CPU sees a narrow map with more of the zeros that its padding stands for: equal outputs.

    >>> plain = nn.Conv2d(1, 1, 3, stride=2, padding=1)
    >>> safe = StridedConv2d(1, 1, 3, stride=2, padding=1)
    >>> safe.load_state_dict(plain.state_dict())
    <All keys matched successfully>
    >>> torch.allclose(safe(torch.ones(1, 1, 8, 2)), plain(torch.ones(1, 1, 8, 2)))
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve maps (B, C, F, T)."""
        if input.device.type != "cpu" or torch.compiler.is_compiling() or not 0 < input.shape[-1] < ENOUGH - 1:
            return super().forward(input)
        columns = (input.shape[-1] + 2 * int(self.padding[1]) - self.kernel_size[1]) // self.stride[1] + 1
        return super().forward(functional.pad(input, (0, ENOUGH - input.shape[-1])))[..., :columns]


def make_safe(net: nn.Module) -> None:
    """Turn the convolutions of a network with a stride, and padding of zeros, into `StridedConv2d`."""
    for module in net.modules():
        if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or isinstance(module.padding, str):
            continue
        if module.stride[1] > 1 and module.kernel_size[1] > 1 and module.dilation[1] == 1:
            module.__class__ = StridedConv2d
