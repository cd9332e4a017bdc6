"""Compression: the formulas written out, and finite in silence."""

from __future__ import annotations

import math

import pytest
import torch
from audiossl.transforms import Compress, MelConfig
from audiossl.transforms.compress import CompressComplex, build_compress

from audiossl.errors import UserError

X = [0.0, 1e-9, 1e-6, 0.5, 1.0, 300.0]


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("floor", [1e-6, 1e-10])
def test_formulas(power, floor):
    x = torch.tensor(X, dtype=torch.float64)
    log = Compress("log", floor, power)(x)
    db = Compress("db", floor, power)(x)
    for i, value in enumerate(X):
        assert float(log[i]) == pytest.approx(math.log(value + floor), abs=1e-9)
        assert float(db[i]) == pytest.approx((10 if power == 2.0 else 20) * math.log10(value + floor), abs=1e-9)
    assert Compress("none")(x) is x


@pytest.mark.parametrize("kind", ["log", "db", "none"])
def test_rises_everywhere_and_has_a_finite_slope_at_zero(kind):
    x = torch.tensor(X, requires_grad=True)
    y = Compress(kind)(x)
    assert (y.diff() > 0).all()
    y.sum().backward()
    assert x.grad.isfinite().all()


def test_a_cell_depends_on_nothing_but_itself():
    loud, quiet = torch.tensor([1e3]), torch.tensor([1e-3])
    together = Compress("db")(torch.stack([loud, quiet]))
    assert torch.equal(together[1], Compress("db")(quiet))


@pytest.mark.parametrize(("kind", "floor"), [("root", 1e-6), ("log", 0.0), ("db", -1.0), ("log", math.nan)])
def test_wrong_settings(kind, floor):
    with pytest.raises(UserError):
        Compress(kind, floor)


def test_unknown_names_are_answered_with_all_that_a_front_end_has():
    with pytest.raises(UserError, match="compress='root' is unknown: choose one of log, db, pcen, none"):
        build_compress(MelConfig(compress="root"))
    for kind in ("log", "db", "pcen"):
        with pytest.raises(UserError, match="floor=0"):
            build_compress(MelConfig(compress=kind, floor=0.0))


def test_complex_cells_keep_their_phase():
    z = torch.tensor([[3e-4, 0.0, -2.0, 0.0], [4e-4, 0.0, 0.0, 1e-9]], dtype=torch.float64).view(1, 2, 4, 1)
    size = torch.tensor([5e-4, 0.0, 2.0, 1e-9], dtype=torch.float64)
    for kind, scale in (("log", 1.0), ("db", 10 / math.log(10))):
        out = CompressComplex(kind, 1e-6)(z)[0, :, :, 0]
        height = scale * (1 + size.square() / 1e-6).log()
        assert torch.allclose(out.square().sum(0).sqrt(), height, atol=1e-9)
        assert torch.allclose(out[:, 0], height[0] * torch.tensor([0.6, 0.8], dtype=torch.float64))
        assert out[0, 2] < 0
    assert CompressComplex("none")(z) is z
    assert torch.autograd.gradcheck(CompressComplex("log", 1e-2), (z + 0.1).requires_grad_())
