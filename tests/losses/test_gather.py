"""Two gloo ranks are one process on the joined batch, or the mean of two halves; batches of two sizes are refused."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiossl.losses.gather import gather_clips, n_processes

SCRIPT = Path(__file__).with_name("coding_rate_rank.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What one process found with the whole batch, and what each of two found with its half."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environments = [{**os.environ, "RANK": str(rank), **world} for rank in range(2)]
    started = [subprocess.Popen([sys.executable, SCRIPT, folder / "two"], env=env) for env in environments]
    started.append(subprocess.Popen([sys.executable, SCRIPT, folder / "one"]))
    assert [process.wait(timeout=240) for process in started] == [0, 0, 0]
    return [torch.load(folder / name) for name in ("one0.pt", "two0.pt", "two1.pt")]


@pytest.mark.distributed
@pytest.mark.parametrize("way", ["gathered", "local"])
def test_two_ranks_are_one_process(results, way):
    one, *ranks = results
    for two in ranks:
        torch.testing.assert_close(two[way]["loss"], one[way]["loss"], atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(two[way]["gradient"], one[way]["gradient"], atol=1e-10, rtol=1e-8)
    assert one[way]["gradient"].abs().max() > 0.1


@pytest.mark.distributed
def test_gathered_and_local_are_not_the_same(results):
    gathered, local = results[1]["gathered"]["gradient"], results[1]["local"]["gradient"]
    assert (gathered - local).norm() > 0.01 * local.norm()


@pytest.mark.distributed
def test_batches_of_different_sizes_are_refused_by_every_process(results):
    for two in results[1:]:
        rate, potential = two["refusals"]
        assert "have shapes (2, 3, 4), (2, 2, 4): give each process as many clips" in rate
        assert "have shapes (3, 4), (2, 4)" in potential


def test_one_process_gathers_nothing():
    z = torch.randn(2, 3, 4)
    assert n_processes() == 1
    assert gather_clips(z, dim=1) is z
