"""Reverb: the convolution against its sum, rooms against their decay."""

import pytest
import torch
from audiossl.transforms import WaveAugmentConfig
from audiossl.transforms.draws import Draws
from audiossl.transforms.wave_reverb import Reverb, aligned, convolve, synthetic_impulse

from audiossl.errors import UserError


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "length"), [(64, 20), (50, 50), (20, 64), (1, 3)])
def test_convolution_equals_its_sum(size, length):
    wave, impulse = torch.randn(3, size), torch.randn(3, length)
    expected = torch.zeros(3, size)
    for b in range(3):
        for s in range(size):
            for r in range(min(length, s + 1)):
                expected[b, s] += impulse[b, r] * wave[b, s - r]
    torch.testing.assert_close(convolve(wave, impulse), expected, atol=1e-5, rtol=1e-5)


def test_a_single_impulse_changes_nothing():
    wave = torch.randn(2, 1000)
    impulse = torch.zeros(2, 300)
    impulse[:, 0] = 1.0
    torch.testing.assert_close(convolve(wave, impulse), wave, atol=2e-6, rtol=0)


def test_a_synthetic_room_falls_by_60_db_in_its_time_and_has_the_asked_energy():
    decay_s, direct_db = torch.tensor([0.2, 0.5]), torch.tensor([0.0, 6.0])
    noise = torch.where(torch.randn(2, 16000) > 0, 1.0, -1.0)  # of constant size, so that the decay shows exactly
    room = synthetic_impulse(noise, decay_s, direct_db, 16000)
    assert room[:, 0].tolist() == [1.0, 1.0]
    torch.testing.assert_close(-10 * room[:, 1:].square().sum(1).log10(), direct_db, atol=1e-3, rtol=0)
    for b, seconds in enumerate(decay_s.tolist()):
        fall = 20 * torch.log10((room[b, 1] / room[b, 1 + round(seconds * 16000)]).abs())
        assert fall == pytest.approx(60.0, abs=0.01)


def test_measured_rooms_begin_with_their_peak():
    impulses = torch.tensor([[0.1, -0.5, 0.25, 0.0], [2.0, 1.0, 0.0, 1.0]])
    torch.testing.assert_close(aligned(impulses), torch.tensor([[1.0, -0.5, 0.0, 0.0], [1.0, 0.5, 0.0, 0.5]]))


@pytest.mark.parametrize("measured", [False, True])
def test_the_module_equals_a_loop_over_clips_at_the_same_draws(measured):
    wave = torch.randn(5, 200)
    impulses = torch.randint(-9000, 9000, (3, 40), dtype=torch.int16) if measured else None
    reverb = Reverb(0.7, 1000, (0.02, 0.1), (0.0, 12.0), impulses)
    out = reverb(wave, draws(6))
    d = draws(6)
    coins = d.uniform(5)
    if measured:
        rooms = aligned(impulses)[d.integers(5, below=3)]
    else:
        d.integers(5, below=1)
        start = d.integers(5, below=reverb.bank.shape[1]).tolist()
        decay_s, direct_db = d.log_uniform(5, 0.02, 0.1), d.uniform(5, low=0.0, high=12.0)
        noise = torch.stack([reverb.bank[0].roll(-first)[:100] for first in start])
        rooms = synthetic_impulse(noise, decay_s, direct_db, 1000)
    for b in range(5):
        full = torch.nn.functional.conv1d(
            wave[b].view(1, 1, -1), rooms[b].flip(0).view(1, 1, -1), padding=len(rooms[b])
        )
        expected = full[0, 0, 1:201] if coins[b] < 0.7 else wave[b]
        torch.testing.assert_close(out[b], expected, atol=1e-5, rtol=1e-4)


def test_a_room_is_drawn_from_the_ranges_of_the_flags_unless_told():
    room, flags = Reverb(1.0, 16000), WaveAugmentConfig()
    assert (list(room.decay_s), list(room.direct_db)) == (flags.reverb_s, flags.reverb_direct_db)


def test_silence_stays_silent():
    assert Reverb(1.0, 8000)(torch.zeros(2, 100), draws()).abs().max() == 0


def test_a_silent_impulse_response_is_refused():
    with pytest.raises(UserError, match=r"--wave\.reverb_folder .* without a sound"):
        Reverb(0.5, 8000, impulses=torch.zeros(1, 10))
