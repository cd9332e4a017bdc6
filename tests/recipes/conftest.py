"""What the tests of all recipes share: a run that is killed on the way."""

import signal
import subprocess
import sys
import time

import pytest


@pytest.fixture(scope="session")
def kill_in_second_epoch():
    """Start a recipe and kill it when its folder has a checkpoint from within the second epoch, or a little later."""

    def kill(recipe, flags, out, seconds=120):
        process = subprocess.Popen([sys.executable, recipe, *flags, "--run.checkpoint_minutes", "0.00001"])
        end = time.monotonic() + seconds
        try:
            while not any(out.glob("checkpoints/epoch-0001_batch-*")):
                assert process.poll() is None, "the run ended before it could be killed"
                assert time.monotonic() < end, "the run did not get there"
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert not (out / "encoder").exists()

    return kill
