"""A million hours of sound, on paper: arithmetic from the clips a second that the page shows, and nothing measured.

    BENCH_PAGE=docs/benchmarks.md python benchmarks/bench_million_hours.py

Reads the table of `bench_end_to_end.py` on the page, so that it is always that of the figures above it.
"""

from __future__ import annotations

import os
from pathlib import Path

HOURS, CLIP_S, RATE = 1_000_000, 1.0, 16000
CORES = 1024


def rates(page: str) -> dict[str, float]:
    """Clips a second of one thread by "method, backbone", from the page's table."""
    part = page.partition("<!-- end_to_end: begin -->")[2].partition("<!-- end_to_end: end -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("| ")]
    return {row[0]: float(row[1]) for row in rows if row[0] and row[1].isdecimal()}


def main() -> None:
    """The arithmetic, then a row for each method and backbone."""
    place = os.environ.get("BENCH_PAGE")
    found = rates(Path(place).read_text("utf-8")) if place else {}
    if not found:
        print("Needs the part end_to_end of a page, which BENCH_PAGE names.")
        return
    clips = HOURS * 3600 / CLIP_S
    example = next(iter(found))
    days = clips / found[example] / 86400
    print(f"- Clips: {HOURS:,} h x 3,600 s / {CLIP_S:g} s = {clips:.2g} clips of a second in one pass.")
    print(f"- Cache: {clips:.2g} x {RATE:,} samples x 2 bytes = {clips * RATE * CLIP_S * 2 / 1e12:.0f} TB.")
    print(
        f"- One pass of {example}: {clips:.2g} / {found[example]:.0f} clips a second / 86,400 s = {days:,.0f} days of "
        f"one core; / {CORES:,} cores = {24 * days / CORES:.1f} hours.\n"
    )
    print(f"| small preset | clips a second and core | core-days a pass | hours on {CORES:,} cores |")
    print("|---|---:|---:|---:|")
    for name, rate in found.items():
        days = clips / rate / 86400
        print(f"| {name} | {rate:.0f} | {days:,.0f} | {24 * days / CORES:.1f} |")


if __name__ == "__main__":
    main()
