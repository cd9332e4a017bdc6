"""What figures were measured on: date, commit, processor, memory, GPU, and the versions of what is compared."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# By the names of their distributions: what the benchmarks import of ours and of others.
OURS = ("torch", "torchaudio", "torchvision", "numpy", "scipy", "timm", "accelerate", "soundfile", "soxr")
PEERS = (
    "librosa", "nnAudio", "PyWavelets", "ptwt", "ssqueezepy", "tftb", "EMD-signal", "audiomentations",
    "torch-audiomentations", "byol-pytorch", "emp-ssl-pytorch", "scikit-learn", "datasets", "torchcodec", "onnxruntime",
    "bokeh", "plotly",
)  # fmt: skip


def today() -> str:
    """The date in UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def commit() -> str:
    """The commit that was measured, and whether files that it knows had changed since, the measured pages aside."""
    short = _said(["git", "rev-parse", "--short", "HEAD"])
    changed = _said(["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"])
    return (short or "unknown") + (" with changes" if changed else "")


def processor() -> str:
    """The processor's name, and how many of its cores there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0)) if names else os.cpu_count()} x {(names or [platform.machine()])[0]}"


def extensions() -> str:
    """Those of the processor's extensions that decide how fast torch is, and in which precision."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    flags = set(text.partition("flags")[2].partition("\n")[0].split())
    return ", ".join(name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags) or "not known"


def graphics() -> str:
    """Names of the GPUs, or "none"."""
    if shutil.which("nvidia-smi") is None:
        return "none"
    return _said(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]).replace("\n", "; ") or "none"


def load() -> float:
    """Programs that wanted a processor, the mean of the last minute; a benchmark that ran is one of them."""
    return os.getloadavg()[0]


def memory_gb() -> float:
    """Memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def version(distribution: str) -> str:
    """Its version, or "not installed"."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def table() -> str:
    """Two Markdown tables: the machine, and the versions."""
    rows = {
        "date": today(),
        "commit": commit(),
        "processor": f"{processor()} ({extensions()})",
        "memory": f"{memory_gb():.0f} GB",
        "GPU": graphics(),
        "load when begun": f"{load():.1f} programs on {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()}",
    }
    lines = ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    lines += ["", "| package | version |", "|---|---|", *(f"| {name} | {version(name)} |" for name in (*OURS, *PEERS))]
    return "\n".join(lines)


def line() -> str:
    """The same in one line, for a part that was measured by itself."""
    return f"{today()}, commit {commit()}, {processor()}, load {load():.1f}, torch {version('torch')}"


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
