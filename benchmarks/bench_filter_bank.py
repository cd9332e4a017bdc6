"""Constant-Q and wavelet pictures beside nnAudio, librosa, PyWavelets, ptwt, ssqueezepy and dense FFT convolution.

    python benchmarks/bench_filter_bank.py

Signals: A is 4 clips of 1 s at 16 kHz in one call, B one clip of 10 s at 32 kHz. The deviation is that of the magnitude
from a reference in float64 (correlation with librosa's filters; the dense transform), as a share of its norm. On a GPU
the peers that have no GPU code stay on the CPU, and their rows say so. Every measured call comes right after one of its
own: in a round Morlet's wavelets follow the slowest peer, and with cold caches took six times as long as Morse's.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import librosa
import numpy as np
import pywt
import torch
from audiossl.transforms import CqtConfig, CwtConfig, MelConfig, VqtConfig, build_frontend
from audiossl.transforms.cwt import wavelet_response
from audiossl.transforms.mel import mel_filters
from timing import DEVICE, bars, compare, on_cpu
from torch import Tensor

from audiossl.run.freed_memory import keep_freed_memory

SIGNALS = {"A": (4, 1, 16000), "B": (1, 10, 32000)}  # clips, seconds, Hz
CMOR = 2 * math.pi * math.sqrt(1.5 / 2)  # w0 of PyWavelets' cmor1.5-1.0
# The most that our time is to be of a peer's, by signal.
CQT_BARS = {
    "A": {"nnAudio CQT1992v2": 0.3, "nnAudio CQT2010v2": 0.3, "librosa.cqt": 0.15},
    "B": {"nnAudio CQT1992v2": 0.3, "nnAudio CQT2010v2": 0.3, "librosa.cqt": 0.5},
}
CWT_BARS = {
    "A": {"pywt.cwt": 0.08, "dense FFT": 0.2, "torch.stft and mel": 4.0},
    "B": {"pywt.cwt": 0.08, "dense FFT": 0.2},
}


def signal(clips: int, seconds: int, sample_rate: int) -> Tensor:
    """Chirp, tone and noise (B, S)."""
    t = torch.arange(seconds * sample_rate, dtype=torch.float64) / sample_rate
    chirp = 0.3 * torch.sin(2 * math.pi * (100 + 3000 / seconds * t) * t) + 0.1 * torch.sin(2 * math.pi * 440 * t)
    noise = torch.randn(clips, len(t), generator=torch.Generator().manual_seed(0))
    return (chirp + 0.05 * noise).float().to(DEVICE)


def deviation(picture: Tensor | np.ndarray, reference: np.ndarray) -> str:
    """Share of the reference's norm, over the frames that both have."""
    ours = picture.cpu().numpy() if isinstance(picture, Tensor) else picture
    n_frames = min(ours.shape[-1], reference.shape[-1])
    ours, reference = ours[..., :n_frames], reference[..., :n_frames]
    return f"{np.linalg.norm(ours - reference) / np.linalg.norm(reference):.1e}"


def report(
    title: str, calls: dict[str, Callable[[], object]], errors: dict[str, str], limits: dict[str, float], rounds: int
) -> None:
    """Time the calls, the first of which is ours; print the deviations and the bars below."""
    ours = next(iter(calls))
    medians = compare(title, calls, reference=ours, rounds=rounds, warm=True)
    print("\nDeviation: " + "; ".join(f"{name} {error}" for name, error in errors.items()) + ".")
    bars(medians, {(ours, peer): limit for peer, limit in limits.items()})


def constant_q(name: str, wave: Tensor, sample_rate: int, hop_length: int) -> None:
    """CQT of 84 rows from C1."""
    from nnAudio.features.cqt import CQT1992v2, CQT2010v2

    shared = {
        "sample_rate": sample_rate,
        "hop_length": hop_length,
        "f_min": 32.7,
        "n_bins": 84,
        "bins_per_octave": 12.0,
    }
    ours = build_frontend(CqtConfig(**shared, compress="none", power=1.0)).to(DEVICE)
    vqt = build_frontend(VqtConfig(**shared, compress="none", power=1.0)).to(DEVICE)
    theirs = {"sr": sample_rate, "hop_length": hop_length, "fmin": 32.7, "n_bins": 84, "verbose": False}
    first, second = (kind(**theirs, pad_mode="constant").to(DEVICE) for kind in (CQT1992v2, CQT2010v2))
    clips = wave.cpu().numpy()

    def by_librosa() -> np.ndarray:
        settings = {"sr": sample_rate, "hop_length": hop_length, "fmin": 32.7, "n_bins": 84, "tuning": 0.0}
        return np.abs(np.stack([librosa.cqt(clip, **settings, pad_mode="constant") for clip in clips]))

    hz = ours.frequencies.double().cpu().numpy()
    filters, lengths = librosa.filters.wavelet(freqs=hz, sr=sample_rate, dtype=np.complex128)
    half = filters.shape[1] // 2
    padded = np.pad(clips.astype("f8"), [(0, 0), (half, half + 1)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * half, axis=1)[:, ::hop_length]
    exact = np.abs(frames @ filters.conj().T).transpose(0, 2, 1)
    root = np.sqrt(lengths)[:, None]
    calls = {
        "ours, cqt": lambda: ours(wave),
        "ours, vqt (gamma 20)": lambda: vqt(wave),
        "nnAudio CQT1992v2": lambda: first(wave),
        "nnAudio CQT2010v2": lambda: second(wave),
        on_cpu("librosa.cqt"): by_librosa,
    }
    with torch.no_grad():
        errors = {
            "ours": deviation(ours(wave)[:, 0], 2 * exact),
            "CQT1992v2": deviation(first(wave), exact * root),
            "CQT2010v2": deviation(second(wave), exact * root),
            "librosa": deviation(by_librosa(), exact * root),
        }
        report(f"CQT, 84 rows, {name}", calls, errors, CQT_BARS[name], rounds=9 if name == "A" else 5)


def wavelets(name: str, wave: Tensor, sample_rate: int, hop_length: int) -> None:
    """CWT of 64 rows, complex Morlet."""
    config = CwtConfig(
        sample_rate=sample_rate, hop_length=hop_length, w0=CMOR, f_max=0.4 * sample_rate, compress="none", power=1.0
    )
    ours = build_frontend(config).to(DEVICE)
    morse = build_frontend("cwt", sample_rate=sample_rate, hop_length=hop_length, wavelet="morse").to(DEVICE)
    hz = ours.frequencies.double()
    n_fft = 2 ** math.ceil(math.log2(wave.shape[1] + ours.bank.reach))
    frequency = torch.arange(n_fft, dtype=torch.float64, device=DEVICE) / n_fft
    responses = wavelet_response(config, hz / sample_rate, slice(0, 64), frequency)
    single = responses.float()

    def dense(clip: Tensor, response: Tensor) -> Tensor:
        return torch.fft.ifft(torch.fft.fft(clip, n_fft) * response)[:, : clip.shape[0]].abs()[:, ::hop_length]

    scales = sample_rate / hz.cpu().numpy()
    clips = wave.cpu().numpy()

    octaves = np.geomspace(2, 2 * 0.4 * sample_rate / float(hz[0]), len(hz))

    def by_ssqueezepy() -> list[np.ndarray]:
        return [np.abs(ssqueezepy.cwt(clip, "gmw", scales=octaves)[0][:, ::hop_length]) for clip in clips]

    def by_pywavelets(precision: int = 12) -> np.ndarray:
        transforms = [pywt.cwt(clip, scales, "cmor1.5-1.0", method="fft", precision=precision)[0] for clip in clips]
        return 2 * np.abs(np.stack(transforms))[..., ::hop_length] / np.sqrt(scales)[:, None]

    mel = mel_filters(MelConfig(sample_rate=sample_rate, n_bins=128, f_max=0.4 * sample_rate)).float().to(DEVICE)
    window = torch.hann_window(1024, device=DEVICE)

    def stft_mel() -> Tensor:
        spectrum = torch.stft(wave, 1024, hop_length, window=window, return_complex=True, pad_mode="constant")
        return mel @ spectrum.abs().square()

    exact = torch.stack([dense(clip.double(), responses) for clip in wave]).cpu().numpy()
    calls = {
        "ours, cwt": lambda: ours(wave),
        "ours, morse": lambda: morse(wave),
        "dense FFT": lambda: torch.stack([dense(clip, single) for clip in wave]),
        on_cpu("pywt.cwt"): by_pywavelets,
        "torch.stft and mel": stft_mel,
    }
    if find_spec("ssqueezepy"):
        os.environ["SSQ_PARALLEL"] = "0"  # one thread, as all others
        import ssqueezepy

        calls[on_cpu("ssqueezepy.cwt (Morse, as many scales)")] = by_ssqueezepy
    if find_spec("ptwt") and name == "A":  # a second and more: not at ten seconds
        import ptwt

        calls["ptwt.cwt"] = lambda: ptwt.cwt(wave, scales, "cmor1.5-1.0")
    with torch.no_grad():
        errors = {
            "ours": deviation(ours(wave)[:, 0], exact),
            "dense FFT in float32": deviation(torch.stack([dense(clip, single) for clip in wave]), exact),
            "pywt, precision 12": deviation(by_pywavelets(), exact),
            "pywt, precision 14": deviation(by_pywavelets(14), exact),
        }
        report(f"CWT, 64 rows, {name}", calls, errors, CWT_BARS[name], rounds=5 if name == "A" else 3)


def batches(wave: Tensor, sample_rate: int) -> None:
    """Eight clips of B in one call beside eight calls."""
    eight = wave.repeat(8, 1)
    for kind in ("cqt", "cwt"):
        frontend = build_frontend(kind, sample_rate=sample_rate, hop_length=320).to(DEVICE)
        calls = {
            "eight calls": lambda frontend=frontend: [frontend(clip[None]) for clip in eight],
            "one call of eight": lambda frontend=frontend: frontend(eight),
        }
        with torch.no_grad():
            medians = compare(f"{kind}, 8 clips of B", calls, reference="eight calls", rounds=15, warm=True)
        bars(medians, {("one call of eight", "eight calls"): 1.15})


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    keep_freed_memory()  # as every run does
    for name, (clips, seconds, sample_rate) in SIGNALS.items():
        wave = signal(clips, seconds, sample_rate)
        constant_q(name, wave, sample_rate, hop_length=256 if name == "A" else 512)
        wavelets(name, wave, sample_rate, hop_length=160 if name == "A" else 320)
    batches(wave, sample_rate)


if __name__ == "__main__":
    main()
