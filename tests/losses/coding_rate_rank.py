"""One process of `test_gather`: two steps on EMP-SSL's losses of its share of a batch, written to a file.

Called as `coding_rate_rank.py OUT` with the environment of torch.distributed; without it, one process takes all.
"""

import os
import sys

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from audiossl.errors import UserError
from audiossl.losses.coding_rate import coding_rate, max_coding_rate
from audiossl.losses.gather import n_processes
from audiossl.losses.invariance import invariance
from audiossl.losses.projections import unit_rows
from audiossl.losses.uniformity import uniformity

N_PATCHES, N_CLIPS, DIM = 3, 6, 10


def loss_of(z: Tensor, gather: bool) -> Tensor:
    """All three; the invariance weighs as in EMP-SSL, by the largest rate of the batch that the rate looks at."""
    most = max_coding_rate(z.shape[1] * (n_processes() if gather else 1), DIM)
    return uniformity(z, gather=gather) - 1.01 * most * invariance(z) - coding_rate(z, gather=gather).mean()


def learn(batches: list[Tensor], gather: bool) -> dict[str, Tensor]:
    """Losses of two steps on the mean over the batches, and the last gradient."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, DIM)).double()
    wrapped = DistributedDataParallel(network) if n_processes() > 1 else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    losses = []
    for _ in range(2):
        loss = torch.stack([loss_of(unit_rows(wrapped(x)), gather) for x in batches]).mean()
        optimizer.zero_grad()
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        optimizer.step()
        losses.append(loss.detach() / n_processes())
    total = torch.stack(losses)
    if n_processes() > 1:
        torch.distributed.all_reduce(total)
    return {"loss": total, "gradient": gradient}


def refusals(rank: int) -> list[str]:
    """What every process is told when the first one has one clip more."""
    said = []
    for loss in (coding_rate, uniformity):
        try:
            loss(torch.eye(3 - rank, 4).expand(2, -1, -1), gather=True)
        except UserError as error:
            said.append(str(error))
    return said


def main(out: str) -> None:
    rank = int(os.environ.get("RANK", 0))
    x = torch.randn(N_PATCHES, N_CLIPS, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    halves = [x[:, ::2], x[:, 1::2]]
    if "RANK" in os.environ:
        torch.distributed.init_process_group("gloo")
        mine = [halves[rank]]
        found = {"gathered": learn(mine, True), "local": learn(mine, False), "refusals": refusals(rank)}
        torch.distributed.destroy_process_group()
    else:
        found = {"gathered": learn([x], True), "local": learn(halves, False)}
    torch.save(found, f"{out}{rank}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
