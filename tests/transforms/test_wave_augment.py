"""The row of augmentations: what a configuration turns on, that it can be drawn again, what it refuses."""

import pytest
import torch
from audiossl.transforms import WaveAugment, WaveAugmentConfig

from audiossl.errors import UserError

ALL = {
    "speed": 0.1,
    "pitch_semitones": 2.0,
    "shift_s": 0.1,
    "reverb": 0.8,
    "noise": 0.8,
    "tilt_db": 3.0,
    "low_pass": 0.5,
    "high_pass": 0.5,
    "band_pass": 0.5,
    "gain_db": 6.0,
    "polarity": 0.5,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_everything_is_off_by_default_and_the_wave_passes_untouched():
    wave, source = torch.randint(-9, 9, (2, 100), dtype=torch.int16), generator()
    before = source.get_state()
    assert WaveAugment(WaveAugmentConfig(), 16000)(wave, source) is wave
    assert source.get_state().equal(before)  # a run without augmentation draws the views it drew before


@pytest.mark.parametrize("name", ALL)
def test_one_setting_turns_one_augmentation_on(name):
    augment = WaveAugment(WaveAugmentConfig(**{name: ALL[name]}), 16000)
    assert len(augment.steps) == 1
    wave = 0.1 * torch.randn(6, 3000)
    out = augment(wave, generator())
    assert out.shape == wave.shape
    assert not out.equal(wave)
    assert str(ALL[name]) in repr(augment)


@pytest.mark.parametrize("name", [None, *ALL])
def test_same_generator_same_waves_and_silence_stays_finite(name):
    augment = WaveAugment(WaveAugmentConfig(**(ALL if name is None else {name: ALL[name]})), 16000)
    wave = 0.1 * torch.randn(3, 2500)
    first, again, other = augment(wave, generator(1)), augment(wave, generator(1)), augment(wave, generator(2))
    assert first.equal(again)
    assert not first.equal(other)
    assert augment(torch.zeros(3, 2500), generator()).isfinite().all()
    assert augment(torch.zeros(3, 1), generator()).isfinite().all()


def test_each_clip_is_drawn_for_itself():
    wave = torch.randn(1, 2000).expand(8, -1)
    for name, value in ALL.items():
        out = WaveAugment(WaveAugmentConfig(**{name: value}), 16000)(wave, generator())
        assert len(torch.unique(out, dim=0)) > 1, name


def test_int16_waves_become_floats():
    augment = WaveAugment(WaveAugmentConfig(polarity=1.0), 16000)
    assert augment(torch.tensor([[16384, -32768]], dtype=torch.int16)).tolist() == [[-0.5, 1.0]]


def test_recordings_take_the_place_of_synthetic_noise_and_rooms():
    config = WaveAugmentConfig(
        noise=1.0, noise_colour="folder", noise_folder="noises", reverb=1.0, reverb_folder="rooms"
    )
    impulses = torch.zeros(1, 10)
    impulses[:, 3] = 0.5
    augment = WaveAugment(config, 16000, noises=torch.ones(2, 50, dtype=torch.int16), impulses=impulses)
    wave = torch.randn(3, 400)
    added = augment(wave, generator()) - wave  # the room is a single impulse, and the noise a constant
    assert added.std(1).max() < 1e-5
    assert added.abs().min() > 0.01


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"noise": 1.5}, r"--wave\.noise is a share of the clips, from 0 to 1, found 1\.5"),
        ({"gain_db": -1.0}, r"--wave\.gain_db must be 0 or more"),
        ({"noise_snr_db": [20.0, 5.0]}, r"--wave\.noise_snr_db must be two numbers, the smaller first"),
        ({"reverb_s": [0.0, 0.5]}, r"--wave\.reverb_s must be two numbers above 0"),
        ({"noise_colour": "blue"}, r"--wave\.noise_colour must be white, pink or folder"),
        ({"pitch_semitones": 36.0}, r"--wave\.pitch_semitones may be at most 24"),
        ({"tilt_pivot_hz": 0.0}, r"--wave\.tilt_pivot_hz must be above 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        WaveAugmentConfig(**settings)


@pytest.mark.parametrize("folder", ["noise", "reverb"])
def test_a_named_folder_that_was_not_read_is_refused(folder):
    settings = {folder: 0.5, f"{folder}_folder": "recordings"}
    if folder == "noise":
        settings["noise_colour"] = "folder"
    with pytest.raises(UserError, match=rf"--wave\.{folder}_folder"):
        WaveAugment(WaveAugmentConfig(**settings), 16000)


def test_copies_differ_and_nothing_turned_on_is_one_copy():
    wave = 0.1 * torch.randn(2, 1600)
    off = WaveAugment(WaveAugmentConfig(), 16000)
    assert [copy is wave for copy in off.copies(wave, 2)] == [True]
    first, second = WaveAugment(WaveAugmentConfig(gain_db=6.0), 16000).copies(wave, 2, torch.Generator().manual_seed(0))
    assert not torch.allclose(first, second)
