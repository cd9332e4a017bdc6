"""Discrete wavelets beside ptwt and PyWavelets, with the deviation from PyWavelets in float64; then the pictures.

    python benchmarks/bench_wavelet.py

A is 4 clips of 1 s at 16 kHz, B one clip of 10 s at 32 kHz. ptwt and ssqueezepy are wanted for the comparison alone
(extra `bench`); without them their rows are left out, and it is said so. On a GPU PyWavelets and ssqueezepy stay on the
CPU, and their rows say so. The bars: coefficients and packets in at most the time of ptwt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import pywt
import torch
from audiossl.transforms import build_frontend
from audiossl.transforms.dwt import wavedec
from audiossl.transforms.wavelet_packet import wavelet_packet
from timing import DEVICE, bars, compare, on_cpu

from audiossl.run.freed_memory import keep_freed_memory

LEVEL = 6
Calls = dict[str, Callable[[], object]]


def signals() -> dict[str, tuple[torch.Tensor, int]]:
    """Waves and their rates."""
    generator = torch.Generator().manual_seed(0)
    return {
        "A": (0.1 * torch.randn(4, 16000, generator=generator).to(DEVICE), 16000),
        "B": (0.1 * torch.randn(1, 320000, generator=generator).to(DEVICE), 32000),
    }


def ptwt_packets(wave: torch.Tensor) -> list[torch.Tensor]:
    import ptwt

    tree = ptwt.WaveletPacket(wave, "db4", mode="symmetric", maxlevel=LEVEL)
    return [tree[name] for name in tree.get_level(LEVEL, order="freq")]


def transform_calls(wave: torch.Tensor) -> tuple[Calls, Calls]:
    plain, peer = wave.cpu().numpy(), on_cpu("pywt")
    decompositions: Calls = {
        "wavedec": lambda: wavedec(wave, "db4", LEVEL),
        peer: lambda: pywt.wavedec(plain, "db4", "symmetric", LEVEL),
    }
    packets: Calls = {
        "wavelet_packet": lambda: wavelet_packet(wave, "db4", LEVEL),
        peer: lambda: [node.data for node in pywt.WaveletPacket(plain, "db4", "symmetric", LEVEL).get_level(LEVEL)],
    }
    if find_spec("ptwt"):
        import ptwt

        decompositions["ptwt"] = lambda: ptwt.wavedec(wave, "db4", mode="symmetric", level=LEVEL)
        packets["ptwt"] = lambda: ptwt_packets(wave)
    return decompositions, packets


def deviation(wave: torch.Tensor) -> tuple[float, float]:
    """Relative L2 error of the coefficients of the float32 wave against PyWavelets in float64."""
    exact = wave.cpu().numpy().astype(np.float64)
    ours = torch.cat(wavedec(wave, "db4", LEVEL), dim=-1).cpu().numpy()
    theirs = np.concatenate(pywt.wavedec(exact, "db4", "symmetric", LEVEL), axis=-1)
    packets = wavelet_packet(wave, "db4", LEVEL).cpu().numpy()
    nodes = pywt.WaveletPacket(exact, "db4", "symmetric", LEVEL).get_level(LEVEL, "freq")
    leaves = np.stack([node.data for node in nodes], axis=1)
    return (
        float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)),
        float(np.linalg.norm(packets - leaves) / np.linalg.norm(leaves)),
    )


def picture_calls(wave: torch.Tensor, rate: int) -> Calls:
    """The whole pictures, compressed, at a hop of 10 ms, and nnAudio's gammatonegram beside ours."""
    kinds = ("mel", "dwt", "wavelet_packet", "gammatone", "chroma", "scattering", "synchrosqueezing")
    frontends = {kind: build_frontend(kind, sample_rate=rate, hop_length=rate // 100) for kind in kinds}
    frontends["gammatone, backend nnaudio"] = build_frontend(
        "gammatone", sample_rate=rate, hop_length=rate // 100, backend="nnaudio"
    )
    return {name: partial(frontend.to(DEVICE), wave) for name, frontend in frontends.items()}


def squeezed(wave: torch.Tensor, rate: int) -> None:
    """Synchrosqueezing, a clip at a time in ssqueezepy, which gives a column a sample and none at a hop."""
    frontend = build_frontend("synchrosqueezing", sample_rate=rate, hop_length=rate // 100).to(DEVICE)
    clips = wave.cpu().numpy()
    calls: Calls = {"audiossl synchrosqueezing, hop of 10 ms": lambda: frontend(wave)}
    if find_spec("ssqueezepy"):
        os.environ["SSQ_PARALLEL"] = "0"  # one thread, as ours
        import ssqueezepy

        calls[on_cpu("ssqueezepy.ssq_cwt, 16 rows an octave")] = lambda: [
            ssqueezepy.ssq_cwt(one, nv=16) for one in clips
        ]
    compare("A: synchrosqueezing", calls, "audiossl synchrosqueezing, hop of 10 ms", rounds=3, warm=True)


def main() -> None:
    keep_freed_memory()  # as every run does
    reference = "ptwt" if find_spec("ptwt") else on_cpu("pywt")
    for name, (wave, rate) in signals().items():
        decompositions, packets = transform_calls(wave)
        errors = deviation(wave)
        medians = compare(f"{name}: wavelet coefficients, db4, level {LEVEL}", decompositions, reference, warm=True)
        print(f"\nDeviation of wavedec from PyWavelets in float64: {errors[0]:.1e} of the norm.")
        bars(medians, {("wavedec", "ptwt"): 1.0})
        medians = compare(f"{name}: wavelet packets, db4, level {LEVEL}", packets, reference, warm=True)
        print(f"\nDeviation of wavelet_packet from PyWavelets in float64: {errors[1]:.1e} of the norm.")
        bars(medians, {("wavelet_packet", "ptwt"): 1.0})
        compare(f"{name}: pictures", picture_calls(wave, rate), "mel", rounds=9, warm=True)
    squeezed(*signals()["A"])
    missing = [peer for peer in ("ptwt", "ssqueezepy") if not find_spec(peer)]
    print(f"\nNot installed: {', '.join(missing)}." if missing else "")


if __name__ == "__main__":
    with torch.no_grad():
        main()
