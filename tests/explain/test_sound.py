from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import soundfile

from audiossl.audio import AudioError
from audiossl.errors import UserError
from audiossl.explain.sound import Sound, envelope, player, read_sound, waveform

RATE = 16000


@pytest.fixture
def recording(tmp_path):
    """Ten seconds in two channels at 8 kHz: in second n a tone of n x 100 Hz."""
    time = np.arange(8000) / 8000
    wave = np.concatenate([0.5 * np.sin(2 * np.pi * 100 * (n + 1) * time) for n in range(10)])
    path = tmp_path / "ten.wav"
    soundfile.write(path, np.stack([wave, wave], 1), 8000)
    return path


def test_a_part_is_read_resampled_and_mixed(recording):
    sound = read_sound(recording, RATE, start_s=4.0, duration_s=1.0)
    assert (len(sound.wave), sound.start_s, sound.recording_s, sound.rate_in, sound.n_channels) == (
        RATE,
        4,
        10,
        8000,
        2,
    )
    assert np.abs(np.fft.rfft(sound.wave)).argmax() == 500


def test_five_seconds_are_taken_of_a_long_recording_and_all_of_a_short_one(recording, tmp_path):
    assert read_sound(recording, RATE).duration_s == 5.0
    soundfile.write(tmp_path / "short.wav", np.zeros(100), RATE)
    assert len(read_sound(tmp_path / "short.wav", RATE).wave) == 100


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"start_s": -1.0}, "--start_s -1"),
        ({"duration_s": 0.0}, "--duration_s 0"),
        ({"duration_s": 3600.0}, "at most 60 seconds"),
        ({"duration_s": float("nan")}, "--duration_s nan"),
        ({"sample_rate": 0}, "--sample_rate 0"),
    ],
)
def test_impossible_parts_are_refused(recording, settings, words):
    with pytest.raises(UserError, match=words):
        read_sound(recording, **{"sample_rate": RATE, **settings})


def test_a_part_behind_the_end_is_refused(recording):
    with pytest.raises(AudioError, match="10 s long"):
        read_sound(recording, RATE, start_s=10.0)


@pytest.mark.parametrize("kind", [np.float32, np.int16])
def test_what_plays_is_the_wave(kind):
    wave = np.random.default_rng(0).uniform(-0.9, 0.9, 1000).astype(np.float32)
    given = wave if kind is np.float32 else np.rint(wave * 32768).astype(np.int16)
    html = player(given, 22050, '"><script>')
    assert "<script" not in html
    data = re.search(r'src="data:audio/wav;base64,([^"]+)"', html).group(1)
    played, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert rate == 22050
    np.testing.assert_allclose(played, wave, atol=2e-5)


def test_the_envelope_holds_every_extreme():
    wave = np.random.default_rng(0).normal(size=10007)
    low, high = envelope(wave, 540)
    assert len(low) == len(high) == 540
    assert (low.min(), high.max()) == (wave.min(), wave.max())
    assert len(envelope(wave[:3], 540)[0]) == 3


@pytest.mark.parametrize("wave", [np.zeros(1), np.zeros(5000), np.full(5000, -1.0)])
def test_silence_and_single_samples_have_a_waveform(wave):
    svg = waveform(Sound("x", wave.astype(np.float32), RATE, 0.0, 1.0, RATE, 1))
    assert "nan" not in svg
    assert "inf" not in svg
    assert ("digital silence" in svg) == (not wave.any())
