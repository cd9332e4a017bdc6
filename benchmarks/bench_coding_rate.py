"""EMP-SSL's total coding rate beside the loop over d x d determinants: time, peak memory, deviation from float64.

    python benchmarks/bench_coding_rate.py

B = 100 clips, d = 1,024 numbers, 20 and 100 patches; forward and backward, from rows of length one to their gradient.
The loop is what public implementations do: a `logdet` for each patch z[p]. emp-ssl-pytorch takes the smaller side as
well, a patch a call, and divides by the number of clips twice: it is given eps over that number, in a loop. Time: CPU
seconds on one thread, interleaved rounds; on a GPU wall time between synchronisations. Memory: what one call adds to
the peak of its process, which it has for itself, after a call on a small batch (on Linux; on a GPU what torch
allocated).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from timing import DEVICE, compare
from torch import Tensor
from torch.nn import functional

from audiossl.losses.coding_rate import coding_rate

N_CLIPS, DIM, EPS = 100, 1024, 0.2
SIZES = {20: 7, 100: 3}  # patches, rounds


def projections(n_patches: int, dim: int = DIM) -> Tensor:
    torch.manual_seed(0)
    return functional.normalize(torch.randn(n_patches, N_CLIPS, dim, device=DEVICE), dim=-1).requires_grad_()


def loop(z: Tensor) -> Tensor:
    """Mean of 1/2 logdet(I + d / (B eps) Z^T Z) over the patches, each for itself."""
    _, n_clips, dim = z.shape
    identity = torch.eye(dim, dtype=z.dtype, device=z.device)
    rates = [0.5 * torch.logdet(identity + dim / (n_clips * EPS) * z[p].T @ z[p]) for p in range(len(z))]
    return torch.stack(rates).mean()


def ours(z: Tensor) -> Tensor:
    return coding_rate(z, EPS).mean()


def by_package(z: Tensor) -> Tensor:
    """emp-ssl-pytorch's rate of each patch."""
    from emp_ssl_pytorch.emp_ssl_pytorch import total_coding_rate

    return torch.stack([total_coding_rate(patch, EPS / N_CLIPS) for patch in z]).mean()


WAYS: dict[str, Callable[[Tensor], Tensor]] = {"loop, d x d": loop, "audiossl": ours}
if find_spec("emp_ssl_pytorch"):
    WAYS["emp-ssl-pytorch"] = by_package


def rate_and_gradient(way: str, z: Tensor) -> tuple[Tensor, Tensor]:
    rate = WAYS[way](z)
    (gradient,) = torch.autograd.grad(rate, z)
    return rate.detach(), gradient


def print_peak(way: str, n_patches: int) -> None:
    """One process: MB that a call needs at its peak beyond what was there before, such as z."""
    torch.set_num_threads(1)
    rate_and_gradient(way, projections(1, dim=128))
    z = projections(n_patches)
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        rate_and_gradient(way, z)
        print((torch.cuda.max_memory_allocated() - before) / 1e6)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
        before = _status_kb("VmRSS")
        rate_and_gradient(way, z)
        print((_status_kb("VmHWM") - before) / 1e3)


def _status_kb(name: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])


def print_deviations(n_patches: int) -> None:
    """From the smaller of the two determinants in float64: of the rate in nats, of the gradient as a share of it."""
    z = projections(n_patches)
    exact = z.detach().double().requires_grad_()
    gram = torch.eye(N_CLIPS, dtype=exact.dtype, device=DEVICE) + DIM / (N_CLIPS * EPS) * exact @ exact.mT
    expected = 0.5 * torch.logdet(gram).mean()
    (slope,) = torch.autograd.grad(expected, exact)
    print("\n| | rate off by, nats | gradient off by, relative | peak memory, MB |\n|---|---:|---:|---:|")
    for way in WAYS:
        rate, gradient = rate_and_gradient(way, z)
        share = ((gradient - slope).norm() / slope.norm()).item()
        peak = subprocess.run(
            [sys.executable, __file__, way, str(n_patches)], check=True, stdout=subprocess.PIPE, text=True
        )
        print(f"| {way} | {abs(rate - expected).item():.1e} | {share:.1e} | {float(peak.stdout):.0f} |")
    size = f"{z.nbytes / 1e6:.0f} MB"
    print(f"\nThe rate is {expected.item():.2f}. z has {size}, not counted above, and its gradient as many, counted.")


def main() -> None:
    """Two tables for each number of patches."""
    for n_patches, rounds in SIZES.items():
        z = projections(n_patches)
        calls = {way: lambda way=way, z=z: rate_and_gradient(way, z) for way in WAYS}
        title = f"{n_patches} patches, {N_CLIPS} clips, {DIM} numbers"
        compare(title, calls, reference="audiossl", rounds=rounds)
        if "emp-ssl-pytorch" not in WAYS:
            print("| emp-ssl-pytorch | not installed | |")
        print_deviations(n_patches)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print_peak(sys.argv[1], int(sys.argv[2]))
