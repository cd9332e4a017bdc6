"""Time several ways to do the same thing in one run: interleaved rounds, median CPU time, ratios to a reference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from threadpoolctl import threadpool_limits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # where ours runs, and every peer that can


def on_cpu(name: str) -> str:
    """The name of a way that works on the CPU alone, which says so where the others run on a GPU."""
    return name if DEVICE == "cpu" else f"{name} (on the CPU)"


def compare(
    title: str,
    calls: Mapping[str, Callable[[], object]],
    reference: str,
    rounds: int = 15,
    threads: int = 1,
    wall: bool = False,
    quiet: bool = False,
    warm: bool = False,
    device: str = DEVICE,
) -> dict[str, float]:
    """Run every call once a round; print a Markdown table of medians and ratios, and return the medians in seconds.

    With `quiet` nothing is printed: for tables that join several comparisons. With `warm` every call that is measured
    comes right after one of its own that is not: what is quick and comes after a slow peer finds its caches cold,
    and took two to six times as long there as its neighbours in the table.

    CPU time of the process, so that other work on the machine shows little; with one thread it is the time of that
    thread. On a GPU, wall time between synchronisations; with `wall` it is wall time on a CPU too, as programs with
    threads of their own need it. `device` is "cpu" where nothing that is compared runs on the GPU that there is.
    """
    torch.set_num_threads(threads)
    on_gpu = device != "cpu"
    clock = time.perf_counter if on_gpu or wall else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    # NumPy's own threads too, which wait in a loop after their work, and would be counted to whoever comes next.
    with threadpool_limits(threads):
        for call in calls.values():
            call()  # kernels, caches and lazy imports are not what is compared
        for _ in range(rounds):
            for name, call in calls.items():
                if warm:
                    call()
                seconds[name].append(seconds_of(call, clock, on_gpu))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    if not quiet:
        kind = f"{'wall' if on_gpu or wall else 'CPU'} time, {threads} thread{'s' if threads > 1 else ''}"
        how = f"{torch.cuda.get_device_name()}, {kind}" if on_gpu else kind
        show(title, f"Median of {rounds} round{'s' if rounds > 1 else ''}, {how}", medians, reference)
    return medians


def seconds_of(call: Callable[[], object], clock: Callable[[], float], on_gpu: bool) -> float:
    """What one call takes by a clock; on a GPU until its work is done."""
    if on_gpu:
        torch.cuda.synchronize()
    start = clock()
    call()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - start


def show(title: str, how: str, medians: Mapping[str, float], reference: str) -> None:
    """Print a Markdown table of medians in seconds."""
    print(f"\n### {title}\n\n{how}; ratios to *{reference}*.\n")
    print("| | ms | ratio |\n|---|---:|---:|")
    for name, median in medians.items():
        print(f"| {name} | {1e3 * median:.2f} | {median / medians[reference]:.3g} |")


def bars(medians: Mapping[str, float], limits: Mapping[tuple[str, str], float]) -> None:
    """Print for pairs of ways how the first one's time is to the second's, the most that it is to be, and the verdict.

    The limits are for ways on the same device: a peer that is not installed, or stays on the CPU beside a GPU and has
    another name for that, gets no verdict.
    """
    print("\nBars:\n")
    for (ours, other), limit in limits.items():
        name = f"{ours} / {other}"
        if ours in medians and other in medians:
            print(f"- {verdict(name, medians[ours] / medians[other], limit)}")
        else:
            print(f"- {name}: not measured here, bar <= {limit:.3g}")


def verdict(name: str, ratio: float, limit: float) -> str:
    """One bar in words.

    >>> verdict("mel / torchaudio", 0.58, 1.0)
    'mel / torchaudio: 0.58, bar <= 1: met'
    """
    return f"{name}: {ratio:.3g}, bar <= {limit:.3g}: {'met' if ratio <= limit else 'missed'}"
