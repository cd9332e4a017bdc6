"""One process of `test_two_ranks_are_one_process` in test_byol.py: three steps on its share of a batch.

Called as `byol_rank.py KIND OUT` with the environment of torch.distributed; without it, one process takes all.
"""

import os
import sys

import torch
from audiossl.transforms.views import Views
from torch.nn.parallel import DistributedDataParallel
from without_batch_norms import without_batch_norms

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.methods.byol import Byol, ByolConfig
from audiossl.methods.contrastive import Contrastive, ContrastiveConfig

N_CLIPS = 6


def main(kind, out):
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if processes > 1:
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig("swin_micro"), (32, 32))
    widths = {"hidden_dim": 24, "projection_dim": 12}
    if kind == "byol":
        method = Byol(backbone, ByolConfig(**widths, predictor_dim=16))
    else:
        method = Contrastive(backbone, ContrastiveConfig(**widths, temperature=0.2))
    method = without_batch_norms(method).train()
    wrapped = DistributedDataParallel(method) if processes > 1 else method
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05)
    mine = torch.arange(rank, N_CLIPS, processes)
    images = torch.randn(2, N_CLIPS, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    losses = []
    for _ in range(3):
        result = wrapped(Views([images[:, mine].flatten(0, 1)], torch.zeros(2, len(mine), 4)))
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        if kind == "byol":
            method.update_teacher(0.9)
        losses.append(result.logs["loss"])
    loss = torch.stack(losses)
    if processes > 1:
        torch.distributed.all_reduce(loss)
        torch.distributed.destroy_process_group()
    if rank == 0:
        torch.save({"loss": loss / processes, "state": method.state_dict()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
