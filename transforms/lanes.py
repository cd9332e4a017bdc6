"""Numbers side by side: LLVM's vector instructions, written as arithmetic, for functions that Numba compiles.

Numba keeps what it compiled until the file of the compiled function changes: after a change here, delete
`transforms/__pycache__`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

WIDTH = 16  # numbers at a time, by one, two or four instructions: 64 bytes, a line of the cache
FLOATS, INTEGERS = ir.VectorType(ir.FloatType(), WIDTH), ir.VectorType(ir.IntType(32), WIDTH)
LEAST, INFINITY, LN_2 = float(np.finfo(np.float32).tiny), float("inf"), float(np.log(2.0))
ROOT_HALF = 0x3F3504F3  # the bits of sqrt(1/2)
MANTISSA = 0x007FFFFF


class Lanes:
    """Numbers side by side: LLVM's instructions on them, written as arithmetic."""

    def __init__(self, builder: Any, values: Any):
        self.builder, self.values = builder, values

    @classmethod
    def loaded(cls, builder: Any, place: Any, n: int = WIDTH) -> Lanes:
        """N numbers from an address on."""
        values = builder.load(builder.bitcast(place, ir.VectorType(ir.FloatType(), n).as_pointer()))
        values.align = 4
        return cls(builder, values)

    @classmethod
    def filled(cls, builder: Any, number: Any) -> Lanes:
        """`WIDTH` times the same number."""
        one = cls(builder, builder.insert_element(FLOATS(ir.Undefined), number, ir.IntType(32)(0)))
        return one.shuffled(one, [0] * WIDTH)

    def store(self, place: Any) -> None:
        """Write the numbers from an address on."""
        self.builder.store(self.values, self.builder.bitcast(place, self.values.type.as_pointer())).align = 4

    def shuffled(self, other: Lanes, order: Sequence[int]) -> Lanes:
        """Numbers of this and another, as if that came behind, in this order."""
        order = ir.VectorType(ir.IntType(32), len(order))(list(order))
        return self._of(self.builder.shuffle_vector(self.values, other.values, order))

    def and_behind(self, other: Lanes) -> Lanes:
        """All numbers of this, then all of another."""
        return self.shuffled(other, range(2 * self.values.type.count))

    def _of(self, values: Any) -> Lanes:
        return Lanes(self.builder, values)

    def _by(self, name: str, other: Lanes | float) -> Lanes:
        """One instruction on this and another, or on this and the same number everywhere."""
        values = other.values if isinstance(other, Lanes) else self.values.type([other] * WIDTH)
        if self.values.type == FLOATS:  # a product and a sum may become one instruction
            return self._of(getattr(self.builder, f"f{name}")(self.values, values, flags=["contract"]))
        return self._of(getattr(self.builder, name)(self.values, values))

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._by("add", other)

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._by("sub", other)

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._by("mul", other)

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._by("div", other)

    def __and__(self, other: int) -> Lanes:
        return self._by("and_", other)

    def __rshift__(self, other: int) -> Lanes:
        return self._by("ashr", other)

    def replaced_below(self, limit: float, other: Lanes | float) -> Lanes:
        """Others in place of those below a limit; what is no number stays."""
        limits = FLOATS([limit] * WIDTH)
        others = other.values if isinstance(other, Lanes) else FLOATS([other] * WIDTH)
        below = self.builder.fcmp_ordered("<", self.values, limits)
        return self._of(self.builder.select(below, others, self.values))

    def floats(self) -> Lanes:
        """Integers as floats of the same worth."""
        return self._of(self.builder.sitofp(self.values, FLOATS))

    def bits(self) -> Lanes:
        """What floats are made of, as integers."""
        return self._of(self.builder.bitcast(self.values, INTEGERS))

    def of_bits(self) -> Lanes:
        """The floats that integers are the bits of."""
        return self._of(self.builder.bitcast(self.values, FLOATS))


def ln(x: Lanes) -> Lanes:
    """Natural logarithm: 2^k (1 + f) by k ln 2 + 2 artanh(f / (2 + f)), 1 + f from sqrt(1/2) to sqrt(2).

    Numbers below the least normal one count as that one; infinity and NaN stay what they are.
    """
    bits = x.replaced_below(LEAST, LEAST).bits() - ROOT_HALF
    exponent = (bits >> 23).floats()
    f = ((bits & MANTISSA) + ROOT_HALF).of_bits() - 1.0
    s = f / (f + 2.0)
    z = s * s
    # 2 artanh(s) = 2 s + z s r(z), and 2 s = f - f s. The series of r begins 2/3 + 2/5 z + 2/7 z^2; these have the
    # least largest error of z r(z) up to (sqrt(2) - 1)^2 / (sqrt(2) + 1)^2, 2e-9.
    r = (z * 0.2987172739 + 0.3997754159) * z + 0.6666677638
    return x.replaced_below(INFINITY, exponent * LN_2 + (f - s * (f - z * r)))
