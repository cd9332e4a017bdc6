"""The settings of a front end, free of torch so that a command line can read them at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class FrontEndConfig:
    """How a waveform becomes a picture; the defaults are BYOL-A's log-mel picture at a hop that fits a network.

    Sources: 64 mel bins from 60 to 7,800 Hz, window 1,024, power, natural log (Niizumi et al., BYOL-A, 2021).
    Departures: hop 167 in place of 160, so that one second at 16 kHz makes 1 + 16000 // 167 = 96 frames, a multiple
    of 32, and a backbone pads nothing; a floor of 1e-6 in place of 1.2e-7 (see `audiossl.transforms.compress`).

    name: "mel" or "stft" (the linear bins of the Fourier transform between f_min and f_max).
    backend: "fft" (framed FFT) or "nnaudio" (nnAudio's convolutions, whose kernels can be trained).
    pad_mode: "constant" (zeros) or "reflect"; n_fft / 2 samples on both sides, so that frame t is centred on
        sample t * hop_length. A reflection needs more samples than it mirrors: shorter clips get zeros.
    compress: "log" (natural logarithm of power + floor), "db" (the same in decibels re full scale) or "none".
    trainable: the kernels become parameters; only with backend "nnaudio".
    """

    name: str = "mel"
    backend: str = "fft"
    sample_rate: int = 16000
    n_fft: int = 1024
    win_length: int = 1024
    hop_length: int = 167
    n_mels: int = 64
    f_min: float = 60.0
    f_max: float = 7800.0
    mel_scale: str = "slaney"
    norm: str = "slaney"
    power: float = 2.0
    pad_mode: str = "constant"
    compress: str = "log"
    floor: float = 1e-6
    trainable: bool = False
