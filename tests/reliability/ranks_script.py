"""One of several processes that train a method on their shares of one batch; a test hands over GIVEN as a global."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import torch
from audiossl.transforms import PatchesConfig
from audiossl.transforms.view_config import MultiCropConfig
from audiossl.transforms.views import MultiCrop, Views
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.bag import BagOfPatches
from audiossl.bag_config import BagConfig
from audiossl.methods.byol import Byol, ByolConfig
from audiossl.methods.contrastive import Contrastive, ContrastiveConfig
from audiossl.methods.emp_ssl import EmpSsl, EmpSslConfig
from audiossl.methods.esvit import EsViT, EsViTConfig
from audiossl.methods.supervised import Supervised, SupervisedConfig, balanced_weights

sys.path.append(str(Path(__file__).parents[1] / "methods"))
from without_batch_norms import without_batch_norms

N_CLIPS, STEPS = 8, 3
LABELS = torch.tensor([0, 1, 0, 2, 0, 2, 1, 0])
NARROW = {"hidden_dim": 24, "projection_dim": 12}
ESVIT = {"n_prototypes": 16, "hidden_dim": 16, "bottleneck_dim": 8}


def build(kind: str) -> nn.Module:
    """A method around the smallest network without batch norms."""
    torch.manual_seed(0)
    if kind == "emp_ssl":
        heads = BagConfig(n_patches=2, feature_dim=24, projection_dim=16, batch_norm=False)
        return EmpSsl(
            BagOfPatches(BackboneConfig("swin_micro"), heads, PatchesConfig(patch_s=0.5), (32, 64), 1.0), EmpSslConfig()
        )
    network = build_backbone(BackboneConfig("swin_micro"), (32, 32))
    return {
        "esvit": lambda: EsViT(network, EsViTConfig(**ESVIT, centring="centre")),
        "esvit_sinkhorn": lambda: EsViT(network, EsViTConfig(**ESVIT, centring="sinkhorn")),
        "byol": lambda: without_batch_norms(Byol(network, ByolConfig(**NARROW, predictor_dim=16))),
        "contrastive": lambda: without_batch_norms(Contrastive(network, ContrastiveConfig(**NARROW, temperature=0.2))),
        "supervised": lambda: Supervised(network, 3, SupervisedConfig(), balanced_weights(LABELS, 3)),
    }[kind]()


def views_of(kind: str, step: int, mine: Tensor) -> Views:
    """The views of this rank's clips out of those of all."""
    generator = torch.Generator().manual_seed(step)
    if kind.startswith("esvit"):
        crop = MultiCrop(MultiCropConfig(n_locals=1, local_s=[0.5]), (32, 32), 1.0)
        views = crop(torch.randn(N_CLIPS, 1, 32, 32, generator=generator), generator)
        images = [group.unflatten(0, (-1, N_CLIPS))[:, mine].flatten(0, 1) for group in views.images]
        return Views(images, views.boxes[:, mine])
    images = torch.randn(2, N_CLIPS, 1, 32, 32, generator=generator)
    return Views([images[:, mine].flatten(0, 1)], torch.zeros(2, len(mine), 4))


def train(kind: str, rank: int, processes: int) -> dict[str, Any]:
    """Three steps; the logs of every step, the last gradient, and the state at the end."""
    method = build(kind).train()
    wrapped = DistributedDataParallel(method) if processes > 1 else method
    learned = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=0.05)
    mine = torch.arange(rank, N_CLIPS, processes)  # as a sampler deals them
    extra = {"esvit": (0.04,), "esvit_sinkhorn": (0.04,), "supervised": (LABELS[mine],)}.get(kind, ())
    logs = []
    for step in range(STEPS):
        out = wrapped(views_of(kind, step, mine), *extra)
        optimizer.zero_grad()
        out.loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in learned if p.grad is not None])
        optimizer.step()
        if hasattr(method, "update_teacher"):
            method.update_teacher(0.5)
        logs.append({name: torch.as_tensor(value).float() for name, value in out.logs.items()})
    if processes > 1:
        for value in itertools.chain.from_iterable(log.values() for log in logs):
            torch.distributed.all_reduce(value)
            value /= processes
    return {"logs": logs, "gradient": gradient, "state": method.state_dict()}


def main(kind: str, rank: int, processes: int, rendezvous: str, out: str) -> None:
    """Train, and let rank 0 write what came out."""
    torch.set_num_threads(1)
    if processes > 1:
        torch.distributed.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=processes)
    found = train(kind, rank, processes)
    if rank == 0:
        torch.save(found, out)
    if processes > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if "GIVEN" in globals():
    main(**globals()["GIVEN"])
