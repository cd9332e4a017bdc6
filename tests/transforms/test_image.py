"""Augmentations of the picture against their formulas."""

import math

import pytest
import torch
from audiossl.transforms import image as augment
from audiossl.transforms.draws import Draws


def test_log_mixup_exp_adds_powers():
    a, b = torch.randn(2, 1, 4, 5), torch.randn(2, 1, 4, 5)
    share = torch.tensor([0.1, 0.4])
    s = share[:, None, None, None]
    expected = torch.log((1 - s) * torch.exp(a) + s * torch.exp(b))
    torch.testing.assert_close(augment.log_mixup_exp(a, b, share), expected, atol=1e-5, rtol=1e-4)


def test_powers_are_added_as_logaddexp_does_whatever_their_sizes():
    a = torch.tensor([-200.0, 0.0, 1e4, -1e4, 3.0, -torch.inf], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([200.0, 0.0, -1e4, 1e4, 2.5, 1.0], dtype=torch.float64, requires_grad=True)
    mine, torchs = augment.add_in_power(a, b), torch.logaddexp(a, b)
    torch.testing.assert_close(mine, torchs)
    for x, y in zip(torch.autograd.grad(mine.sum(), [a, b]), torch.autograd.grad(torchs.sum(), [a, b]), strict=True):
        torch.testing.assert_close(x, y)


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


def test_several_stripes_are_the_union_of_single_ones():
    image = torch.randn(3, 2, 8, 20)
    begin, width = torch.rand(3, 4), 0.2 * torch.rand(3, 4)
    expected = image
    for n in range(4):
        expected = augment.stripes(expected, -2, begin[:, n], width[:, n])
    assert augment.stripes(image, -2, begin, width).equal(expected)


def test_stripes_equal_a_loop_over_clips_at_the_same_draws():
    image = torch.randn(5, 1, 16, 24)
    out = augment.random_stripes(image, Draws(torch.Generator().manual_seed(1)), 0.3, count=2)
    d = Draws(torch.Generator().manual_seed(1))
    expected = image.clone()
    for axis in (-1, -2):
        width, place = d.uniform(5, 2, high=0.3), d.uniform(5, 2)
        size = image.shape[axis]
        for b in range(5):
            for n in range(2):
                begin = place[b, n] * (1 - width[b, n])
                for k in range(size):
                    if begin <= (k + 0.5) / size < begin + width[b, n]:
                        expected[b].select(axis, k).zero_()
    assert out.equal(expected)


def test_a_shift_of_whole_bins_is_exact():
    image = torch.randn(3, 2, 8, 5)
    out = augment.shift_bins(image, torch.tensor([0.25, -0.5, 0.0]))
    assert out[0, :, 2:].equal(image[0, :, :-2])
    assert (out[0, :, :2] == 0).all()
    assert out[1, :, :4].equal(image[1, :, 4:])
    assert (out[1, :, 4:] == 0).all()
    assert out[2].equal(image[2])


def test_bins_move_as_in_a_loop_over_clips_and_rows():
    image, source = torch.randn(4, 1, 6, 3), torch.rand(4, 6) * 10 - 2
    out = augment.move_bins(image, source)
    for b in range(4):
        for f in range(6):
            below, expected = math.floor(source[b, f].item()), torch.zeros(3)
            for row, share in ((below, 1 - (source[b, f] - below)), (below + 1, source[b, f] - below)):
                if 0 <= row < 6:
                    expected = expected + share * image[b, 0, row]
            torch.testing.assert_close(out[b, 0, f], expected, atol=1e-5, rtol=1e-5)


def test_a_warp_moves_its_place_and_keeps_the_ends():
    ramp = torch.linspace(0.0, 1.0, 101).view(1, 1, 101, 1).expand(2, 1, 101, 4)
    out = augment.warp_bins(ramp, torch.tensor([0.5, 0.3]), torch.tensor([0.1, -0.2]))[:, 0, :, 0]
    torch.testing.assert_close(out[:, [0, -1]], torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    torch.testing.assert_close(out[0, 60], torch.tensor(0.5))
    torch.testing.assert_close(out[1, 10], torch.tensor(0.3))
    torch.testing.assert_close(out[0, 30], torch.tensor(0.25))  # straight in between
    assert (out.diff(dim=1) > 0).all()
    assert augment.warp_bins(ramp, torch.tensor([0.5, 0.3]), torch.zeros(2)).allclose(ramp, atol=1e-6)


def test_random_moves_are_drawn_for_each_clip_and_can_be_drawn_again():
    image = torch.randn(6, 1, 16, 8)
    for move in (augment.random_bin_shift, augment.random_warp):
        first, again = (move(image, Draws(torch.Generator().manual_seed(3)), 0.2) for _ in range(2))
        assert first.equal(again)
        same = torch.stack([move(image[:1].expand(6, -1, -1, -1), Draws(torch.Generator().manual_seed(3)), 0.2)])
        assert len(torch.unique(same.flatten(0, 1), dim=0)) == 6


def test_renormalisation_takes_one_pair_of_numbers_for_the_batch():
    image = 3.0 * torch.randn(8, 2, 5, 6) + torch.randn(8, 1, 1, 1)
    out = augment.renormalise(image)
    assert out.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert out.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(out[0] - out[1], (image[0] - image[1]) / image.std(correction=0))
    assert augment.renormalise(torch.full((2, 1, 3, 3), -5.0)).abs().max() == 0


def test_each_clip_of_a_batch_is_drawn_for_itself():
    draws = Draws(torch.Generator().manual_seed(0))
    out = augment.random_fader(torch.zeros(8, 1, 4, 4), draws, 1.0)
    assert len({round(value, 6) for value in out[:, 0, 0, 0].tolist()}) == 8
