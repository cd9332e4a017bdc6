"""Memory that tensors have freed stays with the process: another one of the size needs no new pages."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

N_BYTES = 64 * 2**20
SCRIPT = f"""
import resource, sys
import torch
from audiossl.run.freed_memory import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else None
for _ in range(10):  # the first ones still shape the heap
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.full(({N_BYTES} // 4,), 1.0)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults)
"""


def the_last_time(word: str, **more: str) -> tuple[str, int]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))} | more
    done = subprocess.run([sys.executable, "-c", SCRIPT, word], env=env, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


def test_a_tensor_of_a_size_that_was_freed_needs_no_new_pages():
    kept, faults = the_last_time("keep")
    if kept == "False":
        pytest.skip("the allocator of this system is not glibc's")
    _, without = the_last_time("leave")
    if without < 1000:
        pytest.skip("this system gives pages of another size, or keeps them anyway")
    assert faults < without / 10


def test_settings_of_whoever_launches_stand():
    assert the_last_time("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] == "False"
