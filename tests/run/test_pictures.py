"""Pictures of a run: kept, drawn the right way up, with boxes where they belong."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from audiossl.run.pictures import (
    MAX_BINS,
    MAX_FRAMES,
    Box,
    Picture,
    colour_range,
    draw,
    load_pictures,
    save_pictures,
)


def test_pictures_come_back_as_they_were(tmp_path):
    frequencies, image = np.geomspace(60, 7800, 64), np.random.default_rng(0).normal(size=(64, 96))
    boxes = tuple(Box(0.1 * i, 0.1 * i + 0.5, 200, 4000, f"v{i}", local=i > 0) for i in range(2))
    saved = [Picture(image, "whole clip", frequencies, boxes=boxes, clip="up/one")]
    saved += [Picture(-image, f"view {b.label}", frequencies, b.start_s, b.end_s, clip="up/one") for b in boxes]
    save_pictures(tmp_path / "views.npz", saved)
    loaded = load_pictures(tmp_path / "views.npz")
    assert [(p.caption, p.clip, p.boxes, p.start_s, p.end_s) for p in loaded] == [
        (p.caption, p.clip, p.boxes, p.start_s, p.end_s) for p in saved
    ]
    np.testing.assert_allclose(loaded[0].image, saved[0].image, rtol=1e-6)
    np.testing.assert_array_equal(loaded[2].frequencies, saved[2].frequencies)
    assert [p.name for p in tmp_path.iterdir()] == ["views.npz"]


def decoded(svg):
    data = re.search(r"base64,([^\"]+)\"", svg).group(1)
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


def test_low_frequencies_are_drawn_below_and_loud_is_light():
    image = np.zeros((32, 48))
    image[2, 10] = 1.0
    pixels = decoded(draw(Picture(image, "x", np.linspace(0, 8000, 32)), (0.0, 1.0), 1.0)).sum(-1)
    assert np.unravel_index(pixels.argmax(), pixels.shape) == (29, 10)
    assert pixels.shape == (32, 48)


def test_large_pictures_are_averaged_down():
    image = np.random.default_rng(0).random((300, 1000))
    assert decoded(draw(Picture(image, "x", np.arange(300.0)), (0, 1), 1.0)).shape[:2] == (
        MAX_BINS,
        MAX_FRAMES,
    )


def test_boxes_stand_where_their_times_and_frequencies_are():
    frequencies = np.linspace(100, 6500, 64)
    box = Box(0.25, 0.75, frequencies[15], frequencies[47], "crop")
    svg = draw(Picture(np.zeros((64, 96)), "x", frequencies, boxes=(box,)), (0, 1), 1.0, width=200)
    x, y, w, h = (
        float(v) for v in re.search(r'class="box" x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', svg).groups()
    )
    assert w == pytest.approx(100, abs=0.2)
    assert h == pytest.approx(128 * 32 / 64, abs=0.2)
    assert (x, y) == pytest.approx((36 + 50, 8 + 128 * (1 - 47.5 / 64)), abs=0.2)


def test_a_box_beyond_the_clip_is_cut_at_its_edge():
    box = Box(-0.5, 3.0, 1.0, 1e6)
    svg = draw(Picture(np.zeros((8, 8)), "x", np.arange(1.0, 9.0), boxes=(box,)), (0, 1), 1.0, width=200)
    x, _, w, _ = (
        float(v) for v in re.search(r'class="box" x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', svg).groups()
    )
    assert (x, x + w) == pytest.approx((37, 235))


def test_silent_and_broken_pictures_have_a_colour_range():
    silent = Picture(np.zeros((4, 4)), "x", np.arange(4.0))
    broken = Picture(np.full((4, 4), np.nan), "x", np.arange(4.0))
    assert colour_range([silent]) == (0.0, 1.0)
    assert colour_range([broken]) == (0.0, 1.0)
    assert "base64" in draw(broken, colour_range([broken, silent]), 1.0)


def test_a_picture_and_its_frequencies_must_fit():
    with pytest.raises(ValueError, match="frequencies"):
        Picture(np.zeros((4, 5)), "x", np.arange(5.0))
