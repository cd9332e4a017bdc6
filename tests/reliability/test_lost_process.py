"""A process of several that is killed ends the others within a minute, in one sentence, and the run can go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

TOY = Path(__file__).parents[1] / "run" / "toy_recipe.py"
pytestmark = pytest.mark.distributed
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--main_process_port", "0"]
LAUNCH += ["--num_processes", "2"]


def start(launcher, out, *flags):
    """The toy recipe, as its users start a real one on CPUs."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(TOY), "--run.out", str(out), *map(str, flags)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rank_of(process):
    try:
        return process.environ().get("RANK") if str(TOY) in process.cmdline() else None
    except psutil.Error:
        return None


def process_of_rank(launcher, rank):
    return next(child for child in psutil.Process(launcher.pid).children(recursive=True) if rank_of(child) == str(rank))


def wait_for(path, launcher, seconds=240):
    end = time.monotonic() + seconds
    while not path.exists():
        assert launcher.poll() is None, launcher.communicate()[0][-3000:]
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.05)


@pytest.mark.parametrize("victim", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_process_ends_the_run_and_the_others_say_so(tmp_path, victim):
    out = tmp_path / "run"
    flags = ("--run.epochs", 100_000, "--run.quiet", "true", "--run.keep", 1)
    launcher = start(LAUNCH, out, *flags)
    try:
        wait_for(out / "metrics.jsonl", launcher)
        process_of_rank(launcher, victim).send_signal(signal.SIGKILL)
        said, _ = launcher.communicate(timeout=60)
    finally:
        launcher.kill()
    assert launcher.returncode != 0
    sentence = f"audiossl: error: process {1 - victim} of 2 has lost another one ("
    assert said.count(sentence) == 1
    assert "--run.resume" in said.split(sentence)[1].splitlines()[0]
    assert "[rank" not in said  # a traceback of torch's
    # Another number of processes is refused: the streams of each are part of the run.
    said, _ = start([sys.executable], out, *flags, "--run.resume", "true").communicate(timeout=240)
    assert "was written by 2 process(es) and now there are 1" in said
