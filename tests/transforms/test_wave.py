"""Level, polarity and place in time of waveforms against loops over clips and samples."""

import pytest
import torch
from audiossl.transforms.draws import Draws
from audiossl.transforms.wave import Gain, Polarity, Shift, fast_length, gain, in_pieces, polarity, shift


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


def test_gain_is_exact_in_decibels():
    wave = torch.randn(3, 1000, dtype=torch.float64)
    gain_db = torch.tensor([-6.0, 0.0, 13.5], dtype=torch.float64)
    measured = 10 * torch.log10(gain(wave, gain_db).square().mean(1) / wave.square().mean(1))
    torch.testing.assert_close(measured, gain_db, atol=1e-9, rtol=0)


def test_polarity_twice_is_the_wave_itself():
    wave, turned = torch.randn(4, 10), torch.tensor([True, False, True, False])
    once = polarity(wave, turned)
    assert once[0].equal(-wave[0])
    assert once[1].equal(wave[1])
    assert polarity(once, turned).equal(wave)


@pytest.mark.parametrize("wraps", [False, True])
def test_a_shift_moves_by_whole_samples(wraps):
    wave, n_samples = torch.randn(5, 7), torch.tensor([0, 2, -3, 7, -9])
    out = shift(wave, n_samples, wraps)
    for b, n in enumerate(n_samples.tolist()):
        for s in range(7):
            source = s - n
            expected = wave[b, source % 7] if wraps or 0 <= source < 7 else 0.0
            assert out[b, s] == expected


def test_modules_equal_a_loop_over_clips_at_the_same_draws():
    wave = torch.randn(6, 50)
    gain_db, coins = draws(1).uniform(6, low=-9.0, high=9.0), draws(2).uniform(6)
    seconds = draws(3).uniform(6, low=-0.2 * 100, high=0.2 * 100)
    loud, turned, moved = (
        module(wave, draws(seed)) for seed, module in enumerate([Gain(9.0), Polarity(0.4), Shift(0.2, 100)], 1)
    )
    for b in range(6):
        torch.testing.assert_close(loud[b], wave[b] * 10 ** (gain_db[b].item() / 20))
        assert turned[b].equal(-wave[b] if coins[b] < 0.4 else wave[b])
        n = round(seconds[b].item())
        expected = torch.cat(
            [wave.new_zeros(max(n, 0)), wave[b, max(-n, 0) : 50 - max(n, 0)], wave.new_zeros(-min(n, 0))]
        )
        assert moved[b].equal(expected)


def test_pieces_of_a_batch_give_what_the_batch_gives():
    wave, numbers = torch.randn(7, 100_000), torch.randn(7)
    calls = []

    def change(part, values):
        calls.append(len(part))
        return part * values[:, None]

    assert in_pieces(change, wave, numbers).equal(wave * numbers[:, None])
    assert calls == [2, 2, 2, 1]


def test_fast_lengths_are_the_smallest_products_of_small_primes():
    def smooth(n):
        for prime in (2, 3, 5):
            while n % prime == 0:
                n //= prime
        return n == 1

    for least in [*range(1, 200), 15999, 17600, 25599]:
        expected = next(n for n in range(least, 2 * least + 1) if smooth(n))
        assert fast_length(least) == expected
