"""Pretraining from waveform to weights: clips a second, what each stage takes of a step, beside the backbone alone.

    python benchmarks/bench_end_to_end.py                     # three methods, three backbones, and two more methods
    python benchmarks/bench_end_to_end.py byol resnet10       # one of them, as JSON

The recipes' own building blocks with their small presets (32 x 48 pictures of a second), on clips that lie in the
cache, in the precision that a run chooses on this machine. Each row is a process of its own: one thread, CPU time, on a
GPU wall time. "Backbone alone" is the student's forward and backward and the teacher's forward of the same views, each
time right behind the step.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from pretraining import ALL_METHODS, METHODS, STAGES, Pretraining, in_a_process, write_clips

# The network of the small presets as they set it (four stages for EsViT and supervised, three for the others), and
# the small ones of the other two families.
NOT_RESNET = ["--backbone.stages", "0", "--backbone.zero_init", "true"]
BACKBONES = {"resnet10": [], "swin_micro": NOT_RESNET, "vit_tiny": NOT_RESNET}
N_CLIPS, STEPS = 1200, 5


def measure(method: str, backbone: str, clips: str) -> None:
    """One process: seconds of each stage, medians over the steps, and clips of a step, as JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        flags = ["--backbone.name", backbone, *BACKBONES[backbone]]
        pretraining = Pretraining(method, Path(clips), Path(scratch), flags)
        steps = pretraining.steps(STEPS)
        found = {stage: statistics.median(step[stage] for step in steps) for stage in STAGES}
        size, precision = pretraining.config.run.batch_size, pretraining.session.precision
        print(json.dumps({**found, "clips": size, "precision": precision}))


def main() -> None:
    """A row for each method and backbone."""
    rows = []
    with tempfile.TemporaryDirectory() as clips:
        write_clips(Path(clips), N_CLIPS)
        for method in ALL_METHODS:
            for backbone in BACKBONES if method in METHODS else ("resnet10",):
                rows.append((method, backbone, in_a_process(method, backbone, clips)))
    print(f"\nMedians of {STEPS} steps, precision {rows[0][2]['precision']}.\n")
    print(
        "| method, backbone | clips a second | backbone alone | ratio | " + " | ".join(f"{s}, %" for s in STAGES) + " |"
    )
    print("|---|" + "---:|" * (3 + len(STAGES)))
    for method, backbone, found in rows:
        total, clips_of_step = sum(found[stage] for stage in STAGES), found["clips"]
        shares = " | ".join(f"{100 * found[stage] / total:.1f}" for stage in STAGES)
        speeds = f"{clips_of_step / total:.0f} | {clips_of_step / found['backbone']:.0f}"
        print(f"| {method}, {backbone} | {speeds} | {found['backbone'] / total:.2f} | {shares} |")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        measure(*sys.argv[1:])
