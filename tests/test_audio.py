import errno
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audiossl import audio
from audiossl.audio import AudioError
from audiossl.errors import UserError


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n_samples) * 0.1).astype(np.float32)


def written(path: Path, wave: np.ndarray, rate: int = 16000, **how) -> Path:
    soundfile.write(path, wave, rate, **how)
    return path


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.wav", {}),
        ("a.flac", {}),
        ("a.aiff", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
        ("a.caf", {}),
        ("a.w64", {}),
        ("a.au", {}),
    ],
)
def test_formats_and_channels(tmp_path, name, how):
    tone = np.sin(2 * np.pi * 300 * np.arange(16000) / 16000).astype(np.float32) * 0.4
    path = written(tmp_path / name, np.stack([tone, -tone / 2], axis=1), **how)
    assert audio.info(path) == audio.AudioInfo(16000, 16000, 2)
    assert audio.info(path).duration_s == 1.0
    each, rate = audio.load(path, channels="each")
    assert (each.shape, each.dtype, rate) == ((2, 16000), np.float32, 16000)
    middle = slice(2000, 14000)  # lossy codecs fade in
    assert np.abs(each[0] - tone)[middle].max() < 0.05
    np.testing.assert_allclose(audio.load(path)[0], each.mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(audio.load(path, channels="first")[0], each[0])


def test_path_bytes_and_file_object_are_the_same(tmp_path):
    path = written(tmp_path / "Größe 鳥 1.wav", noise(800))
    expected, _ = audio.load(path)
    with open(path, "rb") as file:
        for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), file):
            np.testing.assert_array_equal(audio.load(source)[0], expected)
            assert audio.info(source).n_samples == 800  # the same object can be read again


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_every_int16_value_comes_back(tmp_path, suffix):
    samples = np.arange(-32768, 32768).astype(np.int16)
    path = written(tmp_path / f"a.{suffix}", samples)
    np.testing.assert_array_equal(audio.to_int16(audio.load(path)[0]), samples)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, st.integers(1, 50), elements=st.floats(-8, 8, width=32)))
def test_to_int16_is_the_nearest_value_in_range(wave):
    expected = [min(32767, max(-32768, round(float(x) * 32768))) for x in wave]  # both round half to even
    assert audio.to_int16(wave).tolist() == expected


@given(st.integers(0, 40), st.integers(1, 40))
def test_fit_length_centres_or_cuts(n, n_samples):
    wave = np.arange(1, n + 1, dtype=np.int16)
    fitted = audio.fit_length(wave, n_samples)
    assert fitted.shape == (n_samples,)
    assert fitted.dtype == wave.dtype
    if n >= n_samples:
        np.testing.assert_array_equal(fitted, wave[:n_samples])
    else:
        places = np.flatnonzero(fitted)
        np.testing.assert_array_equal(fitted[places], wave)
        if n:
            before, after = places[0], n_samples - 1 - places[-1]
            assert after - before in (0, 1)


@pytest.mark.parametrize("rate_in", [8000, 11025, 44100, 48000, 16000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_part_is_the_same_part_of_the_whole(tmp_path, rate_in, suffix):
    wave = noise(rate_in * 3)
    path = written(tmp_path / f"a.{suffix}", wave, rate_in)
    whole, rate = audio.load(path, sample_rate=16000)
    assert rate == rate_in
    assert len(whole) == 48000
    exact, _ = audio.load(path)
    np.testing.assert_allclose(whole, soxr.resample(exact, rate_in, 16000), atol=1e-6)
    for start_s, duration_s in [(0.0, 1.0), (0.37, 0.5), (1.2345, 1.0), (2.5, 0.5), (2.5, 9.0), (0.1, None)]:
        part, _ = audio.load(path, 16000, start_s, duration_s)
        first = round(start_s * 16000)
        last = 48000 if duration_s is None else min(48000, first + round(duration_s * 16000))
        assert len(part) == last - first
        np.testing.assert_allclose(part, whole[first:last], atol=2e-6)


def test_a_part_of_a_long_file_reads_only_its_neighbourhood(tmp_path, monkeypatch):
    path = written(tmp_path / "long.flac", noise(44100 * 60), 44100)
    read: list[int] = []
    original = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile,
        "read",
        lambda self, frames, **how: read.append(frames) or original(self, frames, **how),
    )
    part, _ = audio.load(path, 16000, start_s=30.0, duration_s=1.0)
    assert len(part) == 16000
    assert sum(read) < 1.1 * 44100


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("sound", ["tone", "noise"])
def test_parts_of_an_mp3_are_those_of_the_whole(tmp_path, rate, sound):
    # An MP3 keeps some of a frame's sound in the frames before it: most of a steady tone's.
    t = np.arange(30 * rate) / rate
    wave = 0.1 * np.sin(2 * np.pi * 440 * t).astype(np.float32) if sound == "tone" else 0.1 * noise(30 * rate)
    path = written(tmp_path / "long.mp3", wave, rate)
    whole, _ = soundfile.read(path, dtype="float32")  # in one piece
    for sample_rate in (rate, 22050):
        expected = audio.resample(whole, rate, sample_rate)
        for start_s in np.random.default_rng(0).uniform(0, 29, 10):
            part, _ = audio.load(path, sample_rate, start_s, 1.0)
            first = round(start_s * sample_rate)
            np.testing.assert_allclose(part, expected[first : first + len(part)], atol=2e-6)


def test_a_long_mp3_is_the_same_in_blocks(tmp_path, monkeypatch):
    wave = 0.1 * np.sin(np.arange(16000 * 20) / 7).astype(np.float32)
    path = written(tmp_path / "long.mp3", wave, 16000)
    whole, _ = soundfile.read(path, dtype="float32")
    monkeypatch.setattr(audio, "_BLOCK", 50_000)
    np.testing.assert_allclose(audio.load(path)[0], whole, atol=2e-6)


def test_an_open_file_is_read_like_its_path_and_stays_open(tmp_path):
    path = written(tmp_path / "a.wav", noise(16000), 16000)
    with audio.opened(path) as file:
        for start_s in (0.5, 0.1, 0.5):
            np.testing.assert_array_equal(
                audio.load(file, 8000, start_s, 0.2)[0], audio.load(path, 8000, start_s, 0.2)[0]
            )
        assert audio.info(file) == audio.info(path)
        with pytest.raises(audio.AudioError, match=r"a\.wav is 1 s long"):
            audio.load(file, start_s=2.0)


def test_resample_keeps_a_tone_and_takes_channels():
    tone = np.sin(2 * np.pi * 500 * np.arange(8000) / 8000).astype(np.float32)
    up = audio.resample(np.stack([tone, -tone]), 8000, 16000)
    assert up.shape == (2, 16000)
    expected = np.sin(2 * np.pi * 500 * np.arange(16000) / 16000)
    assert np.abs(up[0] - expected)[1000:-1000].max() < 1e-3
    assert audio.resample(tone, 8000, 8000) is tone


def _refused(source, *words: str) -> str:
    with pytest.raises(AudioError) as caught:
        audio.load(source)
    message = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_what_is_no_audio_is_refused_by_name(tmp_path):
    _refused(tmp_path / "missing file.wav", "missing file.wav", "does not exist")
    _refused(tmp_path, str(tmp_path), "folder")
    (tmp_path / "empty.wav").touch()
    _refused(tmp_path / "empty.wav", "empty.wav", "0 bytes")
    (tmp_path / "letter.wav").write_text("Dear Sir or Madam, " * 20)
    _refused(tmp_path / "letter.wav", "letter.wav", "no audio")
    (tmp_path / "headerless.raw").write_bytes(bytes(100))
    _refused(tmp_path / "headerless.raw", "headerless.raw")
    _refused(b"", "0 bytes")
    _refused(b"nothing", "the audio in memory")
    _refused(written(tmp_path / "none.wav", noise(0)), "none.wav", "no samples")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.wav", {}),
        ("a.aiff", {}),
        ("a.au", {}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.caf", {}),
        ("a.mp3", {}),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_truncated_files_are_refused(tmp_path, name, how, share):
    path = written(tmp_path / name, noise(32000), **how)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    _refused(path, name)


def test_a_wav_from_a_pipe_has_no_length_and_is_read(tmp_path):
    path = written(tmp_path / "pipe.wav", noise(1000))
    content = bytearray(path.read_bytes())
    for place in (4, 40):
        content[place : place + 4] = struct.pack("<I", 2**32 - 1)
    path.write_bytes(content)
    assert len(audio.load(path)[0]) == 1000


def test_a_flac_without_length_is_refused(tmp_path):
    path = written(tmp_path / "pipe.flac", noise(16000))
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that count the samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    _refused(path, "pipe.flac", "how long")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_are_refused(tmp_path, bad):
    wave = noise(1000)
    wave[500] = bad
    _refused(written(tmp_path / "a.wav", wave, subtype="FLOAT"), "a.wav", "NaN or Inf")


def test_silence_is_a_sound_and_parts_must_exist(tmp_path):
    path = written(tmp_path / "a.wav", np.zeros(16000, dtype=np.float32))
    assert not audio.load(path)[0].any()
    for start_s in (1.0, 7.0, -0.5):
        with pytest.raises(AudioError, match="nothing can be read"):
            audio.load(path, start_s=start_s)
    assert len(audio.load(path, start_s=0.5, duration_s=3.0)[0]) == 8000


@pytest.mark.parametrize("sample_rate", [None, 8000, 11025, 44100])
@pytest.mark.parametrize("n_samples", [1, 2, 999, 1000])
def test_a_part_that_begins_at_the_very_end_has_the_last_sample(tmp_path, sample_rate, n_samples):
    path = written(tmp_path / "a.wav", noise(n_samples))
    whole, _ = audio.load(path, sample_rate)
    for before in (0.6, 0.4, 1e-6):
        part, _ = audio.load(path, sample_rate, start_s=(n_samples - before) / 16000, duration_s=1.0)
        assert 1 <= len(part) <= 3
        np.testing.assert_allclose(part, whole[-len(part) :], atol=1e-5)


def test_find_audio(tmp_path):
    for name in (
        "b/x.WAV",
        "a/y z.flac",
        "a/deep/ß.ogg",
        "top.mp3",
        ".hidden/h.wav",
        "a/._x.wav",
        "a/notes.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in audio.find_audio(tmp_path)]
    assert found == ["a/deep/ß.ogg", "a/y z.flac", "b/x.WAV", "top.mp3"]
    with pytest.raises(AudioError, match="not a folder"):
        audio.find_audio(tmp_path / "top.mp3")


def test_a_folder_that_cannot_be_listed_stands_among_the_files(tmp_path, monkeypatch):
    written(tmp_path / "b.wav", noise(100))
    (tmp_path / "a" / "locked").mkdir(parents=True)
    locked, scandir = {str(tmp_path / "a" / "locked")}, os.scandir

    def refuse(folder):
        if str(folder) in locked:
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert audio.find_audio(tmp_path) == [tmp_path / "a" / "locked", tmp_path / "b.wav"]
    with pytest.raises(AudioError, match=r"locked is a folder that cannot be listed \(Permission denied\)"):
        audio.info(tmp_path / "a" / "locked")
    locked.add(str(tmp_path))
    with pytest.raises(AudioError, match=r"cannot be listed \(Permission denied\)"):
        audio.find_audio(tmp_path)
