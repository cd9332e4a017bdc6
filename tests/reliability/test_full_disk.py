"""A disk that fills while a checkpoint is written, a real one of a few megabytes in memory: nothing good is lost."""

import os
import shutil
import subprocess
import sys

import pytest

from audiossl.run.checkpoint import read_state

SIZE_MB = 48


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of `SIZE_MB`."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs Linux and root, to mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", disk], capture_output=True)
    if made.returncode:
        pytest.skip(f"this system mounts no tmpfs: {made.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
def test_the_last_good_checkpoint_of_a_recipe_stays_and_the_run_goes_on_with_more_room(
    start, whole, assert_same_run, small_disk
):
    out = small_disk / "run"
    filler = small_disk / "filler"
    flags = ("--run.keep", 1)
    first = start("byol_speechcommands", out, *flags, "--run.resume")
    while not list(out.glob("checkpoints/epoch-*/position.json")):
        assert first.process.is_alive(), first.output.read_text()
    with open(filler, "wb") as file:  # all that is left, but for a part of a checkpoint
        left = shutil.disk_usage(small_disk).free
        file.write(bytes(max(0, left - 200_000)))
    assert first.ended() == 2, first.output.read_text()[-3000:]
    said = first.output.read_text().split("audiossl: error: ")[1]
    assert len(said.strip().splitlines()) == 1
    assert "make room" in said
    (good,) = out.glob("checkpoints/epoch-*")
    assert read_state(good)["models"]
    filler.unlink()
    second = start("byol_speechcommands", out, *flags, "--run.resume")
    assert second.ended() == 0, second.output.read_text()[-3000:]
    expected = whole("byol_speechcommands")
    assert (out / "encoder/model.safetensors").read_bytes() == (expected / "encoder/model.safetensors").read_bytes()
