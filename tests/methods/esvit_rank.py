"""One process of `test_esvit_two_ranks`: two optimiser steps of EsViT on its share of a batch, written to a file.

Called as `esvit_rank.py OUT CENTRING` with the environment of torch.distributed; without it, one process takes all.
"""

import os
import sys

import torch
from audiossl.transforms.view_config import MultiCropConfig
from audiossl.transforms.views import MultiCrop, Views
from torch.nn.parallel import DistributedDataParallel

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.methods.esvit import EsViT, EsViTConfig

N_CLIPS = 4


def share(views: Views, rank: int, processes: int) -> Views:
    """The views of this rank's clips: every `processes`-th, as a sampler deals them."""
    mine = torch.arange(rank, N_CLIPS, processes)
    images = [group.unflatten(0, (-1, N_CLIPS))[:, mine].flatten(0, 1) for group in views.images]
    return Views(images, views.boxes[:, mine])


def main(out: str, centring: str) -> None:
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if processes > 1:
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    # Layer norms only: a batch norm on a CPU sees its own rank's clips, so that two ranks are not one process.
    backbone = build_backbone(BackboneConfig("swin_micro"), (32, 32))
    config = EsViTConfig(n_prototypes=16, hidden_dim=16, bottleneck_dim=8, centring=centring)
    method = EsViT(backbone, config).train()
    wrapped = DistributedDataParallel(method) if processes > 1 else method
    optimizer = torch.optim.SGD(method.student.parameters(), lr=0.5)
    crop = MultiCrop(MultiCropConfig(n_locals=1, local_s=[0.5]), (32, 32), 1.0)
    losses = []
    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        views = crop(torch.randn(N_CLIPS, 1, 32, 32, generator=generator), generator)
        result = wrapped(share(views, rank, processes), 0.04)
        optimizer.zero_grad()
        result.loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in method.student.parameters() if p.grad is not None])
        optimizer.step()
        method.update_teacher(0.5)
        losses.append(result.loss.detach())
    loss = torch.stack(losses)
    if processes > 1:
        torch.distributed.all_reduce(loss)
        torch.distributed.destroy_process_group()
    if rank == 0:
        torch.save({"loss": loss / processes, "gradient": gradient, "state": method.state_dict()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
