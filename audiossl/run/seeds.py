"""Random streams of a run: one seed, and a stream of its own for every purpose, place and process."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch


def mixed_seed(*parts: int | str) -> int:
    """A seed below 2**63 from several numbers or names; equal parts give equal seeds on every machine.

    >>> mixed_seed(0, "views", 3) == mixed_seed(0, "views", 3), mixed_seed(0, 1) == mixed_seed(1, 0)
    (True, False)
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_all(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (other packages draw from the global generator)
    torch.manual_seed(seed)


def step_generator(seed: int, epoch: int, position: int, rank: int) -> torch.Generator:
    """CPU generator for the views of one micro-batch.

    It follows from its place alone, so that a resumed run draws the same and every rank draws its own.
    """
    return torch.Generator("cpu").manual_seed(mixed_seed("views", seed, epoch, position, rank))


def rng_state() -> dict[str, Any]:
    """States of this process's global generators, as tensors and plain values (for `weights_only` files)."""
    version, python, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(python), gauss],
        "numpy": [torch.from_numpy(numpy[1].astype(np.int64)), int(numpy[2]), int(numpy[3]), float(numpy[4])],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(state: dict[str, Any]) -> None:
    """Put back what `rng_state` gave; CUDA's states are left out where the number of devices differs."""
    version, python, gauss = state["python"]
    random.setstate((version, tuple(python), gauss))
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
