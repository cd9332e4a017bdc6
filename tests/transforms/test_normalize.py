"""Statistics of the training clips: right, independent of order and batches, refused for silence."""

from __future__ import annotations

import pytest
import torch
from audiossl.transforms import MelConfig, Normalize, build_frontend

from audiossl.errors import UserError

FRONT_END = build_frontend(MelConfig(n_fft=256, win_length=256, n_bins=20))
WAVES = 0.1 * torch.randn(24, 3000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 0, 24)[:, None]


@pytest.mark.parametrize("per_bin", [False, True])
def test_measured_picture_has_mean_0_and_deviation_1(per_bin):
    normalize = Normalize.measure(FRONT_END, WAVES.split(5), per_bin)
    assert normalize.mean.shape == ((1, 20) if per_bin else (1, 1))
    image = normalize(FRONT_END(WAVES)).double()
    dims = (0, 1, 3) if per_bin else (0, 1, 2, 3)
    assert image.mean(dims).abs().max() < 1e-5
    assert (image.std(dims, correction=0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("per_bin", [False, True])
def test_order_and_batches_do_not_show(per_bin):
    first = Normalize.measure(FRONT_END, WAVES.split(24), per_bin)
    again = Normalize.measure(FRONT_END, WAVES.split(24), per_bin)
    other = Normalize.measure(FRONT_END, WAVES.flip(0).split(7), per_bin)
    assert torch.equal(first.mean, again.mean)
    assert torch.equal(first.std, again.std)
    assert torch.allclose(first.mean, other.mean, atol=1e-6, rtol=1e-6)
    assert torch.allclose(first.std, other.std, atol=1e-6, rtol=1e-6)


def test_int16_waves_give_the_same():
    whole = (WAVES * 32768).round().clamp(-32768, 32767).to(torch.int16)
    from_int16 = Normalize.measure(FRONT_END, [whole])
    from_float = Normalize.measure(FRONT_END, [whole.float() / 32768])
    assert torch.equal(from_int16.mean, from_float.mean)


def test_statistics_travel_in_the_state_dict_and_make_no_gradient():
    normalize = Normalize.measure(FRONT_END, [WAVES])
    assert sorted(normalize.state_dict()) == ["mean", "std"]
    assert not list(normalize.parameters())
    assert not normalize.mean.requires_grad


def test_silence_and_nothing_are_refused():
    with pytest.raises(UserError, match="silence"):
        Normalize.measure(FRONT_END, [torch.zeros(2, 3000)])
    with pytest.raises(UserError, match="no clips"):
        Normalize.measure(FRONT_END, [])
    with pytest.raises(UserError, match="unusable"):
        Normalize(0.0, 0.0)
    with pytest.raises(UserError, match="wave 0 of the batch holds NaN"):
        Normalize.measure(FRONT_END, [torch.full((1, 3000), float("nan"))])
