"""A run that ended, was interrupted or failed leaves nothing: no process, thread, open file, shared memory or part."""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import torch

from audiossl.embed.config import EmbedConfig
from audiossl.embed.corpus import featurize_corpus
from audiossl.errors import UserError
from audiossl.featurize import featurize

RATE = 8000
NAME = "contrastive_speechcommands"
RECIPE = Path(__file__).parents[2] / "recipes" / f"{NAME}.py"
# Readers of their own, and all that comes behind the last epoch.
FULL = {"run__workers": 2, "probe__skip": False, "probe__quick": True, "probe__random_seeds": 0, "run__accumulate": 1}
# Runs the recipe in its own process, then says what the process still holds of the system.
DRIVER = """
import gc, json, os, runpy, sys, threading
import psutil

recipe, *flags = sys.argv[1:]
sys.argv = [recipe, *flags]
ended = None
try:
    runpy.run_path(recipe, run_name="__main__")
except BaseException as error:
    ended = type(error).__name__ + f" {getattr(error, 'code', error)}"
gc.collect()
me = psutil.Process()
shm = [name for name in os.listdir("/dev/shm") if f"_{me.pid}_" in name]
files = [file.path for file in me.open_files() if "site-packages" not in file.path]
others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
threads = [thread.name for thread in others if type(thread).__name__ != "TMonitor"]  # tqdm's, which waits for bars
print(json.dumps({"ended": ended, "children": len(me.children(recursive=True)), "shm": shm, "files": files,
                  "threads": threads}))
"""


@pytest.fixture
def temporary():
    """A folder with a short name, as loader workers want it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def start(words, temporary, tmp_path):
    """Start the recipe in a session of its own, with a temporary folder and a cache of its own."""

    def begin(**changes):
        flags = words(NAME, **{**FULL, **changes, "run__out": tmp_path / "run"})
        environment = {**os.environ, "TMPDIR": str(temporary), "AUDIOSSL_CACHE": str(tmp_path / "cache")}
        command = [sys.executable, "-c", DRIVER, str(RECIPE), *flags]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)

    return begin


def left_by(process, folder, temporary):
    """What the process said that it held at its end, and what it left behind."""
    out, _ = process.communicate(timeout=500)
    held = json.loads(out.splitlines()[-1])
    session = [other.pid for other in psutil.process_iter() if _session(other.pid) == process.pid]
    held["processes"], held["temporary"] = session, sorted(path.name for path in temporary.iterdir())
    parts = [path for path in (folder / "run").rglob("*") if path.name.endswith((".part", ".new", ".tmp"))]
    building = list((folder / "cache").rglob("*.building-*"))
    return held, parts + building


def _session(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


NOTHING = {"children": 0, "shm": [], "files": [], "threads": [], "processes": [], "temporary": []}


@pytest.mark.distributed
def test_a_finished_run_leaves_nothing(start, tmp_path, temporary):
    process = start(run__epochs=1)
    held, parts = left_by(process, tmp_path, temporary)
    assert held.pop("ended") in (None, "SystemExit 0", "SystemExit None")
    assert (held, parts) == (NOTHING, [])


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_but_its_checkpoint(start, tmp_path, temporary, number):
    process = start(run__epochs=500)
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, number)
    held, parts = left_by(process, tmp_path, temporary)
    assert held.pop("ended") == f"SystemExit {128 + number}"
    assert (held, parts) == (NOTHING, [])
    assert list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.distributed
def test_a_run_that_fails_leaves_nothing(start, tmp_path, temporary):
    process = start(run__epochs=1, run__batch_size=100_000)
    held, parts = left_by(process, tmp_path, temporary)
    assert held.pop("ended").startswith("SystemExit")
    assert (held, parts) == (NOTHING, [])


class Levels(torch.nn.Module):
    """Mean and power; `wrong` is raised at the second batch."""

    sample_rate, clip_s, n_samples, dim = RATE, 0.1, 800, 2

    def __init__(self, wrong=None):
        super().__init__()
        self.wrong, self.n_calls = wrong, 0

    def forward(self, wave):
        self.n_calls += 1
        if self.wrong is not None and self.n_calls == 2:
            raise self.wrong
        return torch.stack([wave.mean(1), wave.square().mean(1)], 1)


@pytest.fixture
def sounds(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    noise = np.random.default_rng(0).standard_normal(RATE) * 0.1
    for n in range(40):
        soundfile.write(folder / f"{n}.{('wav', 'flac', 'mp3')[n % 3]}", noise, RATE)
    soundfile.write(folder / "long.mp3", np.tile(noise, 30), RATE)
    return folder


def holdings():
    gc.collect()  # what tests before this one left in cycles is not ours
    process = psutil.Process()
    return (process.children(), threading.active_count(), sorted(f.path for f in process.open_files()))


WRONG = [None, KeyboardInterrupt(), RuntimeError("the network is broken")]


@pytest.mark.parametrize("wrong", WRONG, ids=["finished", "interrupted", "failed"])
def test_featurize_leaves_nothing(sounds, wrong):
    featurize(sounds, Levels(), batch_size=16, progress=False)  # what libraries keep for good is there after it
    before = holdings()
    for _ in range(5):
        if wrong is None:
            assert len(featurize(sounds, Levels(), batch_size=16, progress=False)) == 41
        else:
            with pytest.raises(type(wrong)):
                featurize(sounds, Levels(wrong), batch_size=16, progress=False)
    assert holdings() == before


def test_featurize_leaves_nothing_when_a_recording_ends_it(sounds):
    (sounds / "text.wav").write_text("a poem, renamed")
    featurize(sounds, Levels(), progress=False)
    before = holdings()
    for _ in range(5):
        with pytest.raises(UserError, match=r"text\.wav"):
            featurize(sounds, Levels(), errors="raise", progress=False)
    assert holdings() == before


def test_an_interrupted_corpus_leaves_no_half_shard_and_no_lock(sounds, encoder_folder, tmp_path, monkeypatch):
    arguments = ([str(sounds)], str(encoder_folder), tmp_path / "rows", EmbedConfig(level="window", batch_size=8))
    featurize_corpus([str(sounds / "0.wav")], str(encoder_folder), tmp_path / "other", EmbedConfig(), progress=False)
    before = holdings()
    with monkeypatch.context() as patched:
        patched.setattr("audiossl.embed.shards.ShardWriter.add", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            featurize_corpus(*arguments, progress=False)
    assert [path.name for path in (tmp_path / "rows").iterdir() if path.name.endswith(".part")] == []
    assert holdings() == before
    assert featurize_corpus(*arguments, progress=False).files == 41


def _interrupted(self, rows):
    raise KeyboardInterrupt
