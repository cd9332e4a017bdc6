"""Where the time of a pretraining step goes outside of the backbone: torch's profiler, operator by operator.

    python benchmarks/bench_profile.py              # every recipe that pretrains, and the supervised one
    python benchmarks/bench_profile.py byol         # one of them, as JSON

Small presets, ResNet-10, one thread. The operators of whole steps are profiled, then those of the backbone alone on the
same views; those that it does not have are of heads, losses, views, front end and optimiser. Time is each
operator's own, without those that it calls, the least of four steps; the profiler makes many small ones look dearer
than they are.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from pretraining import ALL_METHODS, Pretraining, in_a_process, write_clips
from torch.profiler import ProfilerActivity, profile

STEPS, LISTED = 4, 8


def operators(profiled: Any) -> tuple[Counter[str], Counter[str]]:
    """Own microseconds and calls of each operator, by its name and the shapes of its first two tensors."""
    times, calls = Counter[str](), Counter[str]()
    for event in profiled.key_averages(group_by_input_shape=True):
        if not event.key.startswith("aten::"):
            continue  # brackets around operators: what they have for themselves is Python's
        shapes = [shape for shape in event.input_shapes if shape and all(isinstance(n, int) for n in shape)]
        name = event.key.removeprefix("aten::") + "".join(f", {' x '.join(map(str, shape))}" for shape in shapes[:2])
        times[name] += event.self_cpu_time_total
        calls[name] += event.count
    return times, calls


def least(found: list[Counter[str]]) -> Counter[str]:
    """The least of each operator's times over the steps: the profiler's are wall times, and others use the machine."""
    return Counter({name: min(times[name] for times in found) for name in found[0]})


def measure(method: str, place: str) -> None:
    """One process: shares of a step by operator, the backbone's taken off, as JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        opened = Pretraining(method, Path(place), Path(scratch), [])
        steps = opened.session.steps(opened.loader, 0)
        opened.backbone_alone(opened.step(*next(steps), {}))
        whole, alone = [], []
        for _ in range(STEPS):
            step = next(steps)
            with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
                views = opened.step(*step, {})
            times, calls = operators(profiled)
            whole.append(times)
            with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
                opened.backbone_alone(views)
            alone.append(operators(profiled)[0])
        steps.close()
    of_step, of_backbone = least(whole), least(alone)
    total = sum(of_step.values())
    # What the backbone takes for itself differs by a little each time: that is not what is looked for.
    beyond = Counter({name: of_step[name] for name in of_step if of_backbone[name] < 0.1 * of_step[name]})
    rows = [(name, 100 * own / total, calls[name]) for name, own in beyond.most_common(LISTED)]
    print(json.dumps({"backbone": 100 * sum(of_backbone.values()) / total, "rows": rows}))


def main() -> None:
    """A table for each recipe."""
    with tempfile.TemporaryDirectory() as place:
        write_clips(Path(place), 1200)  # of two labels
        for method in ALL_METHODS:
            found = in_a_process(method, place)
            print(f"\n### {method}\n\nThe backbone's operators: {found['backbone']:.0f} % of the step. Others:\n")
            print("| operator, its operands | share of the step, % | calls a step |\n|---|---:|---:|")
            for name, share, calls in found["rows"]:
                print(f"| {name} | {share:.1f} | {calls:.0f} |")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        torch.set_num_threads(1)
        measure(*sys.argv[1:])
