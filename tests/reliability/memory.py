"""How much memory processes have for themselves, apart from maps of files, which the system may drop at any time."""

from __future__ import annotations

import ctypes
import gc
import resource
from pathlib import Path


def anonymous_mb(pid: int | str = "self") -> float:
    """Memory of a process that no file stands behind, in MB (Linux)."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def settled_mb() -> float:
    """The same of this process after it has given back what it does not use."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return anonymous_mb()


def allow_mb(more: int) -> None:
    """Let this process have so much more private memory than now; beyond it, allocating fails."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limit = int(fields["VmData"].split()[0]) * 1024 + more * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
