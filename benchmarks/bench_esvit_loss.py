"""EsViT's view and region losses beside the plain formulas: time, peak memory, deviation of losses and gradients.

    python benchmarks/bench_esvit_loss.py

Both begin with what the heads make before their last layers (256 numbers a row) and end with gradients there and in the
prototypes; products with the prototypes are included. Two global views of 49 regions and eight local ones of 9, as in
the paper. Each way runs in processes of its own, in turn: CPU time on one thread, the mean of two processes, each
after a first call that does not count, and the peak of memory. On a GPU: wall time between synchronisations, and the
peak of what torch allocated.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from audiossl.losses.dino import Centre, sinkhorn_targets, view_loss
from audiossl.losses.match import match_by_features
from audiossl.losses.region import region_loss

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# K, B, how targets are made, and the precision of the run around: under bf16 both ways may round factors of products.
SIZES = [
    (65536, 16, "centre", "fp32"),
    (65536, 16, "sinkhorn", "fp32"),
    (8192, 64, "centre", "fp32"),
    (8192, 64, "sinkhorn", "bf16"),
]
ROUNDS = 2
GROUPS = [(2, 49), (8, 9)]  # views and regions of a view
DIM, WIDTH, T_STUDENT, T_TEACHER = 256, 768, 0.1, 0.04


class Inputs:
    """What student and teacher give to the losses, the same for both ways."""

    def __init__(self, n_prototypes: int, n_clips: int):
        torch.manual_seed(0)
        self.layers = [weight_norm(nn.Linear(DIM, n_prototypes, bias=False)).to(DEVICE) for _ in range(4)]
        self.view, self.region, self.view_t, self.region_t = self.layers
        self.z_views = _units(sum(v for v, _ in GROUPS), n_clips)
        self.z_regions = [_units(v, n_clips, p) for v, p in GROUPS]
        self.features = [torch.randn(v, n_clips, p, WIDTH, device=DEVICE) for v, p in GROUPS]
        self.teacher_views, self.teacher_regions = _units(2, n_clips).detach(), _units(2, n_clips, 49).detach()
        self.teacher_features = torch.randn(2, n_clips, 49, WIDTH, device=DEVICE)
        self.centres = [Centre(n_prototypes).to(DEVICE) for _ in range(2)]

    def gradients(self) -> dict[str, Tensor]:
        """Of everything that has one, which is then forgotten."""
        named = {"views": self.z_views, **{f"regions {n}": z for n, z in enumerate(self.z_regions)}}
        for name, layer in (("view", self.view), ("region", self.region)):
            named |= {f"{name} {part}": parameter for part, parameter in layer.named_parameters()}
        found = {name: tensor.grad.cpu() for name, tensor in named.items() if tensor.grad is not None}
        for tensor in named.values():
            tensor.grad = None
        return found


def _units(*shape: int) -> Tensor:
    return functional.normalize(torch.randn(*shape, DIM, device=DEVICE), dim=-1).requires_grad_()


def ours(x: Inputs, centring: str) -> Tensor:
    """The losses of this library."""
    with torch.no_grad():
        prototypes_t = [x.view_t.weight, x.region_t.weight]
    teachers = [x.teacher_views, x.teacher_regions]
    targets: list[Any] = []
    for z, w, centre in zip(teachers, prototypes_t, x.centres, strict=True):
        if centring == "centre":
            centre.observe(z, w)
            targets.append(centre.targets(z, w, T_TEACHER))
        else:
            targets.append(sinkhorn_targets(z, w, T_TEACHER))
    of_views = view_loss(x.z_views, x.view.weight, targets[0], 2, T_STUDENT)
    begins = 49 * torch.arange(len(x.features[0][0]))[:, None]
    matches = [(match_by_features(f, x.teacher_features) + begins)[..., None] for f in x.features]
    weights = [torch.full_like(m[0], 1.0 / m.shape[3], dtype=torch.float32) for m in matches]
    of_regions = region_loss(x.z_regions, matches, weights, 49, x.region.weight, targets[1], T_STUDENT)
    return 0.5 * of_views + 0.5 * of_regions


def plain(x: Inputs, centring: str) -> Tensor:
    """The formulas of the papers as they stand: all logits, then pair after pair."""
    with torch.no_grad():
        q_views = plain_targets(x.view_t(x.teacher_views), x.centres[0], centring)
        q_regions = plain_targets(x.region_t(x.teacher_regions), x.centres[1], centring)
    s_views = x.view(x.z_views) / T_STUDENT
    s_regions = [view for z in x.z_regions for view in x.region(z) / T_STUDENT]
    features = [view for group in x.features for view in group]
    total, pairs = torch.zeros((), device=DEVICE), 0
    for i in range(2):
        for v in range(len(s_views)):
            if v == i:
                continue
            of_view = -(q_views[i] * functional.log_softmax(s_views[v], -1)).sum(-1).mean()
            with torch.autocast(DEVICE, enabled=False):  # in bf16 other regions would be matched, and nothing be equal
                cosine = functional.normalize(features[v], dim=-1) @ functional.normalize(
                    x.teacher_features[i], dim=-1
                ).transpose(1, 2)
            match = cosine.argmax(-1, keepdim=True).expand(-1, -1, q_regions.shape[-1])
            q = q_regions[i].gather(1, match)
            of_region = -(q * functional.log_softmax(s_regions[v], -1)).sum(-1).mean()
            total, pairs = total + 0.5 * of_view + 0.5 * of_region, pairs + 1
    return total / pairs


def plain_targets(logits: Tensor, centre: Centre, centring: str) -> Tensor:
    """Softmax of the centred logits, or three rounds of Sinkhorn-Knopp over the rows of each view."""
    if centring == "centre":
        centre._sum = logits.flatten(0, -2).sum(0)  # the mean that moves the centre
        return functional.softmax((logits - centre.centre) / T_TEACHER, -1)
    q = torch.exp(logits.float() / T_TEACHER).flatten(1, -2)
    for _ in range(3):
        q = q / q.sum(1, keepdim=True)
        q = q / q.sum(2, keepdim=True)
    return q.view_as(logits)


WAYS: dict[str, Callable[[Inputs, str], Tensor]] = {"plain formulas": plain, "audiossl": ours}


def measure(way: str, n_prototypes: int, n_clips: int, centring: str, precision: str, out: str) -> None:
    """One process: time and memory as JSON, loss and gradients into a file."""
    torch.set_num_threads(1)
    inputs = Inputs(n_prototypes, n_clips)
    before = _peak_mb()
    for _ in range(2):
        start = _clock()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16"):
            loss = WAYS[way](inputs, centring)
        loss.backward()
        seconds = _clock() - start
        sums = [centre._sum.cpu() for centre in inputs.centres if centre._sum is not None]
        for centre in inputs.centres:
            centre._sum, centre._rows = None, 0
        gradients = inputs.gradients()
    peak = _peak_mb()
    torch.save({"loss": loss.item(), "gradients": gradients, "sums": sums}, out)
    print(json.dumps({"s": seconds, "peak_mb": peak, "inputs_mb": before}))


def _clock() -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _peak_mb() -> float:
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def deviations(mine: dict[str, Any], other: dict[str, Any]) -> str:
    """Largest differences: of the loss, of gradients and centres as a share of the largest value."""
    loss = abs(mine["loss"] - other["loss"])
    share = max(
        ((g - other["gradients"][name]).abs().max() / other["gradients"][name].abs().max()).item()
        for name, g in mine["gradients"].items()
    )
    sums = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(mine["sums"], other["sums"], strict=True)]
    return f"loss {loss:.1e}, gradients {share:.1e}, centres {max(sums, default=0.0):.1e}"


def main() -> None:
    """A table for each size."""
    for n_prototypes, n_clips, centring, precision in SIZES:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        with tempfile.TemporaryDirectory() as folder:
            files = {way: str(Path(folder) / f"{number}.pt") for number, way in enumerate(WAYS)}
            for way in list(WAYS) * ROUNDS:
                case = [str(n_prototypes), str(n_clips), centring, precision]
                call = [sys.executable, __file__, way, *case, files[way]]
                run = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
                found[way].append(json.loads(run.stdout))
            results = [torch.load(file) for file in files.values()]
        seconds = {way: statistics.median(row["s"] for row in rows) for way, rows in found.items()}
        peaks = {way: statistics.median(row["peak_mb"] for row in rows) for way, rows in found.items()}
        print(f"\n### {n_prototypes} prototypes, {n_clips} clips, {centring}, {precision}\n")
        print("| | s | ratio | peak MB | ratio |\n|---|---:|---:|---:|---:|")
        for way in WAYS:
            ratios = seconds[way] / seconds["plain formulas"], peaks[way] / peaks["plain formulas"]
            print(f"| {way} | {seconds[way]:.2f} | {ratios[0]:.2f} | {peaks[way]:.0f} | {ratios[1]:.2f} |")
        inputs = found["audiossl"][0]["inputs_mb"]
        print(f"\nBefore the loss: {inputs:.0f} MB. Deviation: {deviations(results[1], results[0])}.")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        name, k, b, centring, precision, out = sys.argv[1:]
        measure(name, int(k), int(b), centring, precision, out)
