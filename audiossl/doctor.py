"""`audiossl doctor`: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from audiossl import __version__

PACKAGES = (
    "timm",
    "accelerate",
    "nnAudio",
    "librosa",
    "datasets",
    "scikit-learn",
    "soundfile",
    "soxr",
    "pyarrow",
)
# Module of the extra, the extra's name, what it is good for.
EXTRAS = (
    ("espeakng_loader", "speech", "the embedded data set spoken_words"),
    ("PyEMD", "rare", "the front end emd"),
    ("onnxruntime", "export", "audiossl export"),
    ("usearch", "search", "audiossl search --approximate"),
)
LOW_SPACE_GB = 5.0  # Speech Commands whole needs 3.4 GB as a cache of clips


@dataclass(frozen=True)
class Finding:
    """One line of the report: `state` is "ok", "note" (works, could be better) or "fix" (does not work)."""

    topic: str
    state: Literal["ok", "note", "fix"]
    text: str


def examine() -> Iterator[Finding]:
    """Look at one thing after the other; a check that fails itself is a finding and never ends the others."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _versions,
        _torch,
        _processor,
        _gpu,
        _cache,
        _audio,
        _extras,
    )
    for check in checks:
        try:
            yield from check()
        except Exception as error:  # whatever is broken here is what the report is for
            yield Finding(check.__name__.strip("_"), "fix", f"{type(error).__name__}: {error}")


def report(as_json: bool = False) -> int:
    """Print the findings as they come, as lines of text or JSON; returns 1 when something must be mended, else 0."""
    worst = 0
    for finding in examine():
        worst = max(worst, finding.state == "fix")
        if as_json:
            print(json.dumps(asdict(finding)), flush=True)
            continue
        mark = {"ok": "  ok ", "note": "note ", "fix": " FIX "}[finding.state]
        print(f"{mark} {finding.topic:<11} {finding.text}", flush=True)
    if not as_json:
        print("\nSomething must be mended: see FIX." if worst else "\nAll that is needed is there.")
    return int(worst)


def _versions() -> Iterator[Finding]:
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("audiossl", "ok", f"{__version__}, {python}, in {Path(__file__).parent}")
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            yield Finding(name, "fix", f"is not installed: pip install {name}")
    yield Finding("packages", "ok", ", ".join(found))


def _torch() -> Iterator[Finding]:
    for name in ("torch", "torchvision", "torchaudio"):
        try:
            importlib.import_module(name)
        except Exception as error:  # builds that do not belong together fail in many ways
            why = str(error).strip().splitlines()
            yield Finding(
                name,
                "fix",
                f"cannot be imported ({why[0] if why else type(error).__name__}): install versions that "
                "belong together, for example pip install -c constraints.txt audiossl-toolkit",
            )
        else:
            yield Finding(name, "ok", metadata.version(name))


def _processor() -> Iterator[Finding]:
    from audiossl.run.environment import BF16_FLAGS, cpu_flags

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    fast = sorted(BF16_FLAGS & cpu_flags())
    if fast:
        yield Finding("CPU", "ok", f"{cores} cores, {', '.join(fast)}: bf16 about doubles the training rate (auto)")
    else:
        yield Finding("CPU", "note", f"{cores} cores, no bf16 units (AMX, AVX512-BF16): training runs in fp32")


def _gpu() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            bf16 = "bf16" if found.major >= 8 else "no bf16, so fp32 unless --run.precision fp16"
            yield Finding("GPU", "ok", f"{index}: {found.name}, {found.total_memory / 2**30:.0f} GiB, {bf16}")
    elif torch.version.cuda is None and shutil.which("nvidia-smi"):
        yield Finding("GPU", "fix", "there is one, but this torch is built without CUDA: install a CUDA build.")
    elif shutil.which("nvidia-smi"):
        yield Finding("GPU", "fix", "there is one, but torch cannot use it: the driver is too old or not loaded.")
    else:
        yield Finding("GPU", "note", "none: presets for CPUs train in minutes, see the recipes")


def _cache() -> Iterator[Finding]:
    from audiossl.data.config import DataConfig, cache_root

    folder = cache_root(DataConfig())
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not os.access(there, os.W_OK):
        yield Finding("cache", "fix", f"{folder} cannot be written: set AUDIOSSL_CACHE to a folder of yours.")
        return
    free = shutil.disk_usage(there).free / 1e9
    text = f"{folder}, {free:.1f} GB free"
    if free < LOW_SPACE_GB:
        yield Finding("cache", "note", f"{text}: that is little; set AUDIOSSL_CACHE to a larger disk")
    else:
        yield Finding("cache", "ok", text)


def _audio() -> Iterator[Finding]:
    from audiossl.audio import readable_formats

    formats = readable_formats()
    missing = [name for name, there in formats.items() if not there]
    yield Finding("audio", "ok", f"reads {', '.join(name for name, there in formats.items() if there)}")
    if missing:
        yield Finding("audio", "note", f"cannot read {', '.join(missing)}: pip install --upgrade soundfile")


def _extras() -> Iterator[Finding]:
    for module, extra, use in EXTRAS:
        if importlib.util.find_spec(module):
            yield Finding("extra", "ok", f"{extra}: {use}")
        else:
            yield Finding("extra", "note", f'{extra} is missing: pip install "audiossl-toolkit[{extra}]" for {use}')
