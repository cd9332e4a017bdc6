"""The compiled kernel of two views against torch's own calls, which gradients and other devices take."""

import numpy as np
import pytest
import torch
from audiossl.transforms import TwoViews, TwoViewsConfig, fused_views, view_kernel
from audiossl.transforms.crop import Boxes, resample_boxes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_kernel_and_by_torch(views, image, seed=2):
    """The same views made twice, the memory as it was before: a picture with a gradient goes torch's way."""
    state = {name: value.clone() for name, value in views.state_dict().items()}
    fast = views(image, generator(seed)).images[0]
    views.load_state_dict(state)
    slow = views(image.clone().requires_grad_(), generator(seed)).images[0]
    assert slow.requires_grad
    return fast, slow.detach()


@pytest.mark.parametrize(
    ("size", "channels", "settings"),
    [
        ((64, 96), 1, {}),
        ((80, 101), 1, {}),  # neither blocks of rows nor blocks of frames come out even
        ((20, 7), 3, {"interpolation": "bilinear"}),
        ((40, 15), 2, {}),  # narrower than what is weighed at a time, and wider by one
        ((40, 15), 1, {"mixup": 0.0}),
        ((40, 17), 1, {}),
        ((64, 96), 2, {"view_s": 0.5}),
        ((33, 50), 1, {"canvas_band": 1.5, "canvas_time": 2.0, "renormalise": False}),
        ((64, 96), 1, {"mixup": 0.0}),
        ((64, 96), 1, {"mixup": 0.99, "fader": 0.0}),
        # Boxes of a few rows and frames, most of them beside the picture.
        ((32, 48), 1, {"canvas_band": 4.0, "canvas_time": 4.0, "band_scale": [0.05, 0.2], "time_scale": [0.05, 0.2]}),
    ],
)
def test_the_kernel_equals_torchs_calls(size, channels, settings):
    views = TwoViews(TwoViewsConfig(memory=8, **settings), size, 1.0, channels)
    fast, slow = by_kernel_and_by_torch(views, torch.randn(5, channels, *size))  # an empty memory
    torch.testing.assert_close(fast, slow, atol=2e-5, rtol=1e-5)
    fast, slow = by_kernel_and_by_torch(views, torch.randn(5, channels, *size), seed=3)
    torch.testing.assert_close(fast, slow, atol=2e-5, rtol=1e-5)


def test_of_two_pictures_each_view_shows_its_own():
    views = TwoViews(TwoViewsConfig(memory=8), (64, 96), 1.0)
    views(torch.randn(8, 1, 64, 96), generator())
    pictures = torch.randn(2, 3, 1, 64, 96)
    state = {name: value.clone() for name, value in views.state_dict().items()}
    fast = views(list(pictures), generator(1)).images[0]
    views.load_state_dict(state)
    slow = views(list(pictures.clone().requires_grad_()), generator(1)).images[0]
    torch.testing.assert_close(fast, slow.detach(), atol=2e-5, rtol=1e-5)


def test_the_kernel_is_what_runs_without_a_gradient(monkeypatch):
    views = TwoViews(TwoViewsConfig(memory=8), (64, 96), 1.0)
    monkeypatch.setattr(views, "_by_torch", None)
    assert views(torch.randn(3, 1, 64, 96), generator()).images[0].isfinite().all()
    with pytest.raises(TypeError):
        views(torch.randn(3, 1, 64, 96, requires_grad=True), generator())


def test_boxes_at_every_edge_equal_boxes_by_torch():
    places = torch.cartesian_prod(*[torch.tensor([-9, -8, -3, 0, 2, 7, 8, 9])] * 2)
    counts = torch.full((len(places),), 8)
    boxes = Boxes(places[:, 0], counts, places[:, 1], counts)
    image = torch.randn(len(places), 1, 8, 8)
    line = torch.randn(len(places), 1, 1, 16)
    for mode in ("bicubic", "bilinear"):
        made = fused_views.make_views(image, None, boxes, line, (16, 16), (8, 8), mode)
        torch.testing.assert_close(made, resample_boxes(image, boxes, (16, 16), mode) + line, atol=1e-5, rtol=0)
    beside = (places.abs() >= 8).any(dim=1)
    assert made[beside].equal(line.expand_as(made)[beside])


def test_sides_that_are_no_multiples_of_sixteen_are_refused():
    boxes = Boxes(*torch.ones(4, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"multiples of 16, found \(12, 16\)"):
        fused_views.make_views(torch.randn(1, 1, 8, 8), None, boxes, torch.zeros(1, 1, 1, 16), (12, 16), (8, 8))


def test_as_many_views_of_each_picture_are_made_or_none():
    boxes = Boxes(*torch.ones(4, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="3 views are not as many of each of 2 pictures"):
        fused_views.make_views(torch.randn(2, 1, 8, 8), None, boxes, torch.zeros(3, 1, 1, 16), (16, 16), (8, 8))


def test_a_picture_that_is_not_a_number_spoils_its_own_views_alone():
    image = torch.randn(4, 1, 64, 96)
    image[1, 0, 10] = torch.nan
    made = TwoViews(TwoViewsConfig(memory=8, renormalise=False), (64, 96), 1.0)(image, generator()).images[0]
    assert made.isfinite().flatten(1).all(dim=1).tolist() == [True, False, True, True] * 2


def test_logarithm_is_exact_to_rounding_over_all_numbers():
    rng = np.random.default_rng(0)
    x = np.concatenate([np.exp(rng.uniform(-87, 88, 100_000)), rng.uniform(0.5, 2.0, 100_000)]).astype(np.float32)
    wanted = np.log(x.astype(np.float64))
    assert (np.abs(logarithms(x) - wanted) <= np.spacing(np.abs(wanted).astype(np.float32))).all()


def test_logarithms_at_the_ends():
    tiny = np.finfo(np.float32).tiny
    made = logarithms(np.resize(np.float32([0.0, 1e-40, tiny, 1.0, np.inf, np.nan]), 16))
    assert made[:3].tolist() == [float(np.log(tiny))] * 3
    assert made[3:5].tolist() == [0.0, np.inf]
    assert np.isnan(made[5])


def logarithms(x):
    """ln(x) of 16 numbers or a multiple, as of sounds that are all background."""
    made = np.empty_like(x)
    mix_all(np.zeros_like(x), x, np.float32(1.0), made)
    return made


@view_kernel.compiled
def mix_all(power, memory, share, mixed):
    for at in range(0, len(power), view_kernel.WIDTH):
        view_kernel._mix_numbers(power, memory, share, mixed, at)


def twice(x):
    return 2 * x


def test_compiled_functions_run_where_no_folder_can_be_written(monkeypatch):
    from numba.core import caching

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert view_kernel.compiled(twice)(3) == 6
