"""Growth of cost and memory: with clips, their length, views, prototypes and patches.

    python benchmarks/bench_growth.py                    # CLIPS=100000 for the row of a hundred thousand clips
    python benchmarks/bench_growth.py clips 1000         # one case, as JSON

Every row is a process of its own, one thread, CPU time (on a GPU wall time), with its peak of memory beside what the
process had before. Steps are those of the small presets with ResNet-10 and one setting changed; medians of three steps
behind a first one. With BENCH_PAGE=PAGE.md the curves are drawn into benchmarks-growth.svg beside it.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from audiossl.transforms import MelConfig
from pretraining import RATE, Pretraining, in_a_process, now, peak_mb, write_clips

from audiossl.backbones import BackboneConfig
from audiossl.data import DataConfig, cache_clips, open_clips, training_loader
from audiossl.encoder import AudioEncoder, EncoderConfig

MOST = int(os.environ.get("CLIPS", "10000"))
STEPS = 3
# By what grows: its values, the unit of the cost, and of what one number of them stands for.
CASES: dict[str, tuple[list[int], str]] = {
    "clips": ([n for n in (1000, 10_000, 100_000) if n <= MOST], "ms a clip: decoded into the cache; then an epoch"),
    "seconds": ([1, 10, 60], "ms a second of sound: embedding eight clips of this length"),
    "views": ([2, 4, 6, 10], "ms a step: EsViT, 64 clips, two global views, the others local"),
    "prototypes": ([512, 4096, 8192, 65536], "ms a step: EsViT, 64 clips, two global and two local views"),
    "patches": ([5, 20, 50, 100], "ms a step: EMP-SSL, 50 clips"),
}


def clips(n: int) -> dict[str, float]:
    """Decode n clips into the cache, then read an epoch of shuffled batches from it."""
    with tempfile.TemporaryDirectory() as place:
        config = DataConfig(root=f"{place}/sounds", cache=f"{place}/cache")
        write_clips(Path(place) / "sounds", n)
        before, start = peak_mb(), now()
        cached = cache_clips(open_clips(config), config, progress=False)
        built, start = now() - start, now()
        for batch in training_loader(cached, 128):
            batch.wave.float().sum()  # touched, as the front end would
        return {"cost": 1e3 * built / n, "second_cost": 1e3 * (now() - start) / n, "mb": peak_mb() - before}


@torch.no_grad()
def seconds(length_s: int) -> dict[str, float]:
    """Embed eight clips at once: mel pictures of 64 rows, ResNet-10."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = AudioEncoder.build(EncoderConfig(MelConfig(), BackboneConfig("resnet10"))).eval().to(device)
    encoder(torch.zeros(8, RATE // 4, device=device))
    wave = 0.1 * torch.randn(8, length_s * RATE, device=device)
    before, costs = peak_mb(), []
    for _ in range(STEPS):
        start = now()
        encoder(wave)
        costs.append(now() - start)
    return {"cost": 1e3 * statistics.median(costs) / (8 * length_s), "mb": peak_mb() - before}


def step(method: str, batch: int, flags: list[str]) -> dict[str, float]:
    """A step of a small preset with other settings."""
    with tempfile.TemporaryDirectory() as place:
        write_clips(Path(place) / "sounds", 2 * batch)
        size = ["--run.batch_size", str(batch)]
        pretraining = Pretraining(method, Path(place) / "sounds", Path(place), [*size, *flags])
        before = peak_mb()
        costs = [sum(stages.values()) for stages in pretraining.steps(STEPS)]
        return {"cost": 1e3 * statistics.median(costs), "mb": peak_mb() - before}


MEASURE: dict[str, Callable[[int], dict[str, float]]] = {
    "clips": clips,
    "seconds": seconds,
    "views": lambda n: step("esvit", 64, ["--views.n_locals", str(n - 2)]),
    "prototypes": lambda n: step("esvit", 64, ["--method.n_prototypes", str(n)]),
    "patches": lambda n: step("emp_ssl", 50, ["--views.n_patches", str(n)]),
}


def draw(found: dict[str, dict[int, dict[str, Any]]], path: Path) -> None:
    """Cost above, memory below, a column for each of what grows; all axes begin at zero, so that straight is linear."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "audiossl"  # the same names in the file each time
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    figure, axes = pyplot.subplots(2, len(found), figsize=(3 * len(found), 5), layout="constrained", squeeze=False)
    for column, (name, rows) in enumerate(found.items()):
        for line, (key, unit) in enumerate((("cost", CASES[name][1].partition(":")[0]), ("mb", "MB more at the peak"))):
            axis = axes[line][column]
            axis.plot(list(rows), [row[key] for row in rows.values()], "o-")
            axis.set(xlabel=name, ylabel=unit)
            axis.set_xlim(left=0)
            axis.set_ylim(bottom=0, top=max(1.0, *(1.1 * row[key] for row in rows.values())))
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    figure.savefig(path, metadata={"Date": None})


def shown(number: float) -> str:
    """Three digits, or whole numbers from a hundred on."""
    return f"{number:.3g}" if number < 100 else f"{number:,.0f}"


def main() -> None:
    """A table for each of what grows."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for name, (values, unit) in CASES.items():
        found[name] = {}
        second = " an epoch, ms a clip |" if name == "clips" else ""
        print(f"\n### {name}\n\n{unit[0].upper() + unit[1:]}.\n")
        print(f"| {name} | {unit.partition(':')[0]} |{second} ratio | memory, MB more |")
        print("|---:|---:|" + ("---:|" if second else "") + "---:|---:|")
        for value in values:
            row = found[name][value] = in_a_process(name, value)
            more = f" {row['second_cost']:.3f} |" if second else ""
            ratio = row["cost"] / found[name][values[0]]["cost"]
            print(f"| {value:,} | {shown(row['cost'])} |{more} {ratio:.2f} | {row['mb']:.0f} |", flush=True)
    if page := os.environ.get("BENCH_PAGE"):
        draw(found, Path(page).with_name("benchmarks-growth.svg"))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        print(json.dumps(MEASURE[sys.argv[1]](int(sys.argv[2]))))
