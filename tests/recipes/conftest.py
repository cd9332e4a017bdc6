"""What the tests of all recipes share: sounds that are no riddle, and a run that is killed on the way."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

RATE = 8000


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """Three "words" by six "speakers" in the layout of Speech Commands: low, high and rising tones in noise."""
    root = tmp_path_factory.mktemp("tones")
    random = np.random.default_rng(0)
    t = np.arange(RATE // 2) / RATE
    for word, (begin, end) in {"low": (300, 300), "high": (2000, 2000), "rise": (400, 1600)}.items():
        (root / word).mkdir()
        for speaker in range(6):
            for take in range(5):
                pitch = np.cumsum(np.linspace(begin, end, len(t)) * (1 + 0.05 * speaker)) / RATE
                wave = 0.3 * np.sin(2 * np.pi * pitch) + 0.05 * random.standard_normal(len(t))
                soundfile.write(root / word / f"{speaker:08x}_nohash_{take}.wav", wave, RATE)
    for name, speaker in (("validation", 4), ("testing", 5)):
        lines = [f"{word}/{speaker:08x}_nohash_{take}.wav" for word in ("low", "high", "rise") for take in range(5)]
        (root / f"{name}_list.txt").write_text("\n".join(lines))
    return root


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
