"""Empirical modes of one clip, and their Hilbert spectrum: NumPy alone, so that worker processes start without torch.

Huang et al. (The empirical mode decomposition and the Hilbert spectrum, 1998): a sound is sifted into modes, from quick
to slow, by subtracting the mean of its envelopes until what is left oscillates around 0. EEMD (Wu & Huang, 2009) and
CEEMDAN (Torres et al., 2011; Colominas et al., 2014) average over copies with noise added, which keeps a mode from
jumping between scales. The sifting is EMD-signal's.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from .config import EmdConfig

Samples = npt.NDArray[np.float64]
LEAST_SAMPLES = 4  # fewer have no envelope


def content_hash(wave: npt.NDArray[Any]) -> bytes:
    """Sixteen bytes that stand for the samples of a clip."""
    return hashlib.blake2b(np.ascontiguousarray(wave).tobytes(), digest_size=16).digest()


def empirical_modes(wave: npt.NDArray[Any], config: EmdConfig) -> Samples:
    """Modes (M, S) of a clip (S,), quick ones first; what their sum lacks of the clip is the residue.

    A constant, or fewer than 4 samples, have no modes. The noise of eemd and ceemdan is seeded by the clip's samples:
    the same clip has the same modes wherever it is computed.
    """
    signal = wave.astype(np.float64)
    if len(signal) < LEAST_SAMPLES or signal.min() == signal.max():
        return np.zeros((0, len(signal)))
    # EMD-signal stops at absolute thresholds: at unit deviation a quiet clip has as many modes as a loud one.
    loudness = signal.std()
    modes: Samples = sift(signal / loudness, config, int.from_bytes(content_hash(wave)[:4], "little")) * loudness
    return modes


def sift(signal: Samples, config: EmdConfig, seed: int) -> Samples:
    """Modes (M, S) of a clip of unit deviation, without the residue."""
    from PyEMD import CEEMDAN, EEMD, EMD

    if config.method == "emd":
        sifter = EMD()
        sifter.emd(signal)
        modes: Samples = sifter.get_imfs_and_residue()[0]
    # parallel=False: the workers share out clips, not the copies of one.
    elif config.method == "eemd":
        # EMD-signal takes the noise as a share of the range from the least to the greatest sample.
        ensemble = EEMD(trials=config.trials, noise_width=config.noise / np.ptp(signal), parallel=False)
        ensemble.noise_seed(seed)
        modes = ensemble.eemd(signal)
    else:
        complete = CEEMDAN(trials=config.trials, epsilon=config.noise, parallel=False)
        complete.noise_seed(seed)
        modes = complete.ceemdan(signal)[:-1]  # the last is the residue
    return modes


def analytic(modes: Samples) -> npt.NDArray[np.complex128]:
    """Analytic signals (M, S) of modes (M, S): no negative frequencies."""
    n_samples = modes.shape[-1]
    spectrum = np.fft.rfft(modes)
    spectrum[:, 1 : (n_samples + 1) // 2] *= 2.0
    whole = np.zeros(modes.shape, dtype=np.complex128)
    whole[:, : spectrum.shape[1]] = spectrum
    return np.fft.ifft(whole)


def hilbert_spectrum(
    modes: Samples, config: EmdConfig, first: int = 0, n_samples: int | None = None
) -> npt.NDArray[np.float32]:
    """Picture (F, T) of modes (M, S): squared amplitudes, summed over the samples and modes of every cell.

    Each sample of a mode counts at the instantaneous frequency of the mode, the advance of its phase to the next
    sample, and in the frame t * hop_length that is nearest. What lies outside of f_min to f_max is left out. The modes
    may be those of a part of a clip of `n_samples`, from sample `first` on.

    >>> octaves = EmdConfig(n_bins=3, f_min=500.0, f_max=4000.0, hop_length=400)
    >>> tone = np.cos(np.arange(1600) * (2 * np.pi * 1200 / 16000))[None]
    >>> hilbert_spectrum(tone, octaves).round().tolist()
    [[0.0, 0.0, 0.0, 0.0, 0.0], [200.0, 400.0, 400.0, 400.0, 200.0], [0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    n_frames = 1 + (modes.shape[-1] if n_samples is None else n_samples) // config.hop_length
    if len(modes) == 0:
        return np.zeros((config.n_bins, n_frames), dtype=np.float32)
    z = analytic(modes)
    advance = np.angle(z[:, 1:] * z[:, :-1].conj()) * (config.sample_rate / (2.0 * np.pi))
    hz = np.concatenate([advance, advance[:, -1:]], axis=1)
    inside = (hz >= config.f_min) & (hz < config.f_max)
    octaves = np.log2(hz[inside] / config.f_min) / np.log2(config.f_max / config.f_min)
    rows = np.minimum((octaves * config.n_bins).astype(np.int64), config.n_bins - 1)
    nearest = (first + np.arange(modes.shape[-1]) + config.hop_length // 2) // config.hop_length
    frames = np.broadcast_to(np.minimum(nearest, n_frames - 1), hz.shape)[inside]
    energies = np.square(np.abs(z[inside]))
    image = np.bincount(rows * n_frames + frames, weights=energies, minlength=config.n_bins * n_frames)
    return image.reshape(config.n_bins, n_frames).astype(np.float32)


def hilbert_picture(wave: npt.NDArray[Any], config: EmdConfig) -> npt.NDArray[np.float32]:
    """Picture (F, T) of a clip (S,): what a worker process computes.

    Zeros at both ends, as short clips are padded with, are no part of the sound: splines through a sound's envelope
    swing far out over them, and made a picture of up to six thousand times the energy.
    """
    heard = np.flatnonzero(wave)
    first, end = (int(heard[0]), int(heard[-1]) + 1) if len(heard) else (0, len(wave))
    return hilbert_spectrum(empirical_modes(wave[first:end], config), config, first, len(wave))
