"""Boxes on a canvas against a canvas, a slice and an interpolation for each clip."""

import pytest
import torch
from audiossl.transforms.crop import Boxes, random_boxes, resample_boxes, view_size
from audiossl.transforms.draws import Draws
from torch.nn.functional import interpolate

BYOL_A = {"canvas": (1.0, 1.5), "band_scale": [0.6, 1.5], "time_scale": [0.6, 1.5]}


def boxes_of(n_clips, size, seed=0, **settings):
    return random_boxes(Draws(torch.Generator().manual_seed(seed)), n_clips, size, **{**BYOL_A, **settings})


def on_a_canvas(image, boxes, b, size, mode):
    """The published way: paste into zeros, slice, interpolate."""
    rows, frames = image.shape[-2:]
    canvas = torch.zeros(1, image.shape[1], 3 * rows, 3 * frames, dtype=image.dtype)
    canvas[:, :, rows : 2 * rows, frames : 2 * frames] = image[b]
    top, left = rows + int(boxes.row[b]), frames + int(boxes.frame[b])
    box = canvas[:, :, top : top + int(boxes.n_rows[b]), left : left + int(boxes.n_frames[b])]
    return interpolate(box, size=size, mode=mode, align_corners=False)[0]


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(64, 96), (33, 17)])
@pytest.mark.parametrize("channels", [1, 2])
def test_boxes_equal_a_loop_over_clips_with_a_canvas(mode, size, channels):
    image = torch.randn(12, channels, 64, 96)
    boxes = boxes_of(12, (64, 96), canvas=(1.3, 1.5))
    out = resample_boxes(image, boxes, size, mode)
    for b in range(12):
        torch.testing.assert_close(out[b], on_a_canvas(image.double(), boxes, b, size, mode).float(), atol=5e-6, rtol=0)


def test_the_whole_picture_at_its_own_size_is_itself():
    image = torch.randn(2, 1, 20, 30)
    whole = Boxes(*(torch.full((2,), value) for value in (0, 20, 0, 30)))
    for mode in ("bicubic", "bilinear"):
        torch.testing.assert_close(resample_boxes(image, whole, (20, 30), mode), image, atol=1e-6, rtol=0)


def test_boxes_are_drawn_as_byol_a_draws_them():
    boxes = boxes_of(20_000, (64, 96))
    assert boxes.n_rows.min() == int(0.6 * 64)
    assert boxes.n_rows.max() == 64  # drawn up to 1.5, cut to the canvas
    assert (boxes.n_rows == 64).float().mean() == pytest.approx(0.5 / 0.9, abs=0.02)
    assert boxes.n_frames.min() == int(0.6 * 96)
    assert boxes.n_frames.max() in (142, 143)
    assert (boxes.n_frames < 96).float().mean() == pytest.approx(0.4 / 0.9, abs=0.02)
    assert boxes.row.min() == 0
    assert (boxes.row + boxes.n_rows).max() == 64
    assert boxes.frame.min() == -24  # half of what the canvas is wider
    assert (boxes.frame + boxes.n_frames).max() == 96 + 24
    assert (boxes.frame + boxes.n_frames / 2).mean().item() == pytest.approx(48.0, abs=0.5)


def test_same_generator_same_boxes():
    assert all(a.equal(b) for a, b in zip(boxes_of(5, (8, 8), 3), boxes_of(5, (8, 8), 3), strict=True))


def test_gradients_reach_the_picture():
    image = torch.randn(2, 1, 6, 5, dtype=torch.float64, requires_grad=True)
    boxes = boxes_of(2, (6, 5))
    assert torch.autograd.gradcheck(lambda picture: resample_boxes(picture, boxes, (4, 4)), image)


def test_sides_of_views_are_multiples_of_16():
    assert view_size(64, 95) == (64, 96)
    assert view_size(3, 40) == (16, 32)
