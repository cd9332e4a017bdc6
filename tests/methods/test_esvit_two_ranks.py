"""Two gloo ranks are one process on the joined batch: losses, gradients, centres, teacher."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("esvit_rank.py")


def start(out, centring, **environment):
    return subprocess.Popen([sys.executable, SCRIPT, out, centring], env={**os.environ, **environment})


@pytest.mark.distributed
@pytest.mark.parametrize("centring", ["centre", "sinkhorn"])
def test_two_ranks_are_one_process(tmp_path, centring):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [start(tmp_path / "two.pt", centring, RANK=str(rank), **world) for rank in range(2)]
    started.append(start(tmp_path / "one.pt", centring))
    assert [process.wait(timeout=240) for process in started] == [0, 0, 0]
    one, two = (torch.load(tmp_path / name) for name in ("one.pt", "two.pt"))
    torch.testing.assert_close(two["loss"], one["loss"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(two["gradient"], one["gradient"], atol=1e-5, rtol=1e-3)
    for name, value in one["state"].items():
        torch.testing.assert_close(two["state"][name], value, atol=1e-5, rtol=1e-3, msg=name)
    moved = "centre.centre" if centring == "centre" else "teacher.head.mlp.0.bias"
    assert one["state"][moved].abs().max() > 0
