"""The filter-bank engine: equal to dense convolution at every hop, whatever the length, the hop and the filters."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from audiossl.transforms.filter_bank import CACHED_TABLES, FilterBank, fast_length
from torch import Tensor

CENTRES = torch.tensor([0.01, 0.02, 0.05, 0.13, 0.3, 0.47], dtype=torch.float64)[:, None]
WIDTHS = (CENTRES / 6).clamp(max=0.035)  # so narrow that nothing reaches once around the circle
REACH = 500  # five standard deviations of the longest filter: 6 / (2 pi 0.01) = 95 samples


def gaussians(rows: slice, frequency: Tensor) -> Tensor:
    return 2 * torch.exp(-0.5 * ((frequency - CENTRES[rows]) / WIDTHS[rows]) ** 2)


def delayed(rows: slice, frequency: Tensor) -> Tensor:
    """The same filters 200 samples late: a complex response."""
    return gaussians(rows, frequency) * torch.polar(torch.ones_like(frequency), -2 * math.pi * 200 * frequency)


def in_time(wave: Tensor, delay: int = 0) -> Tensor:
    """Full outputs (B, K, S + 1) in float64 by convolution with the sampled impulse responses, plainly."""
    n = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
    envelope = 2 * math.sqrt(2 * math.pi) * WIDTHS * torch.exp(-0.5 * (2 * math.pi * WIDTHS * n) ** 2)
    filters = envelope * torch.polar(torch.ones_like(n), 2 * math.pi * CENTRES * n)
    padded = torch.nn.functional.pad(wave.double(), (REACH + delay, REACH + 1 - delay)).to(torch.complex128)
    return torch.nn.functional.conv1d(padded[:, None], filters.flip(-1)[:, None])


def relative(x: Tensor, reference: Tensor) -> float:
    return float((x - reference).norm() / reference.norm())


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def bank_of(hop_length: int = 50, response=gaussians, reach: int = REACH, **settings) -> FilterBank:
    return FilterBank(response, len(CENTRES), reach, hop_length, **settings)


@pytest.mark.parametrize("n_samples", [1, 2, 99, 1000, 4001])
@pytest.mark.parametrize("hop_length", [1, 3, 50, 167, 5000])
def test_every_hop_th_sample_of_the_full_output(n_samples, hop_length):
    wave = noise(2, n_samples, dtype=torch.float64)
    output = bank_of(hop_length, tolerance=1e-6)(wave)
    full = in_time(wave)[..., ::hop_length][..., : 1 + n_samples // hop_length]
    assert output.shape == full.shape == (2, 6, 1 + n_samples // hop_length)
    assert relative(output, full) < 1e-5


@pytest.mark.parametrize(("tolerance", "bar"), [(1e-2, 1e-2), (1e-3, 1e-3), (1e-4, 1e-4), (1e-6, 2e-6)])
def test_the_tolerance_is_the_error(tolerance, bar):
    wave = noise(2, 4000)
    full = in_time(wave)[..., ::50]
    assert relative(bank_of(tolerance=tolerance)(wave), full) < bar


def test_complex_responses_delay():
    wave = noise(1, 3000)
    bank = bank_of(response=delayed, reach=REACH + 200)
    assert relative(bank(wave), in_time(wave, delay=200)[..., ::50]) < 1e-3


def test_nothing_wraps_around_from_the_end_to_the_beginning():
    wave = torch.zeros(1, 1000)
    wave[0, -1] = 1.0
    output = bank_of()(wave)
    assert output[..., 0].abs().max() < 1e-3 * output.abs().max()


def test_linear_and_shifted_by_whole_hops():
    a, b = noise(2, 2000, dtype=torch.float64)
    bank = bank_of()
    both = bank(torch.stack([a, b, 2 * a - 3 * b]))
    assert torch.allclose(both[2], 2 * both[0] - 3 * both[1], atol=1e-12)
    short = torch.cat([torch.zeros(500, dtype=torch.float64), a[:1000], torch.zeros(500, dtype=torch.float64)])
    late = torch.cat([torch.zeros(600, dtype=torch.float64), a[:1000], torch.zeros(400, dtype=torch.float64)])
    moved = bank(torch.stack([short, late]))
    assert torch.allclose(moved[0, :, :-2], moved[1, :, 2:], atol=1e-12)


def test_an_impulse_gives_the_impulse_responses():
    wave = torch.zeros(1, 1001, dtype=torch.float64)
    wave[0, 500] = 1.0
    output = bank_of(hop_length=1, tolerance=1e-7)(wave)
    assert output[0].abs().argmax(dim=1).tolist() == [500] * 6
    assert relative(output, in_time(wave)) < 1e-5


def test_silence_is_silent():
    assert bank_of()(torch.zeros(2, 300)).abs().max() == 0


def test_gradients_in_float64_and_of_the_squared_size_at_zero():
    wave = noise(2, 130, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(bank_of(hop_length=40), (wave,))
    silence = torch.zeros(1, 400, requires_grad=True)
    output = bank_of()(silence)
    (output.real.square() + output.imag.square()).sum().backward()
    assert silence.grad.abs().max() == 0


@pytest.mark.filterwarnings("ignore")
def test_compiles_whole_for_each_length():
    bank, compiled = bank_of(), torch.compile(bank_of(), fullgraph=True, backend="aot_eager")
    for n_samples in (1000, 1500):
        wave = noise(2, n_samples)
        assert relative(compiled(wave), bank(wave)) < 1e-6


def test_tables_are_shared_between_near_lengths_bounded_and_no_state():
    bank = bank_of()
    for n_samples in range(1000, 1100):
        bank(torch.zeros(1, n_samples))
    assert len(bank.tables) <= 2
    for n_samples in range(1, 12001, 1000):
        bank(torch.zeros(1, n_samples))
    assert len(bank.tables) == CACHED_TABLES
    assert not bank.state_dict()


def test_a_table_made_for_inference_serves_training_and_travels():
    bank, wave = bank_of(), noise(1, 900)
    with torch.inference_mode():
        before = bank(wave)
    for twin in (bank, copy.deepcopy(bank), pickle.loads(pickle.dumps(bank))):
        moving = wave.clone().requires_grad_()
        twin(moving).abs().sum().backward()
        assert moving.grad.abs().sum() > 0
        assert torch.equal(twin(wave), before)


def test_temporary_bytes_cover_what_a_clip_holds():
    bank = bank_of()
    wave = noise(1, 20000)
    largest = max(group.weights.numel() for group in bank.table(20000, wave.device, wave.dtype).groups)
    assert bank.temporary_bytes(20000) > 8 * (20000 // 2 + 2 * largest + bank(wave).numel())
    assert bank.temporary_bytes(40000) > 1.5 * bank.temporary_bytes(20000)


def test_fast_lengths_are_few_and_never_short():
    lengths = [fast_length(n) for n in range(1, 5000)]
    assert all(length >= n for n, length in enumerate(lengths, start=1))
    assert all(length <= 1.26 * n for n, length in enumerate(lengths, start=1))
    assert len(set(lengths)) < 60
