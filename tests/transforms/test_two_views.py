"""BYOL-A's two views against its steps clip by clip, and what can be told of them."""

import pytest
import torch
from audiossl.transforms import TwoViews, TwoViewsConfig
from audiossl.transforms.crop import random_boxes
from audiossl.transforms.draws import Draws
from torch.nn.functional import interpolate

from audiossl.errors import UserError

PLAIN = {"mixup": 0.0, "fader": 0.0, "renormalise": False}
WHOLE = {"time_scale": [1.0, 1.0], "band_scale": [1.0, 1.0], "canvas_time": 1.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_loop(image, memory, config, source):
    """Mix, cut and fade one clip after the other, then normalise: from the same draws, in the same order."""
    n_clips, rows, frames = len(image), *image.shape[-2:]
    draws = Draws(source)
    draws.integers(n_clips, below=1)
    canvas = (config.canvas_band, config.canvas_time)
    boxes = random_boxes(draws, 2 * n_clips, (rows, frames), canvas, config.band_scale, config.time_scale)
    share = draws.uniform(2 * n_clips, high=config.mixup)
    begin, end = draws.uniform(2, 2 * n_clips, low=-config.fader, high=config.fader)
    background = draws.integers(2 * n_clips, below=len(memory)).tolist()
    views = []
    image, memory, share = image.double(), memory.double(), share.double()
    for v in range(2 * n_clips):
        mixed = torch.log((1 - share[v]) * image[v % n_clips].exp() + share[v] * memory[background[v]].exp())
        wide = torch.zeros(1, 1, rows, 2 * frames, dtype=torch.float64)
        wide[0, :, :, frames // 2 : frames // 2 + frames] = mixed
        top, left = int(boxes.row[v]), frames // 2 + int(boxes.frame[v])
        box = wide[:, :, top : top + int(boxes.n_rows[v]), left : left + int(boxes.n_frames[v])]
        view = interpolate(box, size=(rows, frames), mode="bicubic", align_corners=False)[0]
        views.append(view + begin[v] + (end[v] - begin[v]) * torch.linspace(0, 1, frames))
    joined = torch.stack(views)
    return ((joined - joined.mean()) / joined.std(correction=0)).float()


def test_both_views_equal_a_loop_over_clips_at_the_same_draws():
    config = TwoViewsConfig(memory=16)
    views = TwoViews(config, (64, 96), 1.0)
    before, image = torch.randn(10, 1, 64, 96), torch.randn(30, 1, 64, 96)  # more than a piece
    views(before, generator(1))
    out = views(image, generator(2)).images[0]
    torch.testing.assert_close(out, by_loop(image, before, config, generator(2)), atol=1e-5, rtol=1e-5)


def test_same_generator_same_views_and_another_another():
    image = torch.randn(4, 1, 64, 96)
    settings = {"stripes": 0.2, "n_stripes": 2, "band_shift": 0.1, "band_warp": 0.1}
    first, again, other = (TwoViews(TwoViewsConfig(**settings), (64, 96), 1.0)(image, generator(s)) for s in (1, 1, 2))
    assert first.images[0].equal(again.images[0])
    assert first.boxes.equal(again.boxes)
    assert not first.images[0].equal(other.images[0])


def test_a_view_without_change_is_the_picture_itself():
    image = torch.randn(3, 1, 64, 96)
    out = TwoViews(TwoViewsConfig(**PLAIN, **WHOLE), (64, 96), 1.0)(image, generator())
    torch.testing.assert_close(out.images[0], torch.cat([image, image]), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.boxes, torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(2, 3, 4))


def test_boxes_say_where_a_view_was_cut():
    # A picture whose value is its own time in seconds: the middle column of a view is the middle of its box.
    n_frames, clip_s = 384, 4.0
    seconds = ((torch.arange(n_frames) + 0.5) / n_frames * clip_s).expand(6, 1, 64, n_frames)
    config = TwoViewsConfig(view_s=1.0, **{**PLAIN, "time_scale": [0.5, 0.8]}, canvas_time=1.0)
    out = TwoViews(config, (64, n_frames), clip_s)(seconds, generator())
    middle = out.images[0].view(2, 6, 64, 96)[:, :, 32, 47:49].mean(-1)
    torch.testing.assert_close(middle, out.boxes[..., :2].mean(-1), atol=1e-3, rtol=0)
    assert (out.boxes[0, :, 0] - out.boxes[1, :, 0]).abs().max() <= 1.0  # both within one segment of a second
    assert out.boxes[0, :, 0].std() > 0.3  # and the segments lie all over the clips


def test_views_of_a_batch_have_mean_0_and_deviation_1_together():
    out = TwoViews(TwoViewsConfig(memory=4), (64, 96), 1.0)(3.0 + 2.0 * torch.randn(5, 1, 64, 96), generator()).images[
        0
    ]
    assert out.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert out.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)


def test_a_resumed_run_draws_the_same_views():
    first, second = (TwoViews(TwoViewsConfig(memory=6), (64, 96), 1.0) for _ in range(2))
    images = torch.randn(3, 4, 1, 64, 96)
    first(images[0], generator(0))
    first(images[1], generator(1))
    second.load_state_dict(first.state_dict())
    assert first(images[2], generator(2)).images[0].equal(second(images[2], generator(2)).images[0])


@pytest.mark.parametrize("size", [(32, 48), (16, 500)])
def test_pictures_of_other_sizes_and_silence(size):
    views = TwoViews(TwoViewsConfig(memory=4, stripes=0.3, band_shift=0.2, band_warp=0.1), size, 1.0)
    for image in (torch.randn(3, 1, *size), torch.full((3, 1, *size), -3.0)):
        for _ in range(2):
            assert views(image, generator()).images[0].isfinite().all()


def test_parameters_are_printed():
    text = repr(TwoViews(TwoViewsConfig(memory=7), (64, 96), 1.0))
    assert "mixup=0.2" in text
    assert "n_clips=7" in text


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mixup": 1.0}, r"--views\.mixup must be from 0 to below 1, found 1\.0"),
        ({"time_scale": [1.5, 0.6]}, r"--views\.time_scale must be two numbers, the smaller first"),
        ({"canvas_time": 0.5}, r"--views\.canvas_time must be at least 1"),
        ({"interpolation": "cubic"}, r"--views\.interpolation must be bicubic or bilinear"),
        ({"band_warp": 0.3}, r"--views\.band_warp must be from 0 to below 0\.25"),
        ({"memory": 0}, r"--views\.memory must be above 0"),
        ({"view_s": 2.0}, r"--views\.view_s 2 is longer than a clip of 1 s"),
    ],
)
def test_settings_that_make_no_view_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        TwoViews(TwoViewsConfig(**settings), (64, 96), 1.0)


def test_of_two_pictures_each_view_shows_its_own():
    views = TwoViews(TwoViewsConfig(**PLAIN, **WHOLE), (32, 48), 1.0)
    one, other = torch.randn(2, 3, 1, 32, 48).unbind(0)
    seen = views([one, other], torch.Generator().manual_seed(0)).images[0]
    torch.testing.assert_close(seen, torch.cat([one, other]), atol=1e-5, rtol=1e-4)


def test_a_pictures_gradient_flows_through_backgrounds_and_crops():
    views = TwoViews(TwoViewsConfig(memory=8), (32, 48), 1.0)
    generator = torch.Generator().manual_seed(0)
    views(torch.randn(4, 1, 32, 48), generator)  # something to be mixed in
    image = torch.randn(4, 1, 32, 48, requires_grad=True)
    views(image, generator).images[0].square().sum().backward()
    assert image.grad.isfinite().all()
    assert (image.grad.abs().sum((1, 2, 3)) > 0).all()
    assert not views.memory.power.requires_grad
