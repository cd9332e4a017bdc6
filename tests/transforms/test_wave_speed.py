"""Speed and pitch against tones in closed form."""

import math

import pytest
import torch
from audiossl.transforms.draws import Draws
from audiossl.transforms.wave_speed import Pitch, Speed, pitch, resample, speed, stretch

RATE = 16000


def tone(hz, size=16000, start=0.0, step=1.0):
    place = start + step * torch.arange(size, dtype=torch.float64)
    return torch.sin(2 * math.pi * hz / RATE * place).float()[None]


def frequency_hz(wave):
    """The peak of the spectrum, by a parabola through its logarithm."""
    middle = wave[0, len(wave[0]) // 4 : -len(wave[0]) // 4].double()
    power = torch.fft.rfft(middle * torch.hann_window(len(middle), dtype=torch.float64), 8 * len(middle)).abs().log()
    k = int(power.argmax())
    left, top, right = power[k - 1 : k + 2]
    return (k + 0.5 * (left - right) / (left - 2 * top + right)).item() * RATE / (8 * len(middle))


@pytest.mark.parametrize(("hz", "error"), [(100.0, 1e-3), (1000.0, 1e-3), (4000.0, 1e-3), (6800.0, 5.6e-3)])
@pytest.mark.parametrize("factor", [0.8, 0.93, 1.0, 1.07, 1.1])
def test_a_resampled_tone_is_the_tone_at_the_other_places(hz, error, factor):
    start = 11.25
    out = resample(tone(hz), torch.tensor([factor]), torch.tensor([start]), 12000)
    factor = torch.tensor(factor).item()
    expected = tone(hz, 12000, start, factor)
    middle = slice(1000, -1000)  # away from where the clip's beginning and end ring
    torch.testing.assert_close(out[:, middle], expected[:, middle], atol=error, rtol=0)


def test_what_would_rise_above_half_of_the_rate_is_removed():
    out = resample(tone(7000.0), torch.tensor([1.5]), torch.tensor([0.0]), 10000)
    assert out[:, 1000:-1000].abs().max() < 2e-3


def test_speed_one_is_the_wave_itself_and_noise_too():
    wave = torch.randn(2, 5001)
    torch.testing.assert_close(speed(wave, torch.ones(2)), wave, atol=1e-5, rtol=0)


def test_speed_keeps_the_middle_in_its_place():
    wave = torch.zeros(3, 2001)
    wave[:, 1000] = 1.0
    out = speed(wave, torch.tensor([0.5, 1.3, 2.0]))
    assert out.argmax(1).tolist() == [1000, 1000, 1000]
    faster = speed(torch.ones(1, 2001), torch.tensor([2.0]))
    assert (faster[0, :500] == 0).all()  # half of the time is left, and silence beside it
    assert faster[0, 600:1400].sub(1).abs().max() < 0.05


def test_long_clips_lose_no_accuracy():
    size = 320_000
    out = resample(tone(1000.0, size), torch.tensor([0.97]), torch.tensor([0.0]), size)
    expected = tone(1000.0, size, 0.0, torch.tensor(0.97).item())
    torch.testing.assert_close(out[:, 300_000:-1000], expected[:, 300_000:-1000], atol=2e-3, rtol=0)


@pytest.mark.parametrize("semitones", [-12.0, -5.0, -0.5, 0.0, 3.0, 7.0, 12.0])
@pytest.mark.parametrize("hz", [220.0, 997.0, 2500.0])
def test_a_tone_comes_out_at_its_shifted_pitch_and_level(semitones, hz):
    wave = tone(hz)
    out = pitch(wave, torch.tensor([semitones]), RATE, most=12.0)
    assert out.shape == wave.shape
    assert frequency_hz(out) == pytest.approx(hz * 2 ** (semitones / 12), rel=1e-4)
    assert out[:, 4000:-4000].square().mean() == pytest.approx(0.5, rel=0.02)


def test_a_stretched_tone_keeps_its_pitch_and_a_factor_of_one_the_wave():
    wave = torch.randn(1, 8000)
    torch.testing.assert_close(stretch(wave, torch.ones(1), 8000, 1024), wave, atol=1e-4, rtol=0)
    longer = stretch(tone(500.0), torch.tensor([1.5]), 24000, 1024)
    assert frequency_hz(longer) == pytest.approx(500.0, rel=1e-4)
    assert longer[:, 18000:22000].square().mean() == pytest.approx(0.5, rel=0.02)


def test_pitch_keeps_the_time_of_a_sound():
    wave = torch.zeros(2, 16000)
    wave[:, 9000:11000] = tone(800.0, 2000)
    out = pitch(wave, torch.tensor([4.0, -4.0]), RATE, most=4.0).square()
    middle = (out * torch.arange(16000)).sum(1) / out.sum(1)
    assert (middle - 10000).abs().max() < 320  # 20 ms


def test_modules_equal_a_loop_over_clips_at_the_same_draws():
    wave = torch.randn(20, 16000)  # more than a piece
    out = Speed(0.2)(wave, Draws(torch.Generator().manual_seed(1)))
    factor = Draws(torch.Generator().manual_seed(1)).log_uniform(20, 1 / 1.2, 1.2)
    moved = Pitch(3.0, RATE)(wave, Draws(torch.Generator().manual_seed(2)))
    semitones = Draws(torch.Generator().manual_seed(2)).uniform(20, low=-3.0, high=3.0)
    for b in range(20):
        torch.testing.assert_close(out[b : b + 1], speed(wave[b : b + 1], factor[b : b + 1]), atol=1e-4, rtol=0)
        single = pitch(wave[b : b + 1], semitones[b : b + 1], RATE, 3.0)
        torch.testing.assert_close(moved[b : b + 1], single, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 999])
def test_silence_and_very_short_clips_stay_finite(size):
    for wave in (torch.zeros(1, size), torch.ones(1, size)):
        assert speed(wave, torch.tensor([1.1])).isfinite().all()
        out = pitch(wave, torch.tensor([2.0]), RATE, 3.0)
        assert out.shape == wave.shape
        assert out.isfinite().all()
