"""Eval mode for the length of a look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode while the context lasts; then every part has its own mode again.

    >>> part = nn.Dropout()
    >>> with evaluating(part): part.training
    False
    >>> part.training
    True
    """
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode
