"""The page as a person meets it: mouse, keyboard, touch, sound, in headless Chromium."""

from __future__ import annotations

import base64
import csv
import io
import re

import numpy as np
import pytest
from PIL import Image

from audiossl import audio
from audiossl.map.build import write
from audiossl.map.config import MapConfig
from audiossl.map.points import Column, Points, from_clips
from audiossl.search import nearest

BLUE = (0x44, 0x77, 0xDD)  # of the first label


def near(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Count the pixels of that colour."""
    return int((np.abs(image[..., :3].astype(int) - colour).max(-1) < 24).sum())


def screenshot(page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())))


def test_points_are_drawn_in_the_colours_of_their_labels(opened, two_panels):
    shown = opened(two_panels)
    panels = shown.page.locator(".plot")
    assert panels.count() == 2
    for n in range(2):
        image = np.asarray(Image.open(io.BytesIO(panels.nth(n).screenshot())))
        assert near(image, BLUE) > 30 * 20  # thirty clips, a disc of 20 pixels at least
    assert shown.text("#count") == "90 points"
    assert "% of each point's 15 nearest" in shown.text(".caption >> nth=0")


def test_nothing_leaves_the_page_and_nothing_goes_wrong(opened, two_panels):
    shown = opened(two_panels)
    shown.hover(3)
    shown.page.mouse.down()
    shown.page.mouse.up()
    for key in ("p", "c", "e", "e", "t", "a", "Escape", "Escape", "l", "l", "0", "m", "?"):
        shown.page.keyboard.press(key)
    assert shown.problems == []
    assert [url for url in shown.requests if not url.startswith(("data:", "blob:"))] == [two_panels.as_uri()]


def test_hovering_shows_the_card_and_leaving_hides_it(opened, two_panels, clips):
    shown = opened(two_panels)
    assert not shown.page.locator("#card").is_visible()
    shown.hover(7)
    card = shown.text("#card")
    assert clips.ids[7] in card
    assert clips.labels[7] in card
    assert clips.speakers[7] in card
    picture = shown.page.locator("#card > canvas")
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(picture.screenshot()))))) > 20
    shown.page.mouse.move(5, 5)
    assert not shown.page.locator("#card").is_visible()


def test_the_sound_is_the_clips_own_after_one_click_and_stops_on_leaving(opened, two_panels, clips):
    shown = opened(two_panels)
    shown.hover(11)
    shown.page.wait_for_timeout(250)
    assert shown.page.evaluate("document.getElementById('sound').paused")  # nobody clicked yet
    shown.page.click("#sound-switch")
    shown.hover(12)
    shown.page.wait_for_function("!document.getElementById('sound').paused", timeout=5000)
    source = shown.page.evaluate("document.getElementById('sound').src")
    wave, _ = audio.load(base64.b64decode(source.partition("base64,")[2]), 8000)
    truth = clips.waves[12].astype(np.float32)
    n = min(len(wave), len(truth))
    lags = np.correlate(wave[:n], truth[:n] / np.linalg.norm(truth[:n]), "full") / np.linalg.norm(wave[:n])
    others = clips.waves[45].astype(np.float32)
    wrong = np.correlate(wave[:n], others[:n] / np.linalg.norm(others[:n]), "full") / np.linalg.norm(wave[:n])
    assert lags.max() > 0.9 > wrong.max() + 0.2
    shown.page.mouse.move(5, 5)
    shown.page.wait_for_function("document.getElementById('sound').paused", timeout=5000)


def test_hovering_in_one_plot_rings_the_same_clip_in_the_other(opened, two_panels):
    shown = opened(two_panels)
    shown.hover(20, plot=0)
    ring = shown.page.locator(".rings").nth(1).locator(".hovered").bounding_box()
    x, y = shown.spot(20, plot=1)
    assert abs(ring["x"] + ring["width"] / 2 - x) < 1.5
    assert abs(ring["y"] + ring["height"] / 2 - y) < 1.5


def test_the_legend_filters_and_brings_back(opened, two_panels):
    shown = opened(two_panels)
    shown.page.click("#facets details[data-name=label] .value:nth-child(1) button[role=switch]")
    assert shown.text("#count") == "60 of 90 points"
    shown.page.click("#facets details[data-name=label] .all")
    assert shown.text("#count") == "90 points"
    shown.page.click("#facets details[data-name=speaker] summary")
    shown.page.hover("#facets details[data-name=speaker] .value:nth-child(2)")
    shown.page.click("#facets details[data-name=speaker] .value:nth-child(2) .only")
    assert shown.text("#count") == "15 of 90 points"


def test_errors_only_follows_the_plot_that_is_looked_at(opened, two_panels):
    shown = opened(two_panels)
    shown.page.click("#errors")
    right = int(shown.state("n_shown"))
    shown.page.locator(".panel").nth(1).focus()
    wrong = int(shown.state("n_shown"))
    assert right < 10 < 30 < wrong


def test_search_finds_files(opened, two_panels):
    shown = opened(two_panels)
    shown.page.keyboard.press("/")
    shown.page.keyboard.type("rise 00000002")
    assert shown.text("#count") == "5 of 90 points"
    shown.page.keyboard.press("Escape")
    assert shown.text("#count") == "90 points"


def test_a_lasso_fills_the_table_which_is_saved_as_csv(opened, two_panels, clips):
    shown = opened(two_panels)
    shown.page.click("#lasso")
    box = shown.page.locator(".plot").first.bounding_box()
    left, top, right, bottom = box["x"] + 4, box["y"] + 4, box["x"] + box["width"] - 4, box["y"] + box["height"] - 4
    shown.page.mouse.move(left, top)
    shown.page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top + 5)):
        shown.page.mouse.move(x, y, steps=4)
    shown.page.mouse.up()
    shown.wait_for_text("#selected", "90 selected")
    assert shown.page.locator("#rows tbody tr").count() == 90
    with shown.page.expect_download() as download:
        shown.page.click("#save")
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8"))))
    assert [row["file"] for row in rows] == clips.ids
    assert [row["label"] for row in rows] == clips.labels
    power_db = 10 * np.log10(np.mean((clips.waves[0] / 32768.0) ** 2))
    assert float(rows[0]["level"]) == pytest.approx(power_db, abs=1e-3)


def test_arrows_walk_to_the_nearest_in_the_original_space_and_back(opened, two_panels, telling):
    shown = opened(two_panels)
    x = telling
    shown.page.locator(".panel").first.focus()
    shown.page.keyboard.press("ArrowRight")
    first = shown.state("pinned")
    assert first >= 0
    shown.page.keyboard.press("ArrowRight")
    second = shown.state("pinned")
    around = nearest(x, x[[first]], 11).rows[0].tolist()
    around.remove(first)
    assert second == around[0]
    shown.page.keyboard.press("ArrowLeft")
    assert shown.state("pinned") == first
    for _ in range(3):
        shown.page.keyboard.press("ArrowDown")
    shown.page.keyboard.press("ArrowRight")
    assert shown.state("pinned") == around[2]
    assert shown.page.locator("#card .tiles button").count() == 10


def test_space_plays_again(opened, two_panels):
    shown = opened(two_panels)
    shown.page.locator(".panel").first.focus()
    shown.page.keyboard.press("ArrowRight")
    shown.page.keyboard.press(" ")  # the first one enables sound
    shown.page.wait_for_function("document.getElementById('sound').ended", timeout=5000)
    shown.page.keyboard.press(" ")
    shown.page.wait_for_function("!document.getElementById('sound').ended", timeout=5000)
    assert int(shown.page.get_attribute("#sound", "data-point")) == shown.state("pinned")


def test_the_keyboard_alone_selects_and_lets_go(opened, two_panels):
    shown = opened(two_panels)
    for key in ("ArrowRight", "s", "ArrowRight", "s"):
        shown.page.keyboard.press(key)
    shown.wait_for_text("#selected", "2 selected")
    for _ in range(2):
        shown.page.keyboard.press("Escape")
    assert not shown.page.locator("#table").is_visible()
    shown.page.keyboard.press("?")
    assert "search" in shown.text("#help")


def test_every_control_has_a_name_for_screen_readers(opened, two_panels):
    shown = opened(two_panels)
    nameless = shown.page.evaluate(
        "[...document.querySelectorAll('button, input, select, canvas[role=img], section[tabindex]')].filter(item => "
        "!(item.textContent.trim() || item.getAttribute('aria-label') || item.title || item.labels?.length))"
        ".map(item => item.outerHTML)"
    )
    assert nameless == []


def test_dark_and_light(opened, two_panels):
    def brightness(page) -> float:
        return float(screenshot(page)[..., :3].mean())

    light = opened(two_panels, color_scheme="light")
    dark = opened(two_panels, color_scheme="dark")
    assert brightness(light.page) > 200 > 80 > brightness(dark.page)
    dark.page.click("#theme")
    assert brightness(dark.page) > 200


def test_on_a_phone_a_tap_pins_and_the_card_lies_at_the_bottom(opened, two_panels):
    shown = opened(two_panels, viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390
    shown.page.locator(".plot").first.scroll_into_view_if_needed()
    shown.page.touchscreen.tap(*shown.spot(5))
    assert shown.state("pinned") >= 0
    card = shown.page.locator("#card").bounding_box()
    assert card["y"] + card["height"] == pytest.approx(780 - 8, abs=2)
    assert shown.problems == []


def test_colours_by_a_number(opened, two_panels):
    shown = opened(two_panels)
    shown.page.select_option("#colour", "level")
    assert "dB" in shown.text(".scale")
    yellow_or_blue = screenshot(shown.page)
    assert near(yellow_or_blue, (253, 231, 37)) > 20


def test_it_opens_at_the_clip_of_the_address(opened, two_panels, clips):
    shown = opened(two_panels, f"#clip={clips.ids[33]}")
    assert shown.state("pinned") == 33
    assert clips.ids[33] in shown.text("#card strong")


def test_the_slider_moves_the_points_through_the_checkpoints(opened, clips, tmp_path, telling, blind, write_map):
    frames = {"random weights": blind, "after epoch 1": telling / 2 + blind, "last": telling}
    page = write_map(from_clips(clips, 10.0), {"run": frames}, tmp_path / "run.html")
    shown = opened(page, reduced_motion="reduce")
    last = shown.page.evaluate("Array.from(audiosslMap.plots[0].x)")
    assert (shown.text("#frame-name"), shown.page.input_value("#frame")) == ("last", "2")
    shown.page.focus("#frame")
    shown.page.keyboard.press("Home")
    shown.page.keyboard.press("ArrowRight")
    shown.page.keyboard.press("ArrowLeft")
    shown.page.wait_for_function("audiosslMap.plots[0].caption.textContent.startsWith('random weights')")
    assert np.abs(np.array(last) - shown.page.evaluate("Array.from(audiosslMap.plots[0].x)")).max() > 0.1
    shown.page.click("#run")
    shown.page.wait_for_function("audiosslMap.state.frame === 2", timeout=10_000)
    assert shown.problems == []


def test_a_folder_plays_and_shows_what_lies_beside_it(opened, clips, tmp_path, telling, write_map):
    page = write_map(from_clips(clips, 10.0), {"one": {"one": telling}}, tmp_path / "map", sound="flac")
    assert sorted(path.name for path in page.parent.iterdir()) == ["index.html", "pictures", "sounds"]
    shown = opened(page)
    shown.page.click("#sound-switch")
    shown.hover(40)
    shown.page.wait_for_function("!document.getElementById('sound').paused", timeout=5000)
    path = re.sub("^file://", "", shown.page.evaluate("document.getElementById('sound').src"))
    assert np.array_equal(audio.load(path)[0], clips.waves[40] / np.float32(32768))
    picture = shown.page.locator("#card > canvas")
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(picture.screenshot()))))) > 20
    assert all(url.startswith((page.parent.as_uri(), "data:")) for url in shown.requests)
    assert shown.problems == []


HOSTILE = [
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 1">',
    "</script><script>window.hacked = 1</script>",
    "</style><b>bold</b>",
    "‮gnirts‬ عربي שלום",
    "'; alert(1); //",
    "${window.hacked = 1} {{7*7}} &amp; &lt;",
    "line\nbreak\ttab\\u003c",
    "=HYPERLINK(1)",
    "\ud800 alone".encode("utf-8", "backslashreplace").decode(),
]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The page of 3,000 points without sounds."""
    x = np.random.default_rng(0).standard_normal((3000, 4)).astype(np.float32)
    points = Points(
        [f"clip {n}" for n in range(3000)], [Column("label", texts=["a", "b"] * 1500)], lambda n: None, "many"
    )
    path = tmp_path_factory.mktemp("many") / "map.html"
    write(points, {"many": {"many": x}}, MapConfig(projections=["pca"], sound="none"), path, lambda text: None)
    return path


def test_some_points_stand_for_all_while_a_plot_moves_in_software(opened, many):
    shown = opened(many)
    still = "audiosslMap.plots[0].all.visible && !audiosslMap.plots[0].some.visible"
    shown.page.wait_for_function(still, timeout=20_000)  # the first look at all points moved the plot too
    shown.page.evaluate("""() => {
        const { all, some } = audiosslMap.plots[0];
        all.properties.visible.change.connect(() => {
            const { x, y, c } = some.data_source.data;
            if (!all.visible) window.moving = [some.visible, x.length, y.length, c.length];
        });
    }""")
    box = shown.page.locator(".plot").first.bounding_box()
    shown.page.mouse.move(box["x"] + 300, box["y"] + 200)
    shown.page.mouse.down()
    shown.page.mouse.move(box["x"] + 330, box["y"] + 220, steps=3)
    shown.page.wait_for_function("window.moving", timeout=20_000)
    assert shown.page.evaluate("window.moving") == [True, 1500, 1500, 1500]
    shown.page.mouse.up()
    shown.page.wait_for_function(still, timeout=20_000)


def test_names_and_labels_are_text_whatever_they_hold(opened, clips, tmp_path, blind, write_map):
    rows = np.arange(len(HOSTILE))
    points = from_clips(clips, 10.0).rows(rows)
    columns = [Column("label", texts=HOSTILE), Column('<i onmouseover="x">', texts=HOSTILE[::-1])]
    points = Points(HOSTILE, columns, points.sound, points.of)
    features = {HOSTILE[0]: {"<b>": blind[rows]}}
    shown = opened(write_map(points, features, tmp_path / "hostile.html", title="</title>" + HOSTILE[0]))
    for point, name in enumerate(HOSTILE):
        shown.page.evaluate(f"(plot => plot.look(plot.x[{point}], plot.y[{point}], .001))(audiosslMap.plots[0])")
        shown.page.mouse.move(5, 5)
        shown.hover(point)
        assert shown.page.locator("#card strong").text_content() == name
    shown.page.keyboard.press("a")
    assert shown.page.evaluate("window.hacked") is None
    assert shown.page.locator("img").count() == 0
    assert shown.page.locator("#card b, #card i, #facets b, .panel script").count() == 0
    with shown.page.expect_download() as download:
        shown.page.click("#save")
    saved = list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8"), newline="")))
    assert [row["file"].removeprefix("'") for row in saved] == [name.removeprefix("'") for name in HOSTILE]
    assert saved[8]["file"].startswith("'=")  # no spreadsheet runs it
    assert shown.problems == []


@pytest.mark.parametrize(
    ("n", "what"), [(1, "one point"), (2, "two points"), (5, "identical points"), (9, "one class")]
)
def test_small_and_odd_sets_open(opened, clips, tmp_path, n, what, telling, write_map):
    rows = np.arange(n)
    x = np.ones((n, 8), np.float32) if what == "identical points" else telling[rows]
    points = from_clips(clips, 10.0).rows(rows)
    shown = opened(write_map(points, {"one": {"one": x}}, tmp_path / "odd.html", projections=["pca", "tsne"]))
    assert shown.text("#count") == f"{n} points"
    shown.page.keyboard.press("ArrowRight")
    shown.page.keyboard.press("ArrowRight")
    assert 0 <= shown.state("pinned") < n
    assert shown.problems == []


def test_a_sound_that_is_missing_is_said(opened, clips, tmp_path, blind, write_map):
    points = from_clips(clips, 10.0).rows(np.arange(6))
    few = Points(points.names, points.columns, lambda n: None if n == 2 else points.sound(n), points.of)
    shown = opened(write_map(few, {"one": {"one": blind[:6]}}, tmp_path / "missing.html"), f"#clip={clips.ids[2]}")
    assert "could not be read" in shown.text("#card")
    shown.page.click("#sound-switch")
    shown.page.keyboard.press(" ")
    assert shown.page.evaluate("document.getElementById('sound').paused")
    assert shown.problems == []
