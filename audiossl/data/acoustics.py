"""Rooms, microphones and noise for synthetic speech: random, seeded, and cheap (one FFT there, one back)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Clips of one second at 16 kHz; the FFT leaves half a second for the echo, which is cut off after the second.
SAMPLE_RATE = 16000
N_SAMPLES = 16000
N_FFT = 24000


@dataclass(frozen=True)
class Place:
    """Where a speaker speaks: the transfer function (N_FFT // 2 + 1,) of a small room and a microphone, and its noise.

    The noise falls with frequency to the power of `noise_slope`: 0 is white, 1 pink, 2 brown.
    """

    transfer: np.ndarray
    noise_slope: float = 1.0

    @classmethod
    def draw(cls, random: np.random.Generator) -> Place:
        """A random place."""
        return cls(np.fft.rfft(_room(random), N_FFT) * _microphone(random), random.uniform(0, 2))

    def record(self, spoken: np.ndarray, start: int, snr_db: float, random: np.random.Generator) -> np.ndarray:
        """The sound of `spoken` (S,), from sample `start` on, with noise: float64 (16000,), peak 1.

        `snr_db` compares the power of the word, while it lasts, with that of the noise.
        """
        dry = np.zeros(N_FFT)
        dry[start : start + len(spoken)] = spoken
        wet = np.fft.rfft(dry) * self.transfer
        noise = _noise(self.noise_slope, random)
        # Mean squares by Parseval's theorem; the word's is over its own length.
        word_power = _energy(wet) / max(1, len(spoken))
        noise_power = _energy(noise) / N_FFT
        noise *= np.sqrt(word_power / noise_power) * 10 ** (-snr_db / 20)
        heard = np.fft.irfft(wet + noise, N_FFT)[:N_SAMPLES]
        return heard / np.abs(heard).max()


def _room(random: np.random.Generator) -> np.ndarray:
    """Direct sound and a tail of noise that falls by 60 dB in 0.1 to 0.3 s, 12 to 24 dB below it."""
    t60_s = random.uniform(0.1, 0.3)
    time_s = np.arange(round(t60_s * SAMPLE_RATE)) / SAMPLE_RATE
    response = random.standard_normal(len(time_s)) * 10 ** (-3 * time_s / t60_s)
    response *= 10 ** (-random.uniform(12, 24) / 20) / np.sqrt(np.sum(response**2))
    response[0] += 1.0
    return response


def _microphone(random: np.random.Generator) -> np.ndarray:
    """A smooth frequency response: gains within 3 dB at 125 Hz, 250 Hz and so on to 8 kHz."""
    points_hz = 125.0 * 2.0 ** np.arange(7)
    gains_db = random.uniform(-3, 3, len(points_hz))
    bins_hz = np.maximum(np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE), 1.0)
    return 10 ** (np.interp(np.log2(bins_hz), np.log2(points_hz), gains_db) / 20)


def _noise(slope: float, random: np.random.Generator) -> np.ndarray:
    """The spectrum of noise whose power falls as frequency to the power of `slope`; nothing below 20 Hz."""
    bins_hz = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)
    size = np.where(bins_hz >= 20, np.maximum(bins_hz, 20) ** (-slope / 2), 0.0)
    return size * (random.standard_normal(len(size)) + 1j * random.standard_normal(len(size)))


def _energy(spectrum: np.ndarray) -> float:
    """Sum of squares of the real signal with this spectrum (its ends, 0 Hz and Nyquist, count once)."""
    power = np.abs(spectrum) ** 2
    return float((2 * power.sum() - power[0] - power[-1]) / N_FFT)
