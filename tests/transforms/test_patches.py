"""Patches: where they lie, how often, what they show."""

import pytest
import torch
from audiossl.transforms import Patches, PatchesConfig
from audiossl.transforms import image as augment
from audiossl.transforms.draws import Draws
from audiossl.transforms.patch_cut import Windows, cut, cut_stretched
from audiossl.transforms.patches import NEAR_SILENT, draw_places, patch_size, place_energy, place_weights
from torch.nn.functional import interpolate

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


def windows(n, image, size, n_frames=None):
    clip, row = torch.randint(len(image), (n,)), torch.randint(image.shape[2] - size[0] + 1, (n,))
    n_frames = torch.full((n,), size[1]) if n_frames is None else n_frames
    frame = (torch.rand(n) * (image.shape[3] - n_frames + 1)).long()
    return Windows(clip, row, frame, n_frames)


@pytest.mark.parametrize("learned", [False, True])
def test_cutting_equals_a_loop_over_patches(learned):
    image = torch.randn(4, 2, 10, 12, requires_grad=learned)
    where = windows(50, image, (6, 7))
    expected = torch.stack([image[b, :, r : r + 6, t : t + 7] for b, r, t, _ in zip(*where, strict=True)])
    out = cut(image, where, (6, 7))
    assert out.equal(expected)
    if learned:
        weight = torch.randn_like(out)
        (grad,) = torch.autograd.grad((out * weight).sum(), image)
        (expected_grad,) = torch.autograd.grad((expected * weight).sum(), image)
        torch.testing.assert_close(grad, expected_grad)


def test_stretched_windows_equal_interpolation_of_each():
    image = torch.randn(4, 2, 10, 24)
    where = windows(40, image, (6, 8), torch.arange(40) % 20 + 1)
    out = cut_stretched(image, where, (6, 8))
    for i, (b, r, t, w) in enumerate(zip(*(side.tolist() for side in where), strict=True)):
        box = image[b, :, r : r + 6, t : t + w]
        torch.testing.assert_close(out[i], interpolate(box, size=8, mode="linear", align_corners=False))


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


def test_silent_patches_are_counted():
    image = torch.full((8, 1, 32, 96), -4.0)
    image[..., 72:] = 1.0
    image[-1] = 0.5  # a clip without any difference: all of it counts as silent
    config = PatchesConfig(n_patches=300, patch_s=1 / 6, energy=0.0, **PLAIN)
    out = Patches(config, (32, 96), 1.0)(image, generator())
    silent = 0
    for b in range(8):
        power = image[b].exp() - image[b].exp().min()
        loudest = max(power[..., t : t + 16].mean() for t in range(81))
        for start in (out.boxes[:, b, 0] * 96).round().int().tolist():
            silent += bool(power[..., start : start + 16].mean() <= NEAR_SILENT * loudest)
    assert out.silent.shape == ()
    assert out.silent.item() == pytest.approx(silent / 2400, abs=1e-6)
    assert silent / 2400 > 0.6
    avoided = Patches(PatchesConfig(n_patches=300, patch_s=1 / 6, energy=1.0, **PLAIN), (32, 96), 1.0)
    assert avoided(image[:-1], generator()).silent < 0.05


EVERYTHING = {
    "patch_band": 0.5,
    "time_stretch": [0.8, 1.25],
    "mixup": 0.4,
    "noise": 0.5,
    "gain": 0.3,
    "fader": 0.5,
    "stripes": 0.2,
    "n_stripes": 2,
    "band_shift": 0.05,
    "band_warp": 0.1,
    "band_channel": True,
}


@pytest.mark.parametrize("settings", [PLAIN, {}, EVERYTHING])
def test_groups_give_the_patches_that_come_at_once(settings):
    patches, image = Patches(PatchesConfig(n_patches=7, **settings), (64, 96), 1.0), torch.randn(5, 1, 64, 96)
    at_once = patches(image, generator(3)).images[0]
    drawn = patches.draw(image, generator(3))
    groups = [patches.cut(image, drawn, slice(start, start + 3)) for start in (0, 3, 6)]
    assert [len(group) for group in groups] == [15, 15, 5]
    torch.testing.assert_close(torch.cat(groups), at_once, atol=1e-6, rtol=1e-6)


def test_every_patch_is_changed_for_itself():
    patches, image = Patches(PatchesConfig(n_patches=6, **EVERYTHING), (64, 96), 1.0), torch.randn(4, 1, 64, 96)
    for name, numbers in patches.draw(image, generator()).numbers.items():
        assert len(numbers.flatten().unique()) >= (9 if name == "noise" else 24)  # half of them hear no noise
    # Alike pictures at one place: what differs is what was drawn.
    same = PatchesConfig(n_patches=4, patch_s=1.0, mixup=0.0, gain=0.5)
    out = Patches(same, (64, 96), 1.0)(image[:1].expand(3, -1, -1, -1), generator()).images[0]
    assert all(not out[i].allclose(out[j]) for i in range(12) for j in range(i))


def test_changes_equal_those_of_one_patch_after_the_other():
    config = PatchesConfig(n_patches=3, **{**EVERYTHING, "time_stretch": [1.0, 1.0]})
    image = torch.randn(2, 1, 64, 96)
    patches = Patches(config, (64, 96), 1.0)
    drawn = patches.draw(image, generator())

    def window(v, b):
        row, frame = int(drawn.row[v, b]), int(drawn.frame[v, b])
        return image[b, :, row : row + patches.size[0], frame : frame + patches.size[1]]

    out = patches.cut(image, drawn)
    for v in range(3):
        for b in range(2):
            of = {name: x[v, b][None] for name, x in drawn.numbers.items()}
            other = divmod(int(of["other"]), 2)
            expected = augment.log_mixup_exp(window(v, b)[None], window(*other)[None], of["share"])
            expected = augment.shift_bins(expected, of["shift"])
            expected = augment.warp_bins(expected, of["warp_place"], of["warp"])
            expected = augment.noise_floor(expected, of["noise"]) + of["gain"]
            expected = augment.linear_fader(expected, of["begin"], of["end"])
            expected = augment.stripes(expected, -1, of["time_stripe"], of["time_width"])
            expected = augment.stripes(expected, -2, of["band_stripe"], of["band_width"])
            torch.testing.assert_close(out[v * 2 + b, :1], expected[0], atol=1e-5, rtol=1e-5)


def test_stretched_patches_show_what_their_boxes_say():
    image = torch.randn(3, 1, 64, 96)
    config = PatchesConfig(n_patches=40, patch_s=0.5, time_stretch=[0.8, 1.25], **PLAIN)
    out = Patches(config, (64, 96), 1.0)(image, generator())
    frames = (out.boxes[..., :2] * 96).round().int()
    widths = frames[..., 1] - frames[..., 0]
    assert widths.min() >= 38
    assert widths.max() <= 60
    assert len(widths.unique()) > 10
    assert frames.min() >= 0
    assert frames.max() <= 96
    for v in range(40):
        for b in range(3):
            start, end = frames[v, b].tolist()
            expected = interpolate(image[b, :, :, start:end], size=48, mode="linear", align_corners=False)
            # Places are rounded to some 1e-5 of a frame in float32, and neighbours differ by up to 6.
            torch.testing.assert_close(out.images[0][v * 3 + b], expected, atol=1e-4, rtol=1e-4)


def test_stretching_a_patch_as_long_as_the_clip_stays_within_it():
    config = PatchesConfig(n_patches=9, patch_s=1.0, time_stretch=[0.8, 1.25], **PLAIN)
    out = Patches(config, (64, 96), 1.0)(torch.randn(2, 1, 64, 96), generator())
    assert out.boxes[..., 0].min() >= 0.0
    assert out.boxes[..., 1].max() <= 1.0 + 1e-6


def test_the_band_channel_tells_the_place_of_each_bin():
    config = PatchesConfig(n_patches=9, patch_s=0.5, patch_band=0.25, band_channel=True, noise=0.5, fader=1.0)
    out = Patches(config, (64, 96), 1.0)(torch.randn(3, 2, 64, 96), generator())
    assert out.images[0].shape == (27, 3, 16, 48)
    for v in range(9):
        for b in range(3):
            low = round(out.boxes[v, b, 2].item() * 64)
            bins = torch.arange(low, low + 16)
            expected = (2 * (bins + 0.5) / 64 - 1)[:, None].expand(16, 48)
            torch.testing.assert_close(out.images[0][v * 3 + b, 2], expected)


def test_the_gradient_of_a_learned_front_end_flows_through():
    for settings in (PLAIN, EVERYTHING):
        image = torch.randn(2, 1, 64, 96, requires_grad=True)
        Patches(PatchesConfig(n_patches=200, **settings), (64, 96), 1.0)(image, generator()).images[0].sum().backward()
        assert image.grad is not None
        assert (image.grad.abs().sum((1, 2, 3)) > 0).all()


def test_sizes_fill_an_axis_or_are_multiples_of_16():
    assert patch_size(1.0, 1.0, (72, 100), 1.0) == (72, 100)
    assert patch_size(0.5, 0.5, (72, 100), 1.0) == (32, 48)
    assert patch_size(0.01, 0.01, (72, 100), 1.0) == (16, 16)
    assert patch_size(0.9, 0.9, (12, 12), 1.0) == (12, 12)


@pytest.mark.parametrize("n_patches", [1, 2, 200])
def test_one_patch_and_two_hundred_as_long_as_the_clip(n_patches):
    image = torch.randn(2, 1, 64, 96)
    out = Patches(PatchesConfig(n_patches=n_patches, patch_s=1.0, **PLAIN), (64, 96), 1.0)(image, generator())
    assert out.images[0].equal(image.repeat(n_patches, 1, 1, 1))


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
        ({"gain": -1.0}, r"--views\.gain must be 0 or more"),
        ({"time_stretch": [1.2, 0.8]}, r"--views\.time_stretch must be two numbers, the smaller first"),
        ({"patch_s": 1.5}, r"--views\.patch_s 1\.5 is longer than a clip of 1 s"),
        ({"places": "grid", "patch_band": 0.5, "n_patches": 5}, r"n_patches 5 makes no grid .* multiple of 2"),
    ],
)
def test_settings_that_make_no_patch_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Patches(PatchesConfig(**settings), (64, 96), 1.0)
