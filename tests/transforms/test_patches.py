"""Patches: where they lie, how often, what they show."""

import pytest
import torch
from audiossl.transforms import Patches, PatchesConfig
from audiossl.transforms.draws import Draws
from audiossl.transforms.patches import cut, draw_places, place_energy, place_weights

from audiossl.errors import UserError

PLAIN = {"mixup": 0.0, "fader": 0.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_patches_are_cut_where_the_boxes_say():
    image = torch.randn(3, 2, 64, 96)
    config = PatchesConfig(n_patches=7, patch_s=0.25, patch_band=0.5, **PLAIN)
    out = Patches(config, (64, 96), 1.0)(image, generator())
    assert out.images[0].shape == (21, 2, 32, 32)  # 24 frames are nearest to 32, a multiple of 16
    for v in range(7):
        for b in range(3):
            start, end, low, high = out.boxes[v, b].tolist()
            expected = image[b, :, round(low * 64) : round(high * 64), round(start * 96) : round(end * 96)]
            assert out.images[0][v * 3 + b].equal(expected)


def test_cutting_equals_a_loop_over_clips():
    image, row, frame = torch.randn(4, 1, 10, 12), torch.randint(0, 5, (3, 4)), torch.randint(0, 7, (3, 4))
    out = cut(image, row, frame, (6, 6))
    for v in range(3):
        for b in range(4):
            r, t = int(row[v, b]), int(frame[v, b])
            assert out[v * 4 + b].equal(image[b, :, r : r + 6, t : t + 6])


def test_energy_is_the_mean_over_the_window_above_the_floor_of_the_clip():
    image = torch.randn(2, 3, 8, 9)
    out = place_energy(image, (4, 3))
    assert out.shape == (2, 5, 7)
    for b in range(2):
        power = image[b].double().exp().mean(0)
        for f in range(5):
            for t in range(7):
                expected = (power[f : f + 4, t : t + 3] - power.min()).mean()
                torch.testing.assert_close(out[b, f, t].double(), expected, atol=1e-5, rtol=1e-5)


def test_weights_follow_the_rule_and_silence_is_even():
    weights = place_weights(torch.tensor([[0.0, 1.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0]]), 0.8)
    torch.testing.assert_close(weights, torch.tensor([[0.05, 0.25, 0.65, 0.05], [0.25] * 4]))


def test_places_are_drawn_as_often_as_they_weigh():
    weights = torch.tensor([[0.1, 0.0, 0.6, 0.3], [0.25, 0.25, 0.25, 0.25]])
    places = draw_places(weights, Draws(generator()), 40_000)
    for b in range(2):
        share = torch.bincount(places[:, b], minlength=4) / 40_000
        torch.testing.assert_close(share, weights[b], atol=0.01, rtol=0)
    assert (places[:, 0] != 1).all()  # no weight, no patch


def test_places_equal_a_loop_over_clips_at_the_same_draws():
    weights = torch.rand(5, 30)
    weights /= weights.sum(1, keepdim=True)
    places = draw_places(weights, Draws(generator(2)), 8)
    uniform = Draws(generator(2)).uniform(8, 5)
    for v in range(8):
        for b in range(5):
            total, place = 0.0, 0
            while total + weights[b, place].item() <= uniform[v, b].item():
                total += weights[b, place].item()
                place += 1
            assert places[v, b] == place


def test_silent_patches_are_rare():
    # A clip with sound in its last quarter only, and a patch of a quarter: 48 of 73 places hear nothing.
    image = torch.full((16, 1, 32, 96), -2.0)
    image[..., 72:] = 1.0 + 0.1 * torch.randn(16, 1, 32, 24)
    heard = []
    for energy in (0.0, 0.8, 1.0):
        config = PatchesConfig(n_patches=400, patch_s=1 / 6, energy=energy, **PLAIN)
        patches = Patches(config, (32, 96), 1.0)(image, generator()).images[0]
        heard.append((patches.amax((1, 2, 3)) > 0).float().mean().item())
    silent = 57 / 81  # places whose 16 frames end before frame 72
    assert heard[0] == pytest.approx(1 - silent, abs=0.02)
    assert heard[1] == pytest.approx(1 - 0.2 * silent, abs=0.02)
    assert heard[2] == 1.0


def test_a_grid_reaches_from_end_to_end_and_is_not_drawn():
    config = PatchesConfig(n_patches=6, patch_s=0.5, patch_band=0.5, places="grid", **PLAIN)
    out = Patches(config, (64, 96), 1.0)(torch.randn(2, 1, 64, 96), generator(1))
    starts = torch.tensor([0.0, 0.25, 0.5])
    torch.testing.assert_close(out.boxes[:, 0, 0], starts.repeat(2))
    torch.testing.assert_close(out.boxes[:, 0, 2], torch.tensor([0.0, 0.5]).repeat_interleave(3))
    assert out.boxes[:, 0].equal(out.boxes[:, 1])
    assert out.boxes.equal(Patches(config, (64, 96), 1.0)(torch.randn(2, 1, 64, 96), generator(2)).boxes)


def test_one_patch_of_a_grid_lies_in_the_middle():
    config = PatchesConfig(n_patches=1, patch_s=0.5, places="grid", **PLAIN)
    out = Patches(config, (64, 96), 1.0)(torch.randn(1, 1, 64, 96))
    torch.testing.assert_close(out.boxes[0, 0], torch.tensor([0.25, 0.75, 0.0, 1.0]))


def test_same_generator_same_patches_and_another_another():
    settings = {"noise": 0.5, "stripes": 0.2, "n_stripes": 2, "band_shift": 0.05, "band_warp": 0.1}
    patches, image = Patches(PatchesConfig(**settings), (64, 96), 1.0), torch.randn(4, 1, 64, 96)
    first, again, other = patches(image, generator(1)), patches(image, generator(1)), patches(image, generator(2))
    assert first.images[0].equal(again.images[0])
    assert first.boxes.equal(again.boxes)
    assert not first.images[0].equal(other.images[0])


def test_pictures_smaller_than_16_and_silence():
    config = PatchesConfig(n_patches=3, patch_s=1.0, noise=0.5, stripes=0.2)
    for image in (torch.randn(2, 1, 12, 30), torch.full((2, 1, 12, 30), -3.0)):
        out = Patches(config, (12, 30), 1.0)(image, generator())
        assert out.images[0].shape == (6, 1, 12, 30)
        assert out.images[0].isfinite().all()


def test_parameters_are_printed():
    assert "n_patches=20, patch_s=0.5" in repr(Patches(PatchesConfig(), (64, 96), 1.0))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_patches": 0}, r"--views\.n_patches must be above 0"),
        ({"patch_band": 1.5}, r"--views\.patch_band may be at most 1"),
        ({"places": "even"}, r"--views\.places must be random or grid"),
        ({"energy": 2.0}, r"--views\.energy must be from 0 to 1"),
        ({"patch_s": 1.5}, r"--views\.patch_s 1\.5 is longer than a clip of 1 s"),
        ({"places": "grid", "patch_band": 0.5, "n_patches": 5}, r"n_patches 5 makes no grid .* multiple of 2"),
    ],
)
def test_settings_that_make_no_patch_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Patches(PatchesConfig(**settings), (64, 96), 1.0)
