"""A BYOL step beside byol-pytorch, with the same backbone, views, heads and optimiser.

    python benchmarks/bench_byol_step.py

From two views of a batch to weights and teacher: forward, backward, AdamW, moving average. byol-pytorch with its
simplicial embeddings off, which BYOL does not have, and with nothing of its augmentations: both get the same views.
Both join the two views into one batch, in float32 throughout. "Plain" is the algorithm of the paper as it stands, one
view after the other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec

import torch
from audiossl.transforms.views import Views
from timing import DEVICE, compare
from torch import Tensor, nn
from torch.nn import functional

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.heads import ByolHead
from audiossl.methods.byol import Byol, ByolConfig
from audiossl.optim import OptimConfig, build_optimizer

B, SIZE = 32, (64, 96)
HIDDEN, WIDTH, MOMENTUM = 4096, 256, 0.99  # the paper's heads
BACKBONES = {"resnet10": 5, "vit_tiny": 5}  # rounds


class Features(nn.Module):
    """A backbone that gives its features alone, of the first channel: byol-pytorch tries it with three."""

    def __init__(self, name: str):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = build_backbone(BackboneConfig(name), SIZE)

    def forward(self, image: Tensor) -> Tensor:  # noqa: D102
        return self.backbone(image[:, :1]).features


class Given(nn.Module):
    """In the place of an augmentation: a view that was made before."""

    def __init__(self, view: Tensor):
        super().__init__()
        self.view = view

    def forward(self, image: Tensor) -> Tensor:  # noqa: D102
        return self.view


def adamw(module: nn.Module) -> torch.optim.Optimizer:
    return build_optimizer(module, OptimConfig())


def ours(name: str, views: Tensor) -> Callable[[], Tensor]:
    config = ByolConfig(hidden_dim=HIDDEN, projection_dim=WIDTH, predictor_dim=HIDDEN, view_by_view=False)
    method = Byol(Features(name).backbone, config).to(DEVICE)
    optimizer, both = adamw(method), Views([views.flatten(0, 1)], torch.zeros(2, B, 4, device=DEVICE))

    def step() -> Tensor:
        loss = method(both).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        method.update_teacher(MOMENTUM)
        return loss

    return step


def byol_pytorch(name: str, views: Tensor) -> Callable[[], Tensor]:
    from byol_pytorch import BYOL

    first, second = views
    learner = BYOL(
        Features(name).to(DEVICE), SIZE[0], hidden_layer=-1, projection_size=WIDTH, projection_hidden_size=HIDDEN,
        augment_fn=nn.Identity(), augment_fn2=nn.Identity(), moving_average_decay=MOMENTUM,
        use_simplicial_embeddings=False,
    )  # fmt: skip
    learner.augment2 = Given(second)  # it asks for both views of the same clips
    optimizer = adamw(learner.train())

    def step() -> Tensor:
        loss = learner(first)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.update_moving_average()
        return loss

    return step


def plain(name: str, views: Tensor) -> Callable[[], Tensor]:
    network = Features(name)
    student = nn.Sequential(network, ByolHead(network.backbone.feature_dim, HIDDEN, WIDTH)).to(DEVICE)
    predictor = ByolHead(WIDTH, HIDDEN, WIDTH).to(DEVICE)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = adamw(nn.ModuleList([student, predictor]))

    def step() -> Tensor:
        loss = torch.zeros((), device=DEVICE)
        for view, other in (views, views.flip(0)):
            q = functional.normalize(predictor(student(view)), dim=-1)
            with torch.no_grad():
                z = functional.normalize(teacher(other), dim=-1)
            loss = loss + 2 - 2 * (q * z).sum(-1).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for mine, its in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.copy_(MOMENTUM * mine + (1 - MOMENTUM) * its)
        return loss

    return step


def main() -> None:
    """A table for each backbone."""
    torch.set_num_threads(1)
    for name, rounds in BACKBONES.items():
        views = torch.randn(2, B, 1, *SIZE, generator=torch.Generator().manual_seed(0)).to(DEVICE)
        calls = {"audiossl": ours(name, views), "plain, a view at a time": plain(name, views)}
        if find_spec("byol_pytorch"):
            calls["byol-pytorch"] = byol_pytorch(name, views)
        medians = compare(f"{name}, {B} clips, two views of {SIZE[0]} x {SIZE[1]}", calls, "audiossl", rounds)
        if "byol-pytorch" not in calls:
            print("| byol-pytorch | not installed | |")
        print("\nClips a second: " + ", ".join(f"{way} {B / seconds:.0f}" for way, seconds in medians.items()) + ".")


if __name__ == "__main__":
    main()
