"""Augmentations of the picture against their formulas."""

import math

import torch
from audiossl.transforms import image as augment
from audiossl.transforms.draws import Draws


def test_log_mixup_exp_adds_powers():
    a, b = torch.randn(2, 1, 4, 5), torch.randn(2, 1, 4, 5)
    share = torch.tensor([0.1, 0.4])
    s = share[:, None, None, None]
    expected = torch.log((1 - s) * torch.exp(a) + s * torch.exp(b))
    torch.testing.assert_close(augment.log_mixup_exp(a, b, share), expected, atol=1e-5, rtol=1e-4)


def test_fader_is_a_straight_line_with_the_given_ends():
    out = augment.linear_fader(torch.zeros(1, 1, 3, 5), torch.tensor([-1.0]), torch.tensor([1.0]))
    torch.testing.assert_close(out[0, 0, 2], torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]))


def test_equaliser_passes_through_its_knots_and_is_constant_in_time():
    knots = torch.tensor([[0.0, 2.0, -1.0]])
    out = augment.equalise(torch.zeros(1, 1, 5, 4), knots)
    torch.testing.assert_close(out[0, 0, :, 0], torch.tensor([0.0, 1.0, 2.0, 0.5, -1.0]))
    assert out.std(-1).max() == 0


def test_noise_floor_lifts_what_is_quieter_and_leaves_what_is_louder():
    image = torch.tensor([[-5.0, 5.0]]).view(1, 1, 1, 2)
    out = augment.noise_floor(image, torch.tensor([0.0]))
    expected = torch.tensor([math.log(math.exp(-5.0) + 1.0), math.log(math.exp(5.0) + 1.0)])
    torch.testing.assert_close(out.flatten(), expected)
    assert augment.noise_floor(image, torch.tensor([-torch.inf])).equal(image)


def test_stripes_cover_the_named_part_and_nothing_else():
    out = augment.stripes(torch.ones(1, 1, 4, 10), -1, torch.tensor([0.2]), torch.tensor([0.3]))
    assert out[0, 0, 0].tolist() == [1, 1, 0, 0, 0, 1, 1, 1, 1, 1]


def test_random_stripes_never_exceed_their_most():
    draws = Draws(torch.Generator().manual_seed(0))
    out = augment.random_stripes(torch.ones(200, 1, 20, 20), draws, 0.25)
    lost_columns = (out.amax(dim=(1, 2)) == 0).sum(-1)
    assert lost_columns.max() <= 5
    assert lost_columns.max() > 0


def test_each_clip_of_a_batch_is_drawn_for_itself():
    draws = Draws(torch.Generator().manual_seed(0))
    out = augment.random_fader(torch.zeros(8, 1, 4, 4), draws, 1.0)
    assert len({round(value, 6) for value in out[:, 0, 0, 0].tolist()}) == 8
