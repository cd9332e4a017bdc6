"""What is no batch of sounds, and settings that no picture can have: a sentence, or it simply works."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from audiossl.transforms import (
    FrontEndConfig,
    MultiCropConfig,
    Patches,
    PatchesConfig,
    TwoViews,
    TwoViewsConfig,
    WaveAugment,
    WaveAugmentConfig,
    build_frontend,
)

from audiossl.errors import UserError

QUICK: dict[str, dict] = {"matching_pursuit": {"segment_length": 256, "n_scales": 2, "n_atoms": 4}}


@pytest.mark.parametrize("kind", sorted(FrontEndConfig.get_known_choices()))
def test_a_batch_of_no_clips_has_no_pictures(kind):
    frontend = build_frontend(kind, **QUICK.get(kind, {}))
    image = frontend(torch.zeros(0, 4000))
    assert image.shape == (0, frontend.n_channels, frontend.n_bins, frontend.n_frames(4000))


@pytest.mark.parametrize("wave", [np.zeros((2, 100)), [[0.0, 0.1]]], ids=["numpy", "list"])
def test_what_is_no_tensor_is_named(wave):
    with pytest.raises(UserError, match=r"wave is a (ndarray|list): give a tensor"):
        build_frontend("mel")(wave)


def test_a_wave_louder_than_any_sound_is_refused():
    wave = torch.zeros(3, 1000)
    wave[1, 7] = -1e30
    with pytest.raises(UserError, match=r"wave 1 of the batch reaches 1e\+30: give samples in \[-1, 1\]"):
        build_frontend("stft")(wave)
    assert build_frontend("stft")(32768.0 * torch.randn(2, 1000)).isfinite().all()  # int16 as floats still is a sound


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"n_bins": 64.5}, "n_bins=64.5 must be a whole number"),
        ({"n_bins": "64"}, "n_bins='64' must be a whole number"),
        ({"hop_length": 167.5}, "hop_length=167.5 must be a whole number"),
        ({"f_max": "7000"}, "f_max='7000' must be a number"),
        ({"f_min": math.nan}, "f_min=nan must be a number"),
    ],
)
def test_settings_of_another_type_are_named(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        build_frontend("mel", **settings)


def test_numbers_of_numpy_are_numbers():
    assert build_frontend("mel", n_bins=np.int64(20), f_max=np.float32(7000)).n_bins == 20


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        ("synchrosqueezing", {"threshold": 1.0}, "threshold=1 leaves every cell out"),
        ("wigner_ville", {"smoothing_hops": 1e6}, r"smoothing_hops=1e\+06 is longer than any sound"),
        ("cqt", {"f_min": 0.001}, "the longest filter has .* samples, more than any clip needs: raise f_min"),
        ("vqt", {"gamma": 1e9}, r"raise it to at least .*, or lower gamma=1e\+09"),
    ],
)
def test_settings_beyond_sense_are_named(kind, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        build_frontend(kind, **settings)


@pytest.mark.parametrize(
    ("config", "settings", "sentence"),
    [
        (MultiCropConfig, {"fader": -1.0}, r"--views\.fader must be 0 or more"),
        (MultiCropConfig, {"global_time": [0.5, math.inf]}, r"--views\.global_time must be finite"),
        (TwoViewsConfig, {"fader": -1.0}, r"--views\.fader must be 0 or more"),
        (PatchesConfig, {"noise": math.nan}, r"--views\.noise must be finite"),
        (PatchesConfig, {"gain": math.inf}, r"--views\.gain must be finite"),
        (WaveAugmentConfig, {"speed": math.inf}, r"--wave\.speed must be 0 or more, and finite"),
    ],
)
def test_strengths_without_a_meaning_are_refused(config, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        config(**settings)


def test_views_refuse_pictures_of_another_size():
    two, patches = TwoViews(TwoViewsConfig(), (64, 96), 1.0), Patches(PatchesConfig(), (64, 96), 1.0)
    for views, shape in ((two, (2, 2, 64, 96)), (two, (2, 1, 64, 95)), (patches, (2, 1, 32, 96)), (patches, (64, 96))):
        with pytest.raises(UserError, match=r"image has shape .*: these views are cut from \(B, [1C], 64, 96\)"):
            views(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3000,), (2, 0)])
def test_changes_of_a_wave_need_a_batch(shape):
    with pytest.raises(UserError, match=r"wave has shape .*: give \(batch, samples\)"):
        WaveAugment(WaveAugmentConfig(gain_db=6.0), 16000)(torch.zeros(shape))
