"""What is fuzzed: valid files, how they are damaged, and the public way by which a person opens them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from .mutations import damaged

Mutate = Callable[[bytes, Random], bytes]


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Args:
        name: for people, and for the seeds.
        make: writes valid files into a folder, and returns those that are damaged, one at a time.
        open: opens the damaged file, or the folder that it is in; returns whatever, or raises.
        mutate: (valid bytes, random) -> damaged bytes.
        inputs: how many the slow test tries.
    """

    name: str
    make: Callable[[Path], Sequence[Path]]
    open: Callable[[Path], object]
    mutate: Mutate = damaged
    inputs: int = 1000
