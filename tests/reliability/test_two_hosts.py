"""Two machines, each with an address of its own, train together by the documented command as two processes of one do.

Linux's network namespaces stand for the machines: each has its own interfaces, ports and loopback.
"""

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "run" / "toy_recipe.py"
ADDRESSES = ("10.213.7.1", "10.213.7.2")
pytestmark = [pytest.mark.slow, pytest.mark.distributed]


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Names of two network namespaces that are joined by a cable."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs Linux, root and iproute2, to make network namespaces")
    tag = uuid.uuid4().hex[:6]
    names, ends = [f"host{n}-{tag}" for n in (0, 1)], [f"eth{n}-{tag}" for n in (0, 1)]
    if ip("netns", "add", names[0], check=False).returncode:
        pytest.skip("this system makes no network namespaces")
    try:
        ip("netns", "add", names[1])
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(names, ends, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield list(zip(names, ends, strict=True))
    finally:
        for name in names:
            ip("netns", "delete", name, check=False)


def start(before, flags, out, **more):
    """The toy recipe behind `before`; flags of the launcher, folder of the run."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **more}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", *flags]
    command = [*before, *launcher, str(TOY), "--run.out", str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def state_file(out):
    return max((out / "checkpoints").glob("epoch-*")) / "state.pt"


def test_two_hosts_end_with_the_weights_of_one(hosts, tmp_path):
    import torch

    alone = start([], ["--main_process_port", "0"], tmp_path / "alone")
    together = [
        start(
            ["ip", "netns", "exec", name],
            ["--num_machines", "2", "--machine_rank", str(rank), "--main_process_ip", ADDRESSES[0],
             "--main_process_port", "29500"],
            tmp_path / "together",
            GLOO_SOCKET_IFNAME=interface,
        )
        for rank, (name, interface) in enumerate(hosts)
    ]  # fmt: skip
    for launcher in (alone, *together):
        said, _ = launcher.communicate(timeout=500)
        assert launcher.returncode == 0, said[-3000:]
    assert "processes: 2" in (tmp_path / "together/environment.txt").read_text()
    one, two = (torch.load(state_file(tmp_path / name), weights_only=True) for name in ("alone", "together"))
    for name, value in one["models"][0].items():
        assert torch.equal(two["models"][0][name], value), name


def test_the_hosts_do_not_see_each_other_s_loopback(hosts):
    # Else the test above would show nothing: the address of the first host is no address of the second.
    for (name, _), address in zip(hosts, reversed(ADDRESSES), strict=True):
        assert address not in ip("-n", name, "address").stdout
