"""Time several ways to do the same thing in one run: interleaved rounds, median CPU time, ratios to a reference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def compare(
    title: str,
    calls: Mapping[str, Callable[[], object]],
    reference: str,
    rounds: int = 15,
    threads: int = 1,
    wall: bool = False,
    quiet: bool = False,
) -> dict[str, float]:
    """Run every call once a round; print a Markdown table of medians and ratios, and return the medians in seconds.

    With `quiet` nothing is printed: for tables that join several comparisons.

    CPU time of the process, so that other work on the machine shows little; with one thread it is the time of that
    thread. On a GPU, wall time between synchronisations; with `wall` it is wall time on a CPU too, as programs with
    threads of their own need it.
    """
    torch.set_num_threads(threads)
    on_gpu = torch.cuda.is_available()
    clock = time.perf_counter if on_gpu or wall else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # kernels, caches and lazy imports are not what is compared
    for _ in range(rounds):
        for name, call in calls.items():
            if on_gpu:
                torch.cuda.synchronize()
            start = clock()
            call()
            if on_gpu:
                torch.cuda.synchronize()
            seconds[name].append(clock() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    if quiet:
        return medians
    kind = f"{'wall' if wall else 'CPU'} time, {threads} thread{'s' if threads > 1 else ''}"
    device = torch.cuda.get_device_name() if on_gpu else kind
    print(f"\n### {title}\n\nMedian of {rounds} rounds, {device}; ratios to *{reference}*.\n")
    print("| | ms | ratio |\n|---|---:|---:|")
    for name, median in medians.items():
        print(f"| {name} | {1e3 * median:.2f} | {median / medians[reference]:.3g} |")
    return medians
