from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from audiossl.transforms import MelConfig, MultiCrop, MultiCropConfig, Normalize, as_float, build_frontend
from audiossl.transforms.view_config import PatchesConfig, TwoViewsConfig
from audiossl.transforms.wave_config import WaveAugmentConfig

from audiossl.data import DataConfig
from audiossl.errors import UserError
from audiossl.explain.view_page import examine, write_view_page
from audiossl.explain.views import along, example_pictures, spread
from audiossl.run.pictures import by_clip

SMALL = MelConfig(n_bins=32, hop_length=334)


@pytest.fixture(scope="module")
def drawn(clips):
    front = build_frontend(SMALL)
    normalize = Normalize(-8.0, 3.0)
    views = MultiCrop(MultiCropConfig(n_locals=3, mixup=0.0, fader=0.0), (32, 48), 1.0)
    return front, normalize, views, example_pictures(front, normalize, views, clips, n_clips=2, n_views=None)


def test_clips_are_spread_and_always_the_same(clips):
    assert spread(clips, 3).ids == [clips.ids[0], clips.ids[12], clips.ids[23]]
    assert len(spread(clips, 100)) == 24


def test_a_clip_is_followed_by_its_views(drawn, clips):
    *_, pictures = drawn
    groups = by_clip(pictures)
    assert list(groups) == [clips.ids[0], clips.ids[-1]]
    for whole, *views in groups.values():
        assert [box.local for box in whole.boxes] == [False, False, True, True, True]
        assert [view.image.shape for view in views] == [(32, 48)] * 2 + [(32, 32)] * 3
        for box, view in zip(whole.boxes, views, strict=True):
            assert (view.start_s, view.end_s) == (box.start_s, box.end_s)
            kind = "local" if box.local else "global"
            assert view.caption.startswith(f"view {box.label}, {kind}: {box.start_s:.2f} to {box.end_s:.2f} s, ")
            assert view.caption.endswith(f"{box.high_hz:,.0f} Hz")


def test_a_view_shows_its_tone_at_the_tones_frequency(drawn):
    *_, pictures = drawn
    for hz, group in zip((300, 300 * 3.3), by_clip(pictures).values(), strict=True):
        for picture in group:
            if picture.frequencies[0] < hz < picture.frequencies[-1]:
                loudest = picture.frequencies[picture.image.max(1).argmax()]
                assert loudest == pytest.approx(hz, abs=110), picture.caption


def test_the_whole_clip_is_the_normalised_picture(drawn, clips):
    front, normalize, _, pictures = drawn
    wave = as_float(torch.from_numpy(clips.waves[0][None]))
    np.testing.assert_array_equal(pictures[0].image, normalize(front(wave))[0, 0].numpy())


def test_fewer_views_and_other_seeds(drawn, clips):
    front, normalize, views, pictures = drawn
    two = example_pictures(front, normalize, views, clips, n_clips=1, n_views=2)
    assert len(two) == 3
    other = example_pictures(front, normalize, views, clips, n_clips=2, n_views=None, seed=1)
    assert other[1].start_s != pictures[1].start_s


def test_places_beyond_the_band_go_straight_on():
    hz = np.array([100.0, 200.0, 300.0, 500.0])
    np.testing.assert_allclose(along(hz, np.array([-0.125, 0.125, 0.5, 1.125])), [0.0, 100.0, 250.0, 700.0])


@pytest.mark.parametrize(
    ("config", "n_views"),
    [(MultiCropConfig(n_locals=2), 4), (TwoViewsConfig(), 2), (PatchesConfig(n_patches=5, patch_s=0.4), 5)],
    ids=["multi_crop", "two_views", "patches"],
)
def test_every_kind_of_views_makes_a_page(tones, tmp_path, config, n_views):
    shown = examine(DataConfig(root=str(tones)), SMALL, config, seed=0, n_clips=3)
    assert len(shown.pictures) == 3 * (1 + n_views)
    assert len(shown.waves) == 3
    text = write_view_page(tmp_path / "page.html", shown).read_text("utf-8")
    assert text.count("<audio ") == 3
    assert text.count('class="playhead"') == 3 * (1 + n_views)
    name, value = ("n_locals", 2) if n_views == 4 else ("mixup", 0.2)
    assert f"{name}={value}" in text
    assert "<b>view 2" in text


def test_rates_must_agree(tones):
    with pytest.raises(UserError, match=r"--frontend.sample_rate is 8000 and --data.sample_rate is 16000"):
        examine(DataConfig(root=str(tones)), replace(SMALL, sample_rate=8000, f_max=3900), MultiCropConfig(), 0, 2)


def test_clips_without_a_training_split_are_shown_too(tones, tmp_path):
    listed = "\n".join(["path,split", *(f"{path},testing" for path in sorted(tones.iterdir())[:3])])
    (tmp_path / "clips.csv").write_text(listed)
    shown = examine(
        DataConfig(root=str(tmp_path / "clips.csv"), outside=True), SMALL, MultiCropConfig(), seed=0, n_clips=4
    )
    assert len(shown.waves) == 3


@pytest.mark.parametrize(
    ("config", "n_copies", "of_copy"),
    [
        (MultiCropConfig(n_locals=3), 2, [["1", "3", "5"], ["2", "4"]]),
        (TwoViewsConfig(), 2, [["1"], ["2"]]),
        (PatchesConfig(n_patches=3, patch_s=0.4), 1, [["1", "2", "3"]]),
    ],
    ids=["multi_crop", "two_views", "patches"],
)
def test_changes_of_the_waveform_are_shown_and_played(tones, tmp_path, config, n_copies, of_copy):
    wave = WaveAugmentConfig(gain_db=12.0, noise=1.0, noise_snr_db=[0.0, 0.0])
    shown = examine(DataConfig(root=str(tones)), SMALL, config, seed=0, n_clips=2, wave=wave)
    groups = by_clip(shown.pictures)
    assert set(groups) == set(shown.waves)
    assert len(groups) == 2 * (1 + n_copies)
    first, *copies = list(groups.values())[: 1 + n_copies]
    assert len(first) == 1  # the clip itself: no view is cut from it
    for (whole, *views), labels in zip(copies, of_copy, strict=True):
        assert [box.label for box in whole.boxes] == labels
        assert len(views) == len(labels)
        assert np.abs(whole.image - first[0].image).mean() > 0.2
    waves = [shown.waves[name] for name in list(groups)[: 1 + n_copies]]
    assert all(not np.array_equal(waves[0], other) for other in waves[1:])
    text = write_view_page(tmp_path / "page.html", shown).read_text("utf-8")
    assert text.count("<audio ") == 2 * (1 + n_copies)
    assert "Noise(probability=1.0" in text
