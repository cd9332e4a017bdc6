"""Loaders that are started and stopped again and again leave nothing, and their workers do not grow over epochs."""

import gc
import os
import runpy
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from audiossl.data.cached import CachedClips, WaveRows
from audiossl.data.loader import training_loader

MEMORY = runpy.run_path(str(Path(__file__).with_name("memory.py")))
anonymous_mb, settled_mb = MEMORY["anonymous_mb"], MEMORY["settled_mb"]
N_CLIPS, N_SAMPLES = 4096, 1600


@pytest.fixture
def clips(tmp_path):
    waves = np.random.default_rng(0).integers(-1000, 1000, (N_CLIPS, N_SAMPLES), dtype=np.int16)
    waves.tofile(tmp_path / "waves.int16")
    blank = [None] * N_CLIPS
    ids = [f"recording {i}.wav" for i in range(N_CLIPS)]
    rows = WaveRows(tmp_path / "waves.int16", N_CLIPS, N_SAMPLES)
    return CachedClips(rows, np.full(N_CLIPS, N_SAMPLES), ids, blank, blank, blank, (), 16000, "clips", "", [])


def children():
    """Numbers of the processes that this one has started itself: a browser of another test has its own below."""
    return {child.pid for child in psutil.Process().children()}


def holdings():
    """What this process holds of the system: children, threads, open files, and its names in shared memory."""
    gc.collect()  # what tests before this one left in cycles is not of the loaders
    process = psutil.Process()
    shared = {name for name in os.listdir("/dev/shm") if f"_{process.pid}_" in name}
    return children(), threading.active_count(), process.num_fds(), shared


def few_batches(clips):
    loader = training_loader(clips, 64, workers=2)
    for n, _ in enumerate(loader):  # stopped on the way: the workers have read ahead
        if n == 3:
            break


@pytest.mark.parametrize("n_starts", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_loaders_that_come_and_go_leave_nothing(clips, n_starts):
    few_batches(clips)
    before, memory_mb = holdings(), settled_mb()
    for _ in range(n_starts):
        few_batches(clips)
    assert holdings() == before
    assert settled_mb() - memory_mb < 16


@pytest.mark.parametrize("n_epochs", [5, pytest.param(200, marks=pytest.mark.slow)])
def test_workers_and_their_parent_do_not_grow_over_epochs(clips, n_epochs):
    loader, others = training_loader(clips, 64, workers=2), children()

    def memory_after(epochs):
        for _ in range(epochs):
            for _ in loader:
                pass
        workers = sorted(children() - others)
        assert len(workers) == 2
        return np.array([settled_mb(), *(anonymous_mb(worker) for worker in workers)])

    first = memory_after(2)
    assert (memory_after(n_epochs) - first < 8).all()
