"""Mel and its kin beside their peers: time in one run, and how far each lies from the exact picture.

    python benchmarks/bench_mel.py

A: 4 clips of 1 s at 16 kHz a call, n_fft 1024, hop 160, 128 mels. B: 1 clip of 10 s at 32 kHz, n_fft 2048, hop 320.
Every call that is measured comes right after one of its own, and mel as five calls in a row. The bars: mel at most 1.0
of torchaudio's time, 0.3 of nnAudio's (on a GPU 0.5) and 0.3 of librosa's; eight long clips in one call at most 1.15 of
eight calls.
"""

from __future__ import annotations

from collections.abc import Callable

import librosa
import numpy as np
import torch
from audiossl.transforms import FbankConfig, LeafConfig, MelConfig, MfccConfig, Pcen, ReassignedConfig, build_frontend
from nnAudio.features import MelSpectrogram as NnAudioMel
from timing import DEVICE, bars, compare, on_cpu
from torchaudio.compliance import kaldi
from torchaudio.transforms import MFCC, MelSpectrogram

from audiossl.run.freed_memory import keep_freed_memory

BURST = 5
SIGNALS = {"A": (16000, 4, 1, 1024), "B": (32000, 1, 10, 2048)}  # Hz, clips, seconds, n_fft


def signal(rate: int, n_clips: int, seconds: int) -> torch.Tensor:
    """Chirp, tone and noise."""
    t = torch.arange(rate * seconds, dtype=torch.float64) / rate
    tones = 0.3 * torch.sin(2 * torch.pi * (100 + 3000 * t / seconds) * t) + 0.1 * torch.sin(2 * torch.pi * 440 * t)
    noise = torch.randn(n_clips, len(t), generator=torch.Generator().manual_seed(0))
    return (tones + 0.05 * noise).float()


def deviation(image: torch.Tensor, exact: np.ndarray) -> float:
    """Norm of the difference over the norm of the exact picture."""
    return float(np.linalg.norm(image.detach().cpu().numpy() - exact) / np.linalg.norm(exact))


def mel(name: str) -> None:
    """Mel power: ours, torchaudio, nnAudio, librosa."""
    rate, n_clips, seconds, n_fft = SIGNALS[name]
    wave, hop, f_max = signal(rate, n_clips, seconds), rate // 100, rate / 2
    common = {"n_fft": n_fft, "hop_length": hop, "n_mels": 128}
    config = MelConfig(rate, hop, "none", n_fft=n_fft, win_length=n_fft, f_min=0.0, f_max=f_max, n_bins=128)
    ours = build_frontend(config).to(DEVICE)
    theirs = MelSpectrogram(rate, mel_scale="slaney", norm="slaney", pad_mode="constant", **common).to(DEVICE)
    nnaudio = NnAudioMel(sr=rate, fmax=f_max, pad_mode="constant", verbose=False, **common).to(DEVICE)

    def by_librosa(x: np.ndarray) -> np.ndarray:
        return librosa.feature.melspectrogram(y=x, sr=rate, pad_mode="constant", **common)

    on_device, array = wave.to(DEVICE), wave.numpy()
    exact = by_librosa(array.astype("f8"))
    calls: dict[str, Callable[[], object]] = {
        "audiossl mel": lambda: [ours(on_device) for _ in range(BURST)],
        "torchaudio MelSpectrogram": lambda: [theirs(on_device) for _ in range(BURST)],
        "nnAudio MelSpectrogram": lambda: [nnaudio(on_device) for _ in range(BURST)],
        on_cpu("librosa melspectrogram"): lambda: [by_librosa(clip) for _ in range(BURST) for clip in array],
    }
    title = f"Mel, signal {name}: {BURST} calls with {n_clips} x {seconds} s at {rate} Hz"
    with torch.no_grad():
        medians = compare(title, calls, "audiossl mel", warm=True)
        print("\nDeviation from librosa in float64:")
        for label, image in (("audiossl", ours), ("torchaudio", theirs), ("nnAudio", nnaudio)):
            print(f"- {label} {deviation(image(on_device).reshape(exact.shape), exact):.1e}")
    limits = {
        "torchaudio MelSpectrogram": 1.0,
        "nnAudio MelSpectrogram": 0.3 if DEVICE == "cpu" else 0.5,
        "librosa melspectrogram": 0.3,
    }
    bars(medians, {("audiossl mel", peer): limit for peer, limit in limits.items()})


def leaf_by_convolution(rate: int, hop: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The arithmetic of LEAF as in its paper: taps over 25 ms, 64 complex filters at every sample, then a low-pass."""
    half = rate // 80
    gabor, lowpass = torch.randn(128, 1, 2 * half + 1), torch.rand(64, 1, 2 * half + 1)

    def picture(wave: torch.Tensor) -> torch.Tensor:
        parts = torch.nn.functional.conv1d(wave[:, None], gabor, padding=half)
        power = parts[:, :64].square() + parts[:, 64:].square()
        return torch.nn.functional.conv1d(power, lowpass, stride=hop, padding=half, groups=64).log()

    return picture


def relatives(name: str) -> None:
    """Kaldi fbank, MFCC, PCEN against their references; reassigned and LEAF beside mel."""
    rate, n_clips, seconds, n_fft = SIGNALS[name]
    wave, hop = signal(rate, n_clips, seconds), rate // 100
    fourier = {"n_fft": n_fft, "win_length": n_fft}
    common = {"sample_rate": rate, "hop_length": hop, "f_min": 20.0, "f_max": rate / 2}
    fbank = build_frontend(FbankConfig(**common, win_length=rate // 40, snip_edges=True, n_bins=64, floor=1e-12))
    cepstra = build_frontend(MfccConfig(**{**common, **fourier}, n_bins=20))
    reference = MFCC(
        rate, n_mfcc=20, log_mels=True,
        melkwargs={"n_fft": n_fft, "hop_length": hop, "n_mels": 64, "f_min": 20.0, "mel_scale": "slaney",
                   "norm": "slaney", "pad_mode": "constant"},
    )  # fmt: skip
    power = build_frontend(MelConfig(**{**common, **fourier}, compress="none"))(wave)
    pcen, array = Pcen(rate / hop), power[:, 0].numpy()

    def kaldi_fbank(dtype: torch.dtype) -> torch.Tensor:
        settings = {"dither": 0.0, "num_mel_bins": 64, "sample_frequency": rate}
        return torch.stack([kaldi.fbank(clip[None].to(dtype), **settings).T for clip in wave])

    def librosa_pcen(x: np.ndarray) -> np.ndarray:
        share = (np.sqrt(1 + 4 * (0.4 * rate / hop) ** 2) - 1) / (2 * (0.4 * rate / hop) ** 2)
        return librosa.pcen(x, sr=rate, hop_length=hop, zi=(1 - share) * x[..., :1])

    others = {
        "audiossl mel": build_frontend(MelConfig(**{**common, **fourier})),
        "audiossl reassigned": build_frontend(ReassignedConfig(**{**common, **fourier})),
        "audiossl leaf": build_frontend(LeafConfig(**common)),
        "LEAF by convolutions": leaf_by_convolution(rate, hop),
        "audiossl mel, pcen": build_frontend(MelConfig(**{**common, **fourier}, compress="pcen")),
    }
    title = f"signal {name}"
    with torch.no_grad():
        compare(f"Kaldi fbank, {title}", {"audiossl": lambda: fbank(wave), "kaldi.fbank clip by clip":
                lambda: kaldi_fbank(torch.float32)}, "audiossl", warm=True)  # fmt: skip
        print(
            "\nDeviation from kaldi.fbank in float64: "
            f"{deviation(fbank(wave)[:, 0], kaldi_fbank(torch.float64).numpy()):.1e}"
        )
        compare(
            f"MFCC, {title}",
            {"audiossl": lambda: cepstra(wave), "torchaudio": lambda: reference(wave)},
            "audiossl",
            warm=True,
        )
        print(f"\nDeviation from torchaudio: {deviation(cepstra(wave)[:, 0], reference(wave).numpy()):.1e}")
        compare(f"PCEN of a mel picture, {title}", {"audiossl": lambda: pcen(power), "librosa": lambda:
                librosa_pcen(array)}, "audiossl", warm=True)  # fmt: skip
        exact = librosa_pcen(array.astype("f8"))
        print(f"\nLargest difference from librosa in float64: {np.abs(pcen(power)[:, 0].numpy() - exact).max():.1e}")
        kin = {label: lambda f=f: f(wave) for label, f in others.items()}
        compare(f"Kin of mel, {title}", kin, "audiossl mel", warm=True)


def long_clips() -> None:
    """Eight clips of B in one call and in eight."""
    rate, _, seconds, n_fft = SIGNALS["B"]
    waves = signal(rate, 8, seconds)
    frontend = build_frontend(MelConfig(rate, 320, n_fft=n_fft, win_length=n_fft, f_max=rate / 2, n_bins=128))
    calls = {"eight calls": lambda: [frontend(wave[None]) for wave in waves], "one call": lambda: frontend(waves)}
    with torch.no_grad():
        medians = compare("Eight clips of 10 s at 32 kHz", calls, "eight calls", warm=True)
    bars(medians, {("one call", "eight calls"): 1.15})


def main() -> None:
    """Print all tables."""
    keep_freed_memory()  # as every run does
    for name in SIGNALS:
        mel(name)
    if DEVICE == "cpu":
        for name in SIGNALS:
            relatives(name)
        long_clips()


if __name__ == "__main__":
    main()
