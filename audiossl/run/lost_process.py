"""The end of a run whose other process has died: one sentence instead of the traceback of a broken connection."""

from __future__ import annotations

import os
import sys
from types import TracebackType

# What gloo and NCCL say when the other end is gone.
PHRASES = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "Timed out waiting",
    "remote process exited",
    "Socket closed",
)


def what_was_lost(error: BaseException) -> str | None:
    """How a broken connection between processes was noticed, or None for another error.

    >>> what_was_lost(RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.2]:33480. GLHF"))
    'Connection closed by peer'
    >>> what_was_lost(RuntimeError("shape mismatch"))
    """
    if not isinstance(error, RuntimeError):  # as all errors of torch.distributed are
        return None
    return next((phrase for phrase in PHRASES if phrase in str(error)), None)


def say_lost_processes(rank: int, count: int) -> None:
    """From now on, let an error that ends this process be one line where another process is to blame."""
    plain = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        how = what_was_lost(error)
        if how is None or os.environ.get("AUDIOSSL_TRACEBACK"):
            plain(kind, error, traceback)
            return
        print(
            f"audiossl: error: process {rank} of {count} has lost another one ({how}): see what that one said last, "
            "and go on with --run.resume.",
            file=sys.stderr,
        )

    if getattr(plain, "__module__", "") != __name__:  # one program may hold several runs
        sys.excepthook = hook
