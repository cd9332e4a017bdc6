"""Augmentations of the waveform beside audiomentations, torch-audiomentations and a plain loop over clips.

    python benchmarks/bench_augment.py

128 clips of a second at 16 kHz; every clip is changed, by draws of its own. audiomentations changes a clip at a time,
torch-audiomentations a batch; each with the same kind of change in the same range, where it has one. What the kinds do
is the same in name and not to the last sample, so only the time is compared. The plain loop is numpy and scipy.
On a GPU ours and torch-audiomentations' batches lie there; what works on arrays stays on the CPU, as its column says.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from audiossl.transforms import WaveAugment, WaveAugmentConfig
from scipy.signal import fftconvolve, resample_poly, sosfilt
from timing import DEVICE, compare, on_cpu

B, RATE = 128, 16000
ROUNDS = {"pitch": 2, "speed": 3}  # the slow ones; the others 5
WAVE = 0.1 * torch.randn(B, RATE, generator=torch.Generator().manual_seed(0)).to(DEVICE)
DRAW = np.random.default_rng(0)
# By kind: our setting.
KINDS: dict[str, dict[str, Any]] = {
    "gain": {"gain_db": 6.0},
    "polarity": {"polarity": 1.0},
    "shift": {"shift_s": 0.1},
    "noise": {"noise": 1.0, "noise_colour": "white"},
    "low-pass": {"low_pass": 1.0},
    "room": {"reverb": 1.0},
    "speed": {"speed": 0.1},
    "pitch": {"pitch_semitones": 2.0},
}


def ours(kind: str) -> Callable[[], object]:
    module = WaveAugment(WaveAugmentConfig(**KINDS[kind]), RATE)
    return lambda: module(WAVE, torch.Generator().manual_seed(0))


def of_one(kind: str, clip: np.ndarray) -> np.ndarray:
    """The change of a single clip, as short as it can be written."""
    if kind == "gain":
        return clip * 10 ** (DRAW.uniform(-6, 6) / 20)
    if kind == "polarity":
        return -clip
    if kind == "shift":
        return np.roll(clip, DRAW.integers(-RATE // 10, RATE // 10))
    if kind == "noise":
        noise = DRAW.standard_normal(len(clip), dtype=np.float32)
        return clip + noise * np.sqrt(np.mean(clip**2) / 10 ** (DRAW.uniform(5, 30) / 10))
    if kind == "low-pass":
        from scipy.signal import butter

        return sosfilt(butter(2, DRAW.uniform(2000, 7000), fs=RATE, output="sos"), clip)
    if kind == "room":
        n = round(RATE * DRAW.uniform(0.1, 0.5))
        tail = DRAW.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n)
        return fftconvolve(clip, tail)[: len(clip)]
    assert kind == "speed"
    return resample_poly(clip, 100, DRAW.integers(90, 110))


def loop(kind: str) -> Callable[[], object]:
    clips = WAVE.cpu().numpy()
    return lambda: [of_one(kind, clip) for clip in clips]


def audiomentations_call(kind: str) -> Callable[[], object] | None:
    import audiomentations as a

    made = {
        "gain": lambda: a.Gain(-6.0, 6.0, p=1.0),
        "polarity": lambda: a.PolarityInversion(p=1.0),
        "shift": lambda: a.Shift(-0.1, 0.1, p=1.0),
        "noise": lambda: a.AddGaussianSNR(5.0, 30.0, p=1.0),
        "low-pass": lambda: a.LowPassFilter(2000.0, 7000.0, p=1.0),
        "speed": lambda: a.TimeStretch(0.9, 1.1, p=1.0),
        "pitch": lambda: a.PitchShift(-2.0, 2.0, p=1.0),
    }.get(kind)
    if made is None:
        return None
    change, clips = made(), WAVE.cpu().numpy()
    return lambda: [change(clip, RATE) for clip in clips]


def torch_audiomentations_call(kind: str) -> Callable[[], object] | None:
    import torch_audiomentations as t

    each = {"p": 1.0, "output_type": "tensor"}
    made = {
        "gain": lambda: t.Gain(-6.0, 6.0, **each),
        "polarity": lambda: t.PolarityInversion(**each),
        "shift": lambda: t.Shift(-0.1, 0.1, **each),
        "noise": lambda: t.AddColoredNoise(5.0, 30.0, 0.0, 0.0, **each),
        "low-pass": lambda: t.LowPassFilter(2000.0, 7000.0, **each),
        "pitch": lambda: t.PitchShift(
            sample_rate=RATE, min_transpose_semitones=-2.0, max_transpose_semitones=2.0, **each
        ),
    }.get(kind)
    if made is None:
        return None
    change, wave = made(), WAVE[:, None]
    return lambda: change(wave, RATE)


LOOP = on_cpu("plain loop")
# By package: the name of its column, and its calls.
PEERS = {
    "audiomentations": (on_cpu("audiomentations"), audiomentations_call),
    "torch_audiomentations": ("torch-audiomentations", torch_audiomentations_call),
}


def main() -> None:
    """One table: milliseconds of a batch, and how many times ours."""
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        calls = {"audiossl": ours(kind)}
        if kind != "pitch":
            calls[LOOP] = loop(kind)
        for package, (name, make) in PEERS.items():
            call = make(kind) if find_spec(package) else None
            if call is not None:
                calls[name] = call
        found[kind] = compare("", calls, "audiossl", ROUNDS.get(kind, 5), quiet=True)
    print(f"\n### {B} clips of a second\n\nMilliseconds of a batch, one thread; in brackets how many times ours.\n")
    ways = [LOOP, *(name for name, _ in PEERS.values())]
    print("| | audiossl | " + " | ".join(ways) + " |\n|---|---:|" + "---:|" * len(ways))
    for kind, medians in found.items():
        cells = [cell(medians, way) for way in ways]
        print(f"| {kind} | {1e3 * medians['audiossl']:.1f} | " + " | ".join(cells) + " |")
    missing = [name for package, (name, _) in PEERS.items() if not find_spec(package)]
    print(f"\nNot installed: {', '.join(missing)}." if missing else "")


def cell(medians: dict[str, float], way: str) -> str:
    if way not in medians:
        return "-"
    return f"{1e3 * medians[way]:.1f} ({medians[way] / medians['audiossl']:.2g})"


if __name__ == "__main__":
    main()
