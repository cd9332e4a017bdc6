"""Products of float32 matrices inside a loss: float32 in and out, however the run computes elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

_BACKENDS: Any = torch.backends  # whose types lack `mkldnn.matmul`
# By device: the switch of its products, and the quickest arithmetic that still has float32 sums.
_QUICKER = {"cpu": (_BACKENDS.mkldnn.matmul, "bf16"), "cuda": (_BACKENDS.cuda.matmul, "tf32")}


@contextlib.contextmanager
def float32_products(device: torch.device) -> Iterator[None]:
    """Autocast is off inside; where it was on, products may round their factors, and never their sums.

    A run in bf16 or fp16 leaves the choice to the device: TF32 on a GPU (factors of 11 bits), on a CPU what oneDNN
    takes for float32 with bf16 inside, which is bf16 where there are tiles for it (AMX, 8 bits) and plain float32
    elsewhere, in 0.4 of the time of MKL's product on an AMD Zen. Cosines of vectors of length one are off by 2e-3
    at most then. A run in float32 has float32 throughout. For products of matrices alone: under this switch oneDNN's
    `dot` and products with a vector take several times as long.

    >>> with float32_products(torch.device("cpu")):
    ...     (torch.ones(2, 3) @ torch.ones(3, 2)).dtype
    torch.float32
    """
    rounds = torch.is_autocast_enabled(device.type) and device.type in _QUICKER
    with torch.autocast(device.type, enabled=False):
        if not rounds:
            yield
            return
        switch, quicker = _QUICKER[device.type]
        before = switch.fp32_precision
        switch.fp32_precision = quicker
        try:
            yield
        finally:
            switch.fp32_precision = before
