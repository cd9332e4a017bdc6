"""NT-Xent against equation 1 of SimCLR, pair by pair, and over two processes."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiossl.errors import UserError
from audiossl.losses.nt_xent import nt_xent

TWO_RANKS = """
import sys, torch
from audiossl.losses.nt_xent import nt_xent
rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", rank=rank, world_size=2, init_method=f"file://{sys.argv[2]}/meet")
z = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
mine = z[:, 3 * rank : 3 * rank + 3].clone().requires_grad_()
loss = nt_xent(mine, 0.2, gather=True)
loss.backward()
torch.save((loss.detach(), mine.grad), f"{sys.argv[2]}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def written_out(z, temperature):
    """Equation 1 for all 2 B ordered pairs, in Python's floats."""
    rows = [row / row.norm() for view in z.double() for row in view]
    n_clips, total = z.shape[1], 0.0
    for i, row in enumerate(rows):
        likeness = [float(row @ other) / temperature for other in rows]
        others = sum(math.exp(value) for k, value in enumerate(likeness) if k != i)
        total -= math.log(math.exp(likeness[(i + n_clips) % (2 * n_clips)]) / others)
    return total / len(rows)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("n_clips", [2, 5])
def test_it_is_equation_1(temperature, n_clips):
    z = 3 * torch.randn(2, n_clips, 4, generator=torch.Generator().manual_seed(0))
    assert nt_xent(z, temperature).item() == pytest.approx(written_out(z, temperature), rel=1e-5)


def test_the_order_of_views_and_clips_does_not_matter():
    z = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nt_xent(z.flip(0)), nt_xent(z))
    torch.testing.assert_close(nt_xent(z[:, torch.tensor([3, 0, 5, 1, 2, 4])]), nt_xent(z))


def test_views_that_find_each_other_have_no_loss_and_equal_ones_that_of_chance():
    apart = torch.eye(4).expand(2, -1, -1)
    assert nt_xent(apart, 0.05).item() < 1e-6
    assert nt_xent(torch.ones(2, 8, 4)).item() == pytest.approx(math.log(15))


def test_it_is_computed_in_float32_under_autocast():
    z = torch.randn(2, 6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        low = nt_xent(z)
    torch.testing.assert_close(low, nt_xent(z))


@pytest.mark.distributed
def test_two_ranks_are_one_process(tmp_path):
    run = [sys.executable, "-c", TWO_RANKS]
    started = [subprocess.Popen([*run, str(rank), str(tmp_path)], cwd=Path(__file__).parents[2]) for rank in (0, 1)]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    z = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = nt_xent(z, 0.2)
    loss.backward()
    for rank in (0, 1):
        theirs, gradient = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(theirs, loss.detach())
        # DistributedDataParallel takes the mean over processes: each has twice its share.
        torch.testing.assert_close(gradient / 2, z.grad[:, 3 * rank : 3 * rank + 3])


@pytest.mark.parametrize(
    ("shape", "temperature", "message"),
    [((3, 4, 8), 0.1, "two of every clip"), ((2, 1, 8), 0.1, "found 1"), ((2, 4, 8), 0.0, "temperature is 0")],
)
def test_what_cannot_be_compared_is_said(shape, temperature, message):
    with pytest.raises(UserError, match=message):
        nt_xent(torch.randn(*shape), temperature)
