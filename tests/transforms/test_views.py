"""Views: where they lie, what they show, that they can be drawn again."""

import pytest
import torch
from audiossl.transforms.view_config import MultiCropConfig
from audiossl.transforms.views import Crops, MultiCrop, crop_and_resize

from audiossl.errors import UserError

PLAIN = {
    "mixup": 0.0,
    "fader": 0.0,
    "band_stretch": [1.0, 1.0],
    "global_time": [1.0, 1.0],
    "local_time": [1.0, 1.0],
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_same_generator_same_views_and_another_another():
    image = torch.randn(4, 1, 64, 96)
    views = MultiCrop(MultiCropConfig(equaliser=0.3, noise=0.5, stripes=0.2), (64, 96), 1.0)
    first, again, other = views(image, generator(1)), views(image, generator(1)), views(image, generator(2))
    for a, b, c in zip(first.images, again.images, other.images, strict=True):
        assert a.equal(b)
        assert not a.equal(c)
    assert first.boxes.equal(again.boxes)


def test_a_global_view_without_change_is_the_picture_itself():
    image = torch.randn(3, 1, 64, 96)
    out = MultiCrop(MultiCropConfig(n_locals=0, **PLAIN), (64, 96), 1.0)(image, generator())
    torch.testing.assert_close(out.images[0], torch.cat([image, image]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out.boxes, torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(2, 3, 4), atol=1e-6, rtol=0)


def test_boxes_say_where_a_local_view_was_cut():
    # A picture whose value is its own time, from 0 to 2 s: a view's columns read back the box.
    n_frames, clip_s = 192, 2.0
    seconds = (torch.arange(n_frames) + 0.5) / n_frames * clip_s
    image = seconds.expand(5, 1, 64, n_frames).contiguous()
    config = MultiCropConfig(n_locals=3, global_s=1.0, local_s=[0.5], **PLAIN)
    out = MultiCrop(config, (64, n_frames), clip_s)(image, generator(3))
    locals_ = out.images[1].view(3, 5, 64, 48)
    for v in range(3):
        for b in range(5):
            start, end = out.boxes[2 + v, b, :2]
            columns = start + (end - start) * (torch.arange(48) + 0.5) / 48
            assert 0.0 <= start < end <= clip_s + 1e-5
            torch.testing.assert_close(locals_[v, b, 30], columns, atol=1e-3, rtol=0)
    assert out.boxes[2:, :, 1].sub(out.boxes[2:, :, 0]).allclose(torch.tensor(0.5), atol=1e-5)


def test_frequency_keeps_its_direction_and_its_low_edge_when_stretched_beyond_the_band():
    bins = torch.arange(64.0).view(1, 1, 64, 1).expand(8, 1, 64, 96).contiguous()
    config = MultiCropConfig(n_locals=0, **{**PLAIN, "band_stretch": [1.25, 1.5]})
    out = MultiCrop(config, (64, 96), 1.0)(bins, generator())
    column = out.images[0][:, 0, :, 48]
    assert (column[:, 1:40].diff(dim=1) > 0).all()  # low frequency stays low
    assert (column[:, -8:] == 0).all()  # above the band there is the mean of the training clips
    assert out.boxes[..., 2].abs().max() < 1e-5


def test_a_crop_shifts_as_asked():
    image = torch.randn(2, 1, 32, 64)
    half = torch.full((2,), 0.5)
    crops = Crops(time=half, time_span=half, band=half, band_span=torch.ones(2))
    torch.testing.assert_close(crop_and_resize(image, crops, (32, 32)), image[..., 16:48], atol=1e-4, rtol=1e-4)


def test_long_clips_give_two_different_segments():
    config = MultiCropConfig(n_locals=2, global_s=1.0, local_s=[0.5])
    out = MultiCrop(config, (64, 384), 4.0)(torch.randn(16, 1, 64, 384), generator())
    assert out.images[0].shape == (32, 1, 64, 96)
    assert not out.boxes[0].allclose(out.boxes[1])
    assert (out.boxes[..., 0] > -0.01).all()
    assert (out.boxes[..., 1] < 4.01).all()


def test_local_views_may_be_lower_than_the_band():
    out = MultiCrop(MultiCropConfig(n_locals=1, local_band=0.5), (64, 96), 1.0)(torch.randn(2, 1, 64, 96))
    assert out.images[1].shape == (2, 1, 32, 48)


def test_a_view_longer_than_the_clip_is_refused_with_the_flag():
    with pytest.raises(UserError, match=r"--views\.global_s 2 .*--data\.clip_s"):
        MultiCrop(MultiCropConfig(global_s=2.0), (64, 96), 1.0)


def test_parameters_are_printed():
    text = repr(MultiCrop(MultiCropConfig(n_locals=3), (64, 96), 1.0))
    assert "n_locals=3" in text
    assert "local_sizes=[(64, 48)]" in text


def test_silence_stays_finite_under_every_augmentation():
    config = MultiCropConfig(n_locals=2, mixup=0.4, fader=1.0, equaliser=0.3, noise=0.5, stripes=0.3)
    silence = torch.full((4, 1, 64, 96), -3.0)
    for group in MultiCrop(config, (64, 96), 1.0)(silence, generator()).images:
        assert group.isfinite().all()


def test_of_two_pictures_the_views_show_one_after_the_other():
    first, second = torch.zeros(3, 1, 64, 96), torch.ones(3, 1, 64, 96)
    out = MultiCrop(MultiCropConfig(n_locals=3, **PLAIN), (64, 96), 1.0)([first, second], generator())
    assert [float(view.mean().round()) for view in out.images[0].split(3)] == [0.0, 1.0]
    assert [float(view.mean().round()) for view in out.images[1].split(3)] == [0.0, 1.0, 0.0]


def test_a_list_of_one_picture_is_the_picture():
    image = torch.randn(3, 1, 64, 96)
    views = MultiCrop(MultiCropConfig(), (64, 96), 1.0)
    for a, b in zip(views(image, generator()).images, views([image], generator()).images, strict=True):
        assert torch.equal(a, b)
