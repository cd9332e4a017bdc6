"""A real headless browser, and small maps to open in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.data.cached import CachedClips
from audiossl.map.build import write
from audiossl.map.config import MapConfig
from audiossl.map.points import Points, from_clips

SOFTWARE = ["--enable-unsafe-swiftshader"]  # WebGL without a graphics card
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-quic", "--disable-sync"]
# As for a person: sound only after a click.
CAREFUL = ["--autoplay-policy=user-gesture-required"]


def chromium() -> str | None:
    """Where a Chromium is installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium of this machine, without a download of its own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if chromium() is None:
        pytest.skip("no Chromium is installed here (Debian: apt-get install chromium)")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=[*SOFTWARE, *QUIET, *CAREFUL, *sandbox])
        yield started
        started.close()


class Opened:
    """A page in the browser, with what it asked for and complained about."""

    def __init__(self, page: Any) -> None:
        self.page, self.requests, self.problems = page, [], []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda line: line.type == "error" and self.problems.append(line.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def open(self, path: Path, anchor: str = "") -> Opened:
        """Wait until the map is drawn."""
        self.page.goto(path.as_uri() + anchor, timeout=120_000)  # a busy machine
        self.page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        return self

    def state(self, name: str) -> Any:
        """A value of the page's state."""
        return self.page.evaluate(f"audiosslMap.state.{name}")

    def spot(self, point: int, plot: int = 0) -> tuple[float, float]:
        """Where a point lies in the window."""
        x, y = self.page.evaluate(f"audiosslMap.plots[{plot}].at({point})")
        box = self.page.locator(".plot").nth(plot).bounding_box()
        return box["x"] + x, box["y"] + y

    def hover(self, point: int, plot: int = 0) -> None:
        """Move the mouse to a point."""
        self.page.mouse.move(*self.spot(point, plot))

    def text(self, selector: str) -> str:
        """What a person reads there."""
        return self.page.locator(selector).inner_text()

    def wait_for_text(self, selector: str, text: str) -> None:
        """Until it reads so: what a plot's tool has chosen comes with its next frame."""
        self.page.wait_for_function(
            "([selector, text]) => document.querySelector(selector).innerText === text",
            arg=[selector, text],
            timeout=20_000,
        )


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Opened]]:
    """Open a file in a window of its own; further arguments are the window's."""
    contexts = []

    def open_file(path: Path, anchor: str = "", **window: Any) -> Opened:
        context = browser.new_context(viewport=window.pop("viewport", {"width": 1280, "height": 800}), **window)
        contexts.append(context)
        return Opened(context.new_page()).open(path, anchor)

    yield open_file
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def clips(tones: Path) -> CachedClips:
    """Ninety half seconds: three words by six speakers."""
    data = DataConfig(root=str(tones), sample_rate=8000, clip_s=0.5)
    return cache_clips(open_clips(data), data)


@pytest.fixture(scope="session")
def telling(clips: CachedClips) -> np.ndarray:
    """Features (N, 8) that tell the words apart."""
    random = np.random.default_rng(0)
    return (4 * np.eye(8)[clips.label_ids] + random.standard_normal((len(clips), 8))).astype(np.float32)


@pytest.fixture(scope="session")
def blind(clips: CachedClips) -> np.ndarray:
    """Features (N, 8) that tell nothing."""
    return np.random.default_rng(1).standard_normal((len(clips), 8)).astype(np.float32)


@pytest.fixture(scope="session")
def write_map() -> Callable[..., Path]:
    """Write a map, of PCA alone unless settings say otherwise; gives the page."""

    def write_it(points: Points, features: dict[str, dict[str, np.ndarray]], path: Path, **settings: Any) -> Path:
        write(points, features, MapConfig(**{"projections": ["pca"], **settings}), path, lambda text: None)
        return path if path.suffix else path / "index.html"

    return write_it


@pytest.fixture(scope="session")
def two_panels(clips, telling, blind, write_map, tmp_path_factory) -> Path:
    """A page with an encoder that tells the words apart, beside one that tells nothing."""
    path = tmp_path_factory.mktemp("map") / "two.html"
    features = {"telling": {"telling": telling}, "blind": {"blind": blind}}
    return write_map(from_clips(clips, 10.0), features, path, projections=["pca", "tsne"])
