"""Noise at a given signal-to-noise ratio: its level, its colour, its excerpts."""

import pytest
import torch
from audiossl.transforms.draws import Draws
from audiossl.transforms.wave_noise import Noise, add_noise, coloured_noise, excerpts

from audiossl.errors import UserError


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


def snr_db(wave, noisy):
    return 10 * torch.log10(wave.square().mean(1) / (noisy - wave).square().mean(1))


def test_measured_snr_is_the_asked_one():
    wave, noise = 0.1 * torch.randn(4, 8000), 3.0 * torch.randn(4, 8000)
    asked = torch.tensor([-10.0, 0.0, 12.3, 40.0])
    torch.testing.assert_close(snr_db(wave, add_noise(wave, noise, asked)), asked, atol=0.05, rtol=0)


@pytest.mark.parametrize("colour", ["white", "pink"])
def test_the_module_keeps_its_range(colour):
    wave = torch.randn(32, 4000)
    measured = snr_db(wave, Noise(1.0, (3.0, 9.0), colour)(wave, draws()))
    assert measured.min() > 2.9
    assert measured.max() < 9.1
    assert measured.max() - measured.min() > 4.0


def test_the_module_equals_a_loop_over_clips_at_the_same_draws():
    wave, bank = torch.randn(8, 300), torch.randint(-3000, 3000, (3, 700), dtype=torch.int16)
    out = Noise(0.6, (0.0, 20.0), "folder", bank)(wave, draws(4))
    d = draws(4)
    asked, coins = d.uniform(8, high=20.0), d.uniform(8)
    row, start = d.integers(8, below=3), d.integers(8, below=700)
    for b in range(8):
        if coins[b] >= 0.6:
            assert out[b].equal(wave[b])
            continue
        noise = torch.stack([bank[row[b], (start[b] + s) % 700] for s in range(300)]).double() / 32768
        power = wave[b].double().square().mean() / 10 ** (asked[b].item() / 10)
        expected = wave[b] + noise * (power / noise.square().mean()).sqrt()
        torch.testing.assert_close(out[b].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("octave_db", [0.0, -3.0103, 6.0])
def test_colour_is_the_slope_of_the_spectrum(octave_db):
    power = torch.fft.rfft(coloured_noise(2**16, octave_db)).abs().square()
    octaves = torch.stack([power[2**k : 2 ** (k + 1)].mean().log10() * 10 for k in range(6, 14)])
    slope = (octaves[-1] - octaves[0]) / 7
    assert abs(slope - octave_db) < 0.3
    assert coloured_noise(1000, octave_db).square().mean() == pytest.approx(1.0, abs=1e-5)


def test_an_excerpt_begins_anew_at_the_end_of_its_row():
    bank = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert excerpts(bank, torch.tensor([1]), torch.tensor([2]), 5).tolist() == [[6.0, 4.0, 5.0, 6.0, 4.0]]


def test_silence_and_silent_noise_stay_finite_and_infinite_snr_changes_nothing():
    wave, asked = torch.randn(2, 100), torch.tensor([0.0, torch.inf])
    assert add_noise(torch.zeros(2, 100), wave, asked).abs().max() == 0
    assert add_noise(wave, torch.zeros(2, 100), asked).equal(wave)
    assert add_noise(wave, wave.flip(1), asked)[1].equal(wave[1])


def test_noise_from_a_folder_needs_recordings():
    with pytest.raises(UserError, match=r"noise_colour folder .*--wave\.noise_folder"):
        Noise(0.5, colour="folder")


def test_banks_are_not_in_checkpoints():
    assert not Noise(0.5).state_dict()
