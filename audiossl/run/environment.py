"""What a run computed with: `environment.txt`, and the precision that this machine is fast in."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import torch

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
    """The precision of a run and the reason for it.

    `auto` is bf16 where the hardware multiplies in it (CUDA from Ampere on; CPUs with AMX or AVX512-BF16, where it at least doubles
    the rate; elsewhere bf16 is emulated and slower), else fp32.

    >>> choose_precision("auto", torch.device("cpu"), frozenset({"amx_bf16"}))[0]
    'bf16'
    >>> choose_precision("auto", torch.device("cpu"), frozenset({"avx2"}))[0]
    'fp32'
    """
    if wanted != "auto":
        return wanted, "as asked by --run.precision"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", f"{torch.cuda.get_device_name(device)} computes in bf16"
        return "fp32", f"{torch.cuda.get_device_name(device)} has no bf16"
    found = sorted({"amx_bf16", "avx512_bf16"} & flags)
    if device.type == "cpu" and found:
        return "bf16", f"this CPU has {' and '.join(found)}"
    return "fp32", "no bf16 hardware was found"


def git_commit(folder: Path) -> str:
    """The commit of the checkout that a folder lies in, `+` when files differ from it, or `none`."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=10
        )
        changed = subprocess.run(
            ["git", "diff", "--quiet", "HEAD"], cwd=folder, capture_output=True, timeout=10
        )
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
        "cpu": f"{_cpu_name()}, {os.cpu_count()} cores, {' '.join(sorted({'amx_bf16', 'avx512_bf16'} & cpu_flags())) or 'no bf16'}",
        "gpu": ", ".join(devices) or "none",
        "threads": str(torch.get_num_threads()),
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
