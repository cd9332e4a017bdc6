"""What a run computed with: `environment.txt`, and the precision that this machine is fast in."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import psutil
import torch

from audiossl.errors import UserError

BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
PACKAGES = (
    "audiossl-toolkit",
    "torch",
    "torchvision",
    "torchaudio",
    "timm",
    "accelerate",
    "nnAudio",
    "numpy",
    "soundfile",
    "soxr",
    "datasets",
)


def cpu_flags() -> frozenset[str]:
    """Instruction sets of this CPU as Linux names them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line.split(":", 1)[1] for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(flags.split())


def choose_precision(wanted: str, device: torch.device, flags: frozenset[str]) -> tuple[str, str]:
    """The precision of a run and the reason for it; raises `UserError` for fp16 on a CPU.

    `auto` is bf16 where the hardware multiplies in it (CUDA from Ampere on; CPUs with AMX or AVX512-BF16,
    where it about doubles the rate; elsewhere it is emulated and slower), else fp32.

    >>> choose_precision("auto", torch.device("cpu"), frozenset({"amx_bf16"}))
    ('bf16', 'this CPU has amx_bf16')
    >>> choose_precision("auto", torch.device("cpu"), frozenset({"avx2"}))
    ('fp32', 'no bf16 hardware was found')
    """
    if wanted == "fp16" and device.type == "cpu":
        raise UserError("--run.precision fp16 needs a GPU; on a CPU take bf16, fp32 or auto.")
    if wanted != "auto":
        return wanted, "as --run.precision says"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", f"{name} computes in it"
        return "fp32", f"{name} has no bf16"
    found = sorted(BF16_FLAGS & flags)
    if device.type == "cpu" and found:
        return "bf16", f"this CPU has {' and '.join(found)}"
    return "fp32", "no bf16 hardware was found"


def choose_threads(wanted: int, device: torch.device, processes: int) -> int:
    """Set the CPU threads of this process and give their number.

    `accelerate launch` gives a process one thread unless told otherwise, which halves a run on two cores;
    so 0 means here: the cores of the machine shared by those of the `processes` that it runs, when training on a CPU
    and when OMP_NUM_THREADS was not set to more than that one.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ  # set by `accelerate launch`
    if wanted:
        torch.set_num_threads(wanted)
    elif launched and device.type == "cpu" and torch.get_num_threads() == 1:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))  # launchers of several machines set it
        torch.set_num_threads(max(1, available_cores() // here))
    return torch.get_num_threads()


def available_cores() -> int:
    """Physical cores that this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)


def git_commit(folder: Path) -> str:
    """The commit of the checkout that a folder lies in, `+` when files differ from it, or `none`."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=folder, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "none"
    return "none" if head.returncode else head.stdout.strip() + (" + changes" if changed.returncode else "")


def describe(facts: dict[str, str]) -> str:
    """The text of `environment.txt`: date, command, machine, versions, and the launch facts given."""
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    lines = {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": " ".join(sys.argv),
        "commit": git_commit(Path(__file__).parent),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": f"{_cpu_name()}, {os.cpu_count()} cores, {' '.join(sorted(BF16_FLAGS & cpu_flags()))}",
        "gpu": ", ".join(devices) or "none",
        **facts,
    }
    versions = {package: _version(package) for package in PACKAGES}
    return "".join(f"{name}: {value}\n" for name, value in {**lines, **versions}.items())


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
