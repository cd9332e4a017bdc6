"""One process of `test_two_ranks_are_one_process` in test_emp_ssl.py: three steps on its share of a batch.

Called as `emp_ssl_rank.py OUT SPREAD GROUPS` with the environment of torch.distributed; without, one process takes all.
"""

import os
import sys

import torch
from audiossl.transforms import PatchesConfig
from audiossl.transforms.views import Views
from torch.nn.parallel import DistributedDataParallel

from audiossl.backbones import BackboneConfig
from audiossl.bag import BagOfPatches
from audiossl.bag_config import BagConfig
from audiossl.methods.emp_ssl import EmpSsl, EmpSslConfig

N_PATCHES, N_CLIPS = 3, 6


def main(out: str, spread: str, groups: str) -> None:
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if processes > 1:
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    # Layer norms only: a batch norm on a CPU sees its own rank's clips, so that two ranks are not one process.
    heads = BagConfig(n_patches=2, feature_dim=24, projection_dim=16, batch_norm=False)
    bag = BagOfPatches(BackboneConfig("swin_micro"), heads, PatchesConfig(patch_s=0.5), (32, 64), 1.0)
    method = EmpSsl(bag, EmpSslConfig(spread=spread, groups=int(groups))).train()
    wrapped = DistributedDataParallel(method) if processes > 1 else method
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01)
    mine = torch.arange(rank, N_CLIPS, processes)
    images = torch.randn(N_PATCHES, N_CLIPS, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(3):
        views = Views([images[:, mine].flatten(0, 1)], torch.zeros(N_PATCHES, len(mine), 4))
        loss = wrapped(views).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    values = torch.stack(losses)
    if processes > 1:
        torch.distributed.all_reduce(values)
        torch.distributed.destroy_process_group()
    if rank == 0:
        torch.save({"loss": values / processes, "state": method.state_dict()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
