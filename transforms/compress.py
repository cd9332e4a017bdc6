"""Compression of a power picture: what turns energies over ten decades into numbers a network can use."""

from __future__ import annotations

import math

from torch import Tensor, nn

from audiossl.errors import UserError

from .config import FrontEndConfig
from .pcen import Pcen

COMPRESSIONS = ("log", "db", "pcen", "none")


class Compress(nn.Module):
    """log(x + floor), the same in decibels, or nothing.

    The floor is added, not clipped at: value and gradient stay finite and smooth in digital silence, and a
    cell depends on nothing but itself (a reference taken from the clip or the batch would make the picture of
    one clip depend on its neighbours).

    The default floor, measured over 416 clips of Speech Commands: a quarter of the cells of the default mel
    picture lie below 1e-6, which is 55 dB under the loudest twentieth. Digital silence (padding) then lies 1.1
    standard deviations below the mean; at BYOL-A's 1.2e-7, 1.4. Without a floor the cells reach down to exp(-28),
    and differences in next to nothing would weigh as much as words.

    kind: "log" natural logarithm; "db" decibels re 1.0 (10 log10 of powers, 20 log10 of magnitudes); "none".
    power: 2.0 where x holds powers, 1.0 where it holds magnitudes; only "db" asks.
    Shape: any to the same.
    Raises UserError for an unknown kind or a floor that is not positive.

    >>> import torch
    >>> Compress("db", floor=1e-10)(torch.tensor([1.0, 0.01, 0.0])).round().tolist()
    [0.0, -20.0, -100.0]
    """

    def __init__(self, kind: str = "log", floor: float = 1e-6, power: float = 2.0):
        super().__init__()
        if kind not in ("log", "db", "none"):
            raise UserError(f"compress={kind!r} is not a compression of single cells: choose one of log, db, none.")
        if kind != "none" and not 0 < floor < math.inf:
            raise UserError(f"floor={floor} must be positive, or the logarithm of silence is infinite.")
        self.kind = kind
        self.floor = floor
        self.scale = {"log": 1.0, "db": 20.0 / (power * math.log(10.0)), "none": 1.0}[kind]

    def forward(self, x: Tensor) -> Tensor:
        """Compress x, at least 0 everywhere."""
        if self.kind == "none":
            return x
        compressed = (x + self.floor).log()
        return compressed if self.scale == 1.0 else compressed * self.scale

    def extra_repr(self) -> str:
        """Show the settings in `print(module)`."""
        return f"{self.kind}, floor={self.floor:g}"


class CompressComplex(Compress):
    """Compress the size of complex cells and keep their phase.

    A cell of power p gets the size that `Compress` gives p above silence, scale * log(1 + p / floor): 0 for silence,
    and real and imaginary part stay signed numbers of a few units. Its slope at 0 is 0.

    Shape: (B, 2, F, T), real and imaginary parts, to the same.
    Raises UserError for an unknown kind or a floor that is not positive.

    >>> import torch
    >>> z = torch.tensor([0.3, -0.4]).view(1, 2, 1, 1)
    >>> CompressComplex("db", floor=0.25e-3)(z).flatten().round().tolist()
    [18.0, -24.0]
    """

    def forward(self, x: Tensor) -> Tensor:
        """Compress the complex picture x."""
        if self.kind == "none":
            return x
        power = x.square().sum(1, keepdim=True)
        height = (power / self.floor).log1p() * self.scale
        # A millionth of the floor changes no size by more than a millionth, and keeps the root's slope finite at 0.
        return x * (height * (power + 1e-6 * self.floor).rsqrt())


def build_compress(config: FrontEndConfig) -> nn.Module:
    """The compression that a front end's configuration asks for.

    Raises UserError for an unknown name or a floor that is not positive.

    >>> from .config import MelConfig
    >>> build_compress(MelConfig(compress="db"))
    Compress(db, floor=1e-06)
    """
    if config.compress not in COMPRESSIONS:
        raise UserError(f"compress={config.compress!r} is unknown: choose one of {', '.join(COMPRESSIONS)}.")
    if config.compress == "pcen":
        return Pcen(config.sample_rate / config.hop_length, config.floor)
    # Types that have no such setting give powers.
    return Compress(config.compress, config.floor, getattr(config, "power", 2.0))
