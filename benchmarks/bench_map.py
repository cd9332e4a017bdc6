"""How smoothly a map moves in a headless browser: time from frame to frame while hovering, moving and zooming.

    python benchmarks/bench_map.py            # our page at 5,000 and 20,000 points, beside bare plots of two libraries
    python benchmarks/bench_map.py --points 100000

The same points are drawn by Bokeh (WebGL, and its own hovering), and by Plotly (scattergl) where it is installed: these
two plots do nothing else, while the page also has its card, filters and rings. Chromium draws in software where there
is no graphics card, so the numbers are upper bounds, and only their ratios mean something.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from audiossl.map.build import write
from audiossl.map.config import MapConfig
from audiossl.map.page import scripts
from audiossl.map.points import Column, Points

LABELS = 9
STEPS = 120  # moves of the mouse
COUNT = """() => { window.times = []; window.on = true; let last = performance.now();
  const frame = () => {
    const now = performance.now(); times.push(now - last); last = now; on && requestAnimationFrame(frame); };
  requestAnimationFrame(frame); }"""
COLOURS = ["#4477dd", "#ee7733", "#22aa66", "#dd3366", "#9955cc", "#11aacc", "#bb8822", "#ee88bb", "#778899"]


def clusters(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) in as many clouds as there are labels (n,)."""
    random = np.random.default_rng(0)
    labels = random.integers(0, LABELS, n)
    return (4 * random.standard_normal((LABELS, 2))[labels] + random.standard_normal((n, 2))).astype("f4"), labels


def our_page(folder: Path, n: int) -> Path:
    """The page as `audiossl map` writes it, in a folder, without sounds."""
    x, labels = clusters(n)
    columns = [Column("label", texts=[f"label {label}" for label in labels])]
    points = Points([f"clip {i}" for i in range(n)], columns, lambda i: None, "clouds")
    features = np.concatenate([x, np.ones((n, 1), "f4")], 1)
    config = MapConfig(projections=["pca"], sound="none")
    write(points, {"clouds": {"clouds": features}}, config, folder / "map", lambda text: None)
    return folder / "map" / "index.html"


def bare(folder: Path, n: int, library: str) -> Path:
    """A page with the points alone, drawn by a library that hovers itself."""
    x, labels = clusters(n)
    data = json.dumps({"x": x[:, 0].tolist(), "y": x[:, 1].tolist(), "c": [COLOURS[label] for label in labels]})
    if library == "Plotly":
        import plotly.offline

        code = [plotly.offline.get_plotlyjs()]
        draw = """Plotly.newPlot('plot', [{x: D.x, y: D.y, type: 'scattergl', mode: 'markers', hoverinfo: 'none',
          marker: {size: 6, color: D.c}}], {margin: {l: 0, r: 0, t: 0, b: 0}, hovermode: 'closest', dragmode: 'pan'},
          {scrollZoom: true}).then(() => document.documentElement.dataset.ready = 1);"""
    else:
        code = scripts()[:-1]
        draw = """const source = new Bokeh.ColumnDataSource({data: {x: D.x, y: D.y, c: D.c}});
          const figure = Bokeh.Plotting.figure({width: 900, height: 700, tools: 'pan,wheel_zoom,hover',
            output_backend: 'webgl', toolbar_location: null});
          figure.scatter({field: 'x'}, {field: 'y'}, {source, size: 6, fill_color: {field: 'c'}, line_color: null});
          figure.toolbar.tools.at(-1).tooltips = null;
          figure.toolbar.active_scroll = figure.toolbar.tools[1];
          Bokeh.Plotting.show(figure, '#plot').then(() => document.documentElement.dataset.ready = 1);"""
    body = "".join(f"<script>{part}</script>" for part in [*code, f"const D = {data}; {draw}"])
    path = folder / f"{library}.html"
    place = '<div id="plot" class="plot" style="width:900px;height:700px"></div>'
    path.write_text(f'<!doctype html><meta charset="utf-8">{place}{body}')
    return path


def frames(page: Any, act: Any) -> str:
    """Time from frame to frame in milliseconds while something is done: half, and 95 %, of the time is in shorter ones.

    A median over frames would be that of the many short ones between two that somebody waits for.
    """
    page.evaluate(COUNT)
    act()
    page.evaluate("window.on = false")
    times = np.sort(page.evaluate("window.times")[1:])
    passed = times.cumsum() / max(times.sum(), 1e-9)
    return " / ".join(f"{times[np.searchsorted(passed, share)]:.0f}" for share in (0.5, 0.95)) if len(times) else "-"


def measure(browser: Any, path: Path) -> list[str]:
    """Seconds to open, and frames while hovering, moving and zooming."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    start = time.perf_counter()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached", timeout=240_000)
    opened = time.perf_counter() - start
    box = page.locator(".plot").first.bounding_box()
    page.wait_for_timeout(500)

    def spot(across: float, down: float) -> tuple[float, float]:
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    def hover() -> None:
        for step in range(STEPS):
            page.mouse.move(*spot(0.2 + 0.6 * (step * 7 % STEPS) / STEPS, 0.3 + 0.4 * (step * 13 % STEPS) / STEPS))

    def move() -> None:
        page.mouse.move(*spot(0.5, 0.5))
        page.mouse.down()
        for step in range(STEPS // 2):
            page.mouse.move(*spot(0.5 + 0.2 * step / STEPS, 0.5 + 0.1 * step / STEPS))
        page.mouse.up()

    def zoom() -> None:
        page.mouse.move(*spot(0.5, 0.5))
        for step in range(STEPS // 4):
            page.mouse.wheel(0, -40 if step < STEPS // 8 else 40)

    found = [f"{opened:.1f}", *(frames(page, act) for act in (hover, move, zoom))]
    page.close()
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, nargs="+", default=[5000, 20000])
    given = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None or importlib.util.find_spec("playwright") is None:
        print("bench_map: needs Chromium and playwright; nothing measured")
        return
    from playwright.sync_api import sync_playwright

    peers = ["Bokeh", *(["Plotly"] if importlib.util.find_spec("plotly") else [])]
    print("| points | page | opened, s | hovering, ms | moving, ms | zooming, ms |\n|---:|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--enable-unsafe-swiftshader", "--disable-background-networking", *sandbox]
        )
        for n in given.points:
            place = Path(folder) / str(n)
            place.mkdir()
            pages = {"audiossl map": our_page(place, n), **{f"{name} alone": bare(place, n, name) for name in peers}}
            for name, path in pages.items():
                print(f"| {n:,} | {name} | {' | '.join(measure(browser, path))} |", flush=True)
        browser.close()
    print("\nFrom frame to frame; half / 95 % of the time is in frames no longer; 16.7 is the screen's own rate.")


if __name__ == "__main__":
    main()
