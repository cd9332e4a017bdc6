"""Do the weights of another run fit a method? Checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from audiossl.errors import UserError


def misfits(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """Names that only one of two states has, or that have other shapes in them.

    >>> import torch
    >>> misfits({"a": torch.zeros(2), "b": torch.zeros(2)}, {"a": torch.zeros(3), "c": torch.zeros(1)})
    ['b', 'c', 'a']
    """
    alone = [name for name in {**own, **other} if name not in own or name not in other]
    return alone + [name for name in own if name in other and own[name].shape != other[name].shape]


def check_state(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Raise UserError, naming what does not fit, unless two states have the same names and shapes."""
    found = misfits(own, other)
    if found:
        raise UserError(
            f"--run.start_from: {len(found)} tensors of that run do not fit ({', '.join(found[:3])}"
            f"{' ...' if len(found) > 3 else ''}): give both runs the same backbone and heads."
        )
