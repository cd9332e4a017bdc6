"""The rare front ends beside their references: Wigner-Ville (tftb), matching pursuit (scikit-learn), empirical modes.

    python benchmarks/bench_rare.py

Signals A: 1 s at 16 kHz, 4 clips a call; B: 10 s at 32 kHz, 1 clip a call. The references take one clip and no hop,
so each is timed on a part that it can do in bearable time, with ours on the same part, doing the same. On a GPU they
stay on the CPU, as the sifting of empirical modes does, and their rows say so. The bars: pseudo Wigner-Ville and
matching pursuit at least 6 times as fast as their references.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from audiossl.transforms import MatchingPursuitConfig, build_frontend
from audiossl.transforms.matching_pursuit import gabor_dictionary, orthogonal_pursuit
from audiossl.transforms.wigner_ville import (
    analytic_signal,
    hann_around,
    lag_basis,
    lag_products,
    smoothed_lag_products,
)
from timing import DEVICE, bars, compare, on_cpu

from audiossl.run.freed_memory import keep_freed_memory

KINDS = ("mel", "wigner_ville", "matching_pursuit")
SIXTH = 1 / 6  # of the references' time


def sounds(n_clips: int, duration_s: float, sample_rate: int) -> torch.Tensor:
    """Chirp, tone and noise (B, S), on the CPU."""
    t = torch.arange(int(duration_s * sample_rate)) / sample_rate
    chirp = torch.sin(2 * torch.pi * (200 + 2500 * t / duration_s) * t)
    tone = 0.3 * torch.sin(2 * torch.pi * 4000 * t)
    noise = torch.randn(n_clips, len(t), generator=torch.Generator().manual_seed(0))
    return 0.3 * (chirp + tone) + 0.05 * noise


def deviation(x: np.ndarray, reference: np.ndarray) -> str:
    """Norm of the difference over the norm of the reference."""
    return f"{np.linalg.norm(x - reference) / np.linalg.norm(reference):.1e}"


def bench_front_ends() -> None:
    for title, wave, rate, hop in (
        ("A: 4 clips of 1 s at 16 kHz", sounds(4, 1.0, 16000), 16000, 167),
        ("B: 1 clip of 10 s at 32 kHz", sounds(1, 10.0, 32000), 32000, 334),
    ):
        built = {kind: build_frontend(kind, sample_rate=rate, hop_length=hop) for kind in KINDS}
        built["wigner_ville, no smoothing"] = build_frontend(
            "wigner_ville", sample_rate=rate, hop_length=hop, smoothing_hops=0.0
        )
        wave = wave.to(DEVICE)
        calls = {name: partial(frontend.to(DEVICE), wave) for name, frontend in built.items()}
        compare(title, calls, "mel", warm=True)


def bench_wigner_ville(n_samples: int = 1024, half: int = 127) -> None:
    """At every sample and on the smallest grid of frequencies that tftb has for this lag window."""
    try:
        from tftb.processing import PseudoWignerVilleDistribution, smoothed_pseudo_wigner_ville
    except ImportError:  # not there, or 0.1.4, which newer versions of scipy break
        print("\n### Pseudo Wigner-Ville\n\ntftb 0.2: not installed.")
        return
    n_rows = 2 * (half + 1)
    wave, tftb = sounds(1, n_samples / 16000, 16000).to(DEVICE), on_cpu("tftb")
    z = analytic_signal(wave)
    signal, window = z[0].cpu().numpy().astype(complex), hann_around(half).numpy()
    basis = lag_basis(half, 16000, torch.arange(n_rows) * 16000 / (2 * n_rows), 0.0).float().to(DEVICE)
    smoothing = (hann_around(20) / hann_around(20).sum()).float().to(DEVICE)
    picture = build_frontend("wigner_ville", smoothing_hops=0.0).to(DEVICE)

    def ours() -> torch.Tensor:
        return (basis @ lag_products(z, half, 1))[0]

    def oracle() -> np.ndarray:
        return PseudoWignerVilleDistribution(signal, n_fbins=n_rows, fwindow=window).run()[0]

    calls = {tftb: oracle, "audiossl, the same cells": ours, "audiossl, front end": lambda: picture(wave)}
    size = f"{n_samples} samples x {n_rows} frequencies"
    medians = compare(f"Pseudo Wigner-Ville, {size}", calls, tftb, rounds=15, warm=True)
    print(f"\nDeviation from tftb: {deviation(ours()[:, :n_samples].cpu().numpy(), oracle())}.")
    bars(medians, {("audiossl, the same cells", "tftb"): SIXTH})
    smoothed = {
        tftb: lambda: smoothed_pseudo_wigner_ville(
            signal, freq_bins=n_rows, twindow=hann_around(20).numpy(), fwindow=window
        ),
        "audiossl": lambda: basis @ smoothed_lag_products(z, half, 1, smoothing),
    }
    compare(f"Smoothed pseudo Wigner-Ville, {size}", smoothed, tftb, rounds=5, warm=True)
    print("\nIn time only: every lag but 0 of tftb 0.2.0 stands in the place of the next one.")


def bench_matching_pursuit(n_segments: int = 62, n_atoms: int = 16) -> None:
    """The same inner products and Gram matrix for both: 62 segments, 16 atoms each."""
    from sklearn.linear_model import orthogonal_mp_gram

    frontend = build_frontend("matching_pursuit")
    exact = gabor_dictionary(MatchingPursuitConfig()).atoms
    gram = exact @ exact.T
    segments = frontend.segments(sounds(1, 1.0, 16000))[0, :n_segments].double()
    correlations = segments @ exact.T
    single, single_gram, oracle_name = correlations.float().to(DEVICE), gram.float().to(DEVICE), on_cpu("scikit-learn")

    def ours() -> torch.Tensor:
        pursuit = orthogonal_pursuit(single, single_gram, n_atoms)
        coefficients = pursuit.coefficients(single.gather(1, pursuit.chosen))
        return torch.zeros_like(single).scatter(1, pursuit.chosen, coefficients)

    def oracle() -> np.ndarray:
        return orthogonal_mp_gram(gram.numpy(), correlations.T.numpy(), n_nonzero_coefs=n_atoms).T

    title = f"Matching pursuit, {n_segments} segments x {len(exact)} atoms, {n_atoms} each"
    medians = compare(title, {oracle_name: oracle, "audiossl": ours}, oracle_name, rounds=3, warm=True)
    left = [(segments - torch.as_tensor(x).cpu().double() @ exact).norm(dim=1).numpy() for x in (ours(), oracle())]
    print(f"\nResidual norms, deviation of single precision from scikit-learn's double: {deviation(*left)}.")
    bars(medians, {("audiossl", "scikit-learn"): SIXTH})


def bench_empirical_modes() -> None:
    wave = sounds(1, 1.0, 16000).to(DEVICE)

    def fresh(method: str) -> torch.Tensor:
        return build_frontend("emd", method=method).to(DEVICE)(wave)  # a new front end has an empty cache

    cached, mel = build_frontend("emd").to(DEVICE), build_frontend("mel").to(DEVICE)
    calls = {
        "mel": lambda: mel(wave),
        on_cpu("emd"): lambda: fresh("emd"),
        on_cpu("emd, from memory"): lambda: cached(wave),
    }
    compare("Empirical modes, 1 clip of 1 s at 16 kHz", calls, "mel", rounds=5, warm=True)
    ensembles = {on_cpu(method): lambda m=method: fresh(m) for method in ("eemd", "ceemdan")}
    compare("Ensembles of 20 trials, the same clip", ensembles, on_cpu("eemd"), rounds=1)


def main() -> None:
    keep_freed_memory()  # as every run does
    bench_front_ends()
    bench_wigner_ville()
    bench_matching_pursuit()
    bench_empirical_modes()


if __name__ == "__main__":
    main()
