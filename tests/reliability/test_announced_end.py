"""The end of a job as Slurm announces it: SIGUSR1 to every process of the step.

The command stands behind the line that docs/clusters.md gives, without which the launcher dies of the signal.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

TOY = Path(__file__).parents[1] / "run" / "toy_recipe.py"
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "-q", "--main_process_port", "0"]
pytestmark = [pytest.mark.slow, pytest.mark.distributed]


def start(launcher, out, *flags):
    command = shlex.join([*launcher, str(TOY), "--run.out", str(out), *map(str, flags)])
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    words = ["bash", "-c", f"trap '' USR1; exec {command}"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(words, env=environment, **options)


@pytest.mark.parametrize(
    ("launcher", "code"),
    [
        ([sys.executable], 128 + signal.SIGUSR1),
        ([*LAUNCH, "--num_processes", "1"], 1),  # accelerate's own
        ([*LAUNCH, "--multi_gpu", "--num_processes", "2"], 1),
    ],
)
def test_an_announced_end_leaves_a_checkpoint_to_go_on_from(tmp_path, launcher, code):
    out = tmp_path / "run"
    flags = ("--run.epochs", 100_000, "--run.checkpoint_minutes", 100, "--run.keep", 1)
    job = start(launcher, out, *flags)
    end = time.monotonic() + 240
    while not (out / "metrics.jsonl").exists():
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)
    launched = psutil.Process(job.pid)
    for process in (launched, *launched.children(recursive=True)):
        process.send_signal(signal.SIGUSR1)
    try:
        said, _ = job.communicate(timeout=120)
    finally:
        for process in launched.children(recursive=True) if job.poll() is None else ():
            process.kill()
    assert job.returncode == code, said
    assert f"stopped by signal {signal.SIGUSR1.value} after writing" in said
    assert "go on with --run.resume" in said
    (kept,) = out.glob("checkpoints/epoch-*/position.json")
    epoch = int(kept.parent.name[6:10]) + 1
    again = start(launcher, out, "--run.epochs", epoch, *flags[2:], "--run.resume", "true", "--run.new_epochs", "true")
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0, said
    assert f"resumed {kept.parent}" in said
