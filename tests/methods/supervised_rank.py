"""One process of `test_two_ranks_are_one_process` in test_supervised.py: three steps on its share of a batch.

Called as `supervised_rank.py OUT` with the environment of torch.distributed; without it, one process takes all.
"""

import os
import sys

import torch
from audiossl.transforms.views import Views
from torch.nn.parallel import DistributedDataParallel

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.methods.supervised import Supervised, SupervisedConfig, balanced_weights

# The ranks get other labels, and clips of other weights: a mean over weights would not be that of one process.
LABELS = torch.tensor([0, 1, 0, 2, 0, 2])


def main(out: str) -> None:
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if processes > 1:
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    # Layer norms only: a batch norm on a CPU sees its own rank's clips, so that two ranks are not one process.
    backbone = build_backbone(BackboneConfig("swin_micro"), (32, 32))
    method = Supervised(backbone, 3, SupervisedConfig(), balanced_weights(LABELS, 3)).train()
    wrapped = DistributedDataParallel(method) if processes > 1 else method
    optimizer = torch.optim.SGD(method.parameters(), lr=0.01)
    mine = torch.arange(rank, len(LABELS), processes)
    images = torch.randn(2, len(LABELS), 1, 32, 32, generator=torch.Generator().manual_seed(1))
    logs = []
    for _ in range(3):
        views = Views([images[:, mine].flatten(0, 1)], torch.zeros(2, len(mine), 4))
        result = wrapped(views, LABELS[mine])
        optimizer.zero_grad()
        result.loss.backward()
        optimizer.step()
        logs.append(torch.stack([result.logs["loss"], result.logs["training_accuracy"]]))
    values = torch.stack(logs)
    if processes > 1:
        torch.distributed.all_reduce(values)
        torch.distributed.destroy_process_group()
    loss, accuracy = (values / processes).unbind(1)
    if rank == 0:
        torch.save({"loss": loss, "training_accuracy": accuracy, "state": method.state_dict()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
