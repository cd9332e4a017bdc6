"""Mixing of the student's views: shares, kinds and places, and what is seen of them."""

import pytest
import torch
from audiossl.transforms.draws import Draws
from audiossl.transforms.student_mixing import mix_for_student
from audiossl.transforms.view_config import MultiCropConfig

from audiossl.errors import UserError


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


def two_sizes(n_clips=64):
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(2 * n_clips, 1, 16, 24, generator=generator),
        torch.randn(n_clips, 1, 16, 8, generator=generator),
    ]


def test_mixup_is_the_logarithm_of_mixed_powers_and_leaves_its_input_alone():
    images = two_sizes()
    before = [image.clone() for image in images]
    mixed, mixing = mix_for_student(images, 64, draws(), MultiCropConfig(mix_alpha=0.8))
    for image, old, out, share in zip(images, before, mixed, mixing.shares, strict=True):
        assert image.equal(old)
        views = image.view(-1, 64, *image.shape[1:])
        s = share[:, :, None]
        plain = ((1 - s) * views.exp() + s * views[:, mixing.partner].exp()).log()
        torch.testing.assert_close(out.view_as(views), plain, rtol=1e-4, atol=1e-5)
        assert (share == share[:, :, :1, :1]).all()  # one share a picture
    assert mixing.partner.sort().values.equal(torch.arange(64))


def test_cutmix_shows_one_clip_or_the_other_in_one_box():
    images = two_sizes()
    mixed, mixing = mix_for_student(images, 64, draws(), MultiCropConfig(cut_alpha=1.0))
    views, out, share = images[0].view(2, 64, 16, 24), mixed[0].view(2, 64, 16, 24), mixing.shares[0]
    assert set(share.unique().tolist()) == {0.0, 1.0}
    assert out.equal(torch.where(share == 1.0, views[:, mixing.partner], views))
    inside = share == 1.0
    rows, columns = inside.any(3), inside.any(2)
    assert inside.equal(rows[..., None] & columns[..., None, :])  # a rectangle
    for edge in (rows, columns):  # without gaps
        assert (edge.int().diff(dim=-1).abs().sum(-1) <= 2).all()


def test_shares_follow_the_beta_distribution_and_kinds_their_probabilities():
    config = MultiCropConfig(mix_alpha=0.4, cut_alpha=1.0, mix_prob=0.8, switch_prob=0.25)
    images = [torch.zeros(4000, 1, 16, 16)]
    _, mixing = mix_for_student(images, 4000, draws(), config)
    share = mixing.shares[0][0]
    boxes = (share != share[:, :1, :1]).any((1, 2))
    even = share[~boxes][:, 0, 0]
    assert boxes.float().mean() == pytest.approx(0.8 * 0.25, abs=0.03)
    inside = even[(even > 0) & (even < 1)]
    variance = 1 / (4 * (2 * 0.4 + 1))  # of Beta(a, a)
    assert inside.mean() == pytest.approx(0.5, abs=0.02)
    assert inside.var() == pytest.approx(variance, abs=0.01)


def test_only_the_first_views_are_mixed():
    images = two_sizes()
    mixed, mixing = mix_for_student(images, 64, draws(), MultiCropConfig(mix_alpha=0.8, n_mixed=1))
    assert mixed[0][64:].equal(images[0][64:])
    assert mixed[1].equal(images[1])
    assert not mixed[0][:64].equal(images[0][:64])
    assert not mixing.shares[1].any()


def test_same_generator_same_mixing():
    config = MultiCropConfig(mix_alpha=0.8, cut_alpha=1.0)
    first, again, other = (mix_for_student(two_sizes(), 64, draws(seed), config)[0][0] for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mix_alpha": -1.0}, r"--views\.mix_alpha must be 0 or more, found -1"),
        ({"mix_prob": 2.0}, r"--views\.mix_prob must be from 0 to 1, found 2"),
        ({"local_s": []}, r"--views\.local_s must be lengths above 0"),
    ],
)
def test_impossible_settings_name_their_flag(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        MultiCropConfig(**settings)
