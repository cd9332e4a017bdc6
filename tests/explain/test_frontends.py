from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from audiossl.transforms import FrontEndConfig, build_frontend

from audiossl.errors import UserError
from audiossl.explain import frontends
from audiossl.explain.frontend_page import write_frontend_page
from audiossl.explain.frontends import about_type, configured, look_at_all
from audiossl.explain.sound import Sound

RATE = 16000
EVIL = "<script>alert('x')</script>\"&"


@pytest.fixture(scope="module")
def sound():
    time = np.arange(RATE // 2) / RATE
    wave = (0.3 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    return Sound("a tone.wav", wave, RATE, 2.0, 10.0, 44100, 2)


def test_pictures_have_the_front_ends_own_axes(sound):
    for look in look_at_all(sound, ["mel", "stft"], {"hop_length": 200}):
        frontend = build_frontend(look.kind, hop_length=200)
        (picture,) = look.pictures
        assert picture.unit == "Hz"
        assert picture.image.shape == (frontend.n_bins, 1 + 8000 // 200)
        np.testing.assert_allclose(picture.frequencies, frontend.frequencies.double())
        loudest = picture.frequencies[picture.image.mean(1).argmax()]
        assert loudest == pytest.approx(1000, rel=0.05)
        # frame t covers half a hop on both sides of its time, from where the window starts in the recording
        assert (picture.start_s, picture.end_s) == pytest.approx((2.0 - 0.00625, 2.5 + 0.00625))
        assert look.settings["hop_length"] == 200
        assert look.hop_s == 0.0125
        assert 0 < look.cost_s < 10


def test_costs_are_compared_with_mel(sound, monkeypatch):
    monkeypatch.setattr(frontends, "cost_s", lambda frontend, wave: {"mel": 0.002, "stft": 0.005}[frontend.config.type])
    assert [look.times_reference for look in look_at_all(sound, ["stft", "mel"], {})] == [2.5, 1.0]
    assert [look.times_reference for look in look_at_all(sound, ["stft"], {})] == [2.5]


def test_mel_costs_once_mel_on_a_machine_that_slows_down(sound, monkeypatch):
    costs = iter((0.001, 0.004, 0.016))
    monkeypatch.setattr(frontends, "cost_s", lambda frontend, wave: next(costs))
    assert [look.times_reference for look in look_at_all(sound, ["stft", "mel"], {})] == [0.25, 1.0]


def test_settings_reach_the_types_that_have_them():
    assert configured("mel", {"n_bins": 32, "hop_length": 334}).n_bins == 32
    assert configured("stft", {"n_bins": 32, "hop_length": 334}).hop_length == 334


def test_a_type_that_cannot_be_built_costs_only_its_own_picture(sound, monkeypatch, tmp_path):
    def refusing(config):
        if config.type == "stft":
            raise UserError(f"stft needs the extra {EVIL}: pip install it.")
        return build_frontend(config)

    monkeypatch.setattr(frontends, "build_frontend", refusing)
    stft, mel = look_at_all(sound, ["stft", "mel"], {})
    assert stft.problem.startswith("stft needs the extra")
    assert not mel.problem
    text = write_frontend_page(tmp_path / "page.html", sound, [stft, mel]).read_text("utf-8")
    assert text.count("stft needs the extra &lt;script&gt;") == 2  # its card, and its row in the table
    assert EVIL not in text


def test_without_mel_there_is_nothing_to_compare_with(sound, monkeypatch, tmp_path):
    def refusing(config):
        if config.type == "mel":
            raise UserError("no mel today")
        return build_frontend(config)

    monkeypatch.setattr(frontends, "build_frontend", refusing)
    looks = look_at_all(sound, ["stft", "mel"], {})
    assert looks[0].times_reference is None
    assert "<td>–</td>" in write_frontend_page(tmp_path / "page.html", sound, looks).read_text("utf-8")


def test_several_channels_are_several_pictures(sound, monkeypatch, tmp_path):
    class Two(torch.nn.Module):
        def __init__(self, config):
            super().__init__()
            self.inner = build_frontend(config)

        def __getattr__(self, name):
            return super().__getattr__(name) if name == "inner" else getattr(self.inner, name)

        def forward(self, wave):
            return self.inner(wave).expand(-1, 2, -1, -1)

    monkeypatch.setattr(frontends, "build_frontend", Two)
    (look,) = look_at_all(sound, ["mel"], {})
    assert [picture.caption for picture in look.pictures] == ["mel, channel 1", "mel, channel 2"]
    text = write_frontend_page(tmp_path / "page.html", sound, [look]).read_text("utf-8")
    assert "2 × 64 × 48" in text
    assert "mel, channel 2" in text


def test_one_sample_is_a_clip(tmp_path):
    click = Sound("click", np.ones(1, np.float32), RATE, 0.0, 1 / RATE, RATE, 1)
    looks = look_at_all(click, ["mel", "stft"], {})
    assert not any(look.problem for look in looks)
    assert "nan" not in write_frontend_page(tmp_path / "page.html", click, looks).read_text("utf-8")


@pytest.mark.parametrize("kind", FrontEndConfig.get_known_choices())
def test_every_type_says_what_it_is(kind):
    about = about_type(kind)
    assert about.endswith(".")
    assert "\n" not in about
    assert not about.startswith(f"{type(configured(kind, {})).__name__}(")


def test_times_of_the_pictures_are_those_of_the_sound_that_plays(sound, tmp_path):
    # The recording is shown from 2 s on; the sound in the page begins there, at 0.
    text = write_frontend_page(tmp_path / "page.html", sound, look_at_all(sound, ["mel"], {})).read_text("utf-8")
    edges = [tuple(map(float, pair)) for pair in re.findall(r'data-start="(\S+)" data-end="(\S+)"', text)]
    assert edges[0] == (0.0, 0.5)
    assert edges[1] == pytest.approx((-0.0052, 0.4958), abs=1e-3)
    labels = re.findall(r'text-anchor="middle">([\d.]+)<', text)
    assert {"2", "2.1", "2.4"} <= set(labels)
