"""The filter bank of a graph beside the engine: the same numbers at every length, in quiet cells too."""

import pytest
import torch
from audiossl.transforms import build_frontend

from audiossl.export.filter_bank import GraphFilterBank, sampled
from audiossl.export.graph import sample_waves

SMALL = {"n_bins": 12, "hop_length": 100, "sample_rate": 8000}
SETTINGS = {
    "cqt": {**SMALL, "f_min": 110.0, "f_max": 3500.0},
    "vqt": {**SMALL, "f_min": 110.0, "f_max": 3500.0, "power": 1.0, "floor": 3e-5},
    "cwt": {**SMALL, "f_min": 110.0, "f_max": 3900.0},
    "gammatone": {**SMALL, "f_min": 110.0, "f_max": 3900.0},
}


@pytest.fixture(scope="module", params=SETTINGS)
def both(request):
    frontend = build_frontend(request.param, **SETTINGS[request.param])
    return frontend, GraphFilterBank(frontend)


@pytest.mark.parametrize("n_samples", [1, 99, 100, 777, 2_500, 8_000, 13_333, 30_000])
def test_pictures_are_those_of_the_engine(both, n_samples):
    frontend, bank = both
    waves = sample_waves(8000, n_samples, 3)
    expected, found = frontend(waves), frontend.compress(bank(waves))
    assert found.shape == expected.shape
    # A cut of the responses that differs by a bin shows as 0.1 and more in the logarithm of quiet cells.
    assert (found - expected).abs().max() < 0.02
    assert (found - expected).abs().mean() < 2e-4


def test_a_batch_gives_what_single_clips_give(both):
    _, bank = both
    waves = sample_waves(8000, 4_000, 3)
    torch.testing.assert_close(bank(waves), torch.cat([bank(wave[None]) for wave in waves]), rtol=1e-4, atol=1e-9)


def test_the_tables_stand_in_no_state_dict(both):
    assert not both[1].state_dict()


def test_samples_of_a_response_are_as_many_as_interpolation_needs():
    def wave(delay):
        return lambda frequency: torch.polar(torch.ones_like(frequency), 2 * torch.pi * delay * frequency)

    rates = [sampled(wave(delay), 0.0, 0.5, 2**20)[2] for delay in (1, 10, 100)]
    assert rates == sorted(set(rates))
    samples, begin, rate = sampled(wave(10), 0.1, 0.2, 2**20)
    assert begin / rate < 0.1
    assert (begin + len(samples) - 1) / rate > 0.2
    assert sampled(wave(1000), 0.0, 0.5, 512)[2] == 512  # never finer than asked for
