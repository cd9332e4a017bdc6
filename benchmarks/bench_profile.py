"""Where the time of a pretraining step goes outside of the backbone: torch's profiler, operator by operator.

    python benchmarks/bench_profile.py              # three recipes
    python benchmarks/bench_profile.py byol         # one of them, as JSON

Small presets, ResNet-10, one thread. The operators of whole steps are profiled, then those of the backbone alone on the
same views; what an operator takes beyond the second is heads, losses, views, front end and optimiser. Time is each
operator's own, without those that it calls; the profiler makes many small ones look dearer than they are.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from pretraining import METHODS, Pretraining, in_a_process, write_clips
from torch.profiler import ProfilerActivity, profile

STEPS, LISTED = 2, 6


def operators(profiled: Any) -> tuple[Counter[str], Counter[str]]:
    """Own microseconds and calls of each operator."""
    times, calls = Counter[str](), Counter[str]()
    for event in profiled.key_averages():
        if event.key.startswith(("ProfilerStep", "autograd::engine", "Optimizer.")):
            continue  # brackets around operators: what they have for themselves is Python's
        times[event.key] += event.self_cpu_time_total
        calls[event.key] += event.count
    return times, calls


def measure(method: str, place: str) -> None:
    """One process: shares of a step by operator, the backbone's taken off, as JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        opened = Pretraining(method, Path(place), Path(scratch), [])
        steps = opened.session.steps(opened.loader, 0)
        opened.backbone_alone(opened.step(*next(steps), {}))
        views = []
        with profile(activities=[ProfilerActivity.CPU]) as whole:
            for _ in range(STEPS):
                views.append(opened.step(*next(steps), {}))
        with profile(activities=[ProfilerActivity.CPU]) as alone:
            for of_step in views:
                opened.backbone_alone(of_step)
        steps.close()
    (times, calls), (of_backbone, _) = operators(whole), operators(alone)
    total = sum(times.values())
    beyond = Counter({name: times[name] - of_backbone[name] for name in times})
    rows = [(name, 100 * own / total, calls[name] / STEPS) for name, own in beyond.most_common(LISTED)]
    print(json.dumps({"backbone": 100 * sum(of_backbone.values()) / total, "rows": rows}))


def main() -> None:
    """A table for each recipe."""
    with tempfile.TemporaryDirectory() as place:
        write_clips(Path(place), 600)
        for method in METHODS:
            found = in_a_process(method, place)
            print(f"\n### {method}\n\nThe backbone's operators: {found['backbone']:.0f} % of the step. Beyond them:\n")
            print("| operator | share of the step, % | calls a step |\n|---|---:|---:|")
            for name, share, calls in found["rows"]:
                print(f"| {name.removeprefix('aten::')} | {share:.1f} | {calls:.0f} |")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        torch.set_num_threads(1)
        measure(*sys.argv[1:])
