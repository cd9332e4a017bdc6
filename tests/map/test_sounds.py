"""Sounds as small files, the same at each call; small pictures that show what is heard; sheets of them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from audiossl import audio
from audiossl.map import sounds
from audiossl.map.sounds import MIME, OPUS_RATES, encode_sound, sprite_sheet, thumbnail
from audiossl.run.pictures import palette


def tone(hz: float, sample_rate: int = 16000, duration_s: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    time = np.arange(round(duration_s * sample_rate)) / sample_rate
    return audio.to_int16(amplitude * np.sin(2 * np.pi * hz * time))


def noise(n_samples: int, amplitude: int = 3000) -> np.ndarray:
    return np.random.default_rng(0).normal(0, amplitude, n_samples).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize("wave", [noise(16000), noise(1), noise(16000, 100_000), np.zeros(500, np.int16)])
@pytest.mark.parametrize("sample_rate", [4000, 16000, 22050, 96000])
def test_flac_gives_the_samples_back(wave, sample_rate):
    samples, rate = audio.load(encode_sound(wave, sample_rate, "flac"))
    assert rate == sample_rate
    assert audio.to_int16(samples).tolist() == wave.tolist()


@pytest.mark.parametrize("sample_rate", OPUS_RATES)
def test_opus_sounds_like_the_sound(sample_rate):
    wave = tone(440, sample_rate)
    samples, rate = audio.load(encode_sound(wave, sample_rate, "opus"))
    assert (rate, len(samples)) == (sample_rate, len(wave))
    error = samples - audio.as_wave(wave)
    assert 10 * np.log10(np.mean(samples**2) / np.mean(error**2)) > 15


@pytest.mark.parametrize(
    ("given", "stored"), [(4000, 8000), (11025, 12000), (22050, 24000), (44100, 48000), (96000, 48000)]
)
def test_rates_that_opus_does_not_know_become_one_that_it_does(given, stored):
    samples, rate = audio.load(encode_sound(tone(440, given), given, "opus"))
    assert rate == stored
    assert len(samples) == pytest.approx(stored, abs=1)
    spectrum = np.abs(np.fft.rfft(samples[:stored]))
    assert np.argmax(spectrum) / (len(samples[:stored]) / stored) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("n_samples", [1, 2, 319, 16001])
@pytest.mark.parametrize("sample_rate", [16000, 22050, 96000])
def test_opus_takes_the_shortest_sounds(n_samples, sample_rate):
    samples, rate = audio.load(encode_sound(noise(n_samples), sample_rate, "opus"))
    assert len(samples) == pytest.approx(n_samples * rate / sample_rate, abs=1)


def test_silence_and_clipped_sounds_are_encoded():
    assert np.abs(audio.load(encode_sound(np.zeros(16000, np.int16), 16000, "opus"))[0]).max() < 1e-4
    loud = np.where(tone(300) > 0, 32767, -32768).astype(np.int16)
    assert np.sqrt(np.mean(audio.load(encode_sound(loud, 16000, "opus"))[0] ** 2)) > 0.7


@pytest.mark.parametrize("form", MIME)
def test_a_sound_gives_the_same_bytes_each_time(form):
    assert encode_sound(noise(40_000), 16000, form) == encode_sound(noise(40_000), 16000, form)


def checksum_by_the_definition(page: bytes) -> int:
    """RFC 3533: polynomial 0x04c11db7, from 0, not inverted, the first bit first."""
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1) ^ (0x104C11DB7 if register & 0x80000000 else 0)
    return register


def test_the_pages_of_a_stream_are_whole():
    stream, at, numbers = encode_sound(noise(80_000), 16000, "opus"), 0, []
    while at < len(stream):
        capture, version, kind, _, serial, number, checksum, n_lacing = struct.unpack_from("<4sBBqIIIB", stream, at)
        end = at + 27 + n_lacing + sum(stream[at + 27 : at + 27 + n_lacing])
        page = bytearray(stream[at:end])
        page[22:26] = bytes(4)
        assert (capture, version, serial) == (b"OggS", 0, 1)
        assert checksum == checksum_by_the_definition(bytes(page))
        numbers.append(number)
        at = end
    assert kind & 4, "the last page says that it is the last"
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 3


@pytest.mark.data
def test_a_spoken_word_takes_few_kilobytes(speech_commands_9w):
    sizes = []
    for path in sorted((speech_commands_9w / "down").iterdir())[:20]:
        wave, rate = audio.load(path)
        sizes.append(len(encode_sound(audio.to_int16(wave), rate, "opus")))
    assert np.mean(sizes) < 3500


def test_a_tone_is_a_line_at_its_height():
    low, high = thumbnail(np.stack([tone(300), tone(5000)]), 16000)
    assert low.shape == (40, 64)
    assert low.dtype == np.uint8
    assert np.argmax(low.mean(axis=1)) > 30
    assert np.argmax(high.mean(axis=1)) < 12
    assert low.max() == high.max() == 255


def test_time_runs_from_left_to_right_and_is_filled_whatever_the_length():
    for n_samples in (200, 16000, 16000 * 20):
        wave = noise(n_samples)
        wave[: n_samples // 2] = 0
        columns = thumbnail(wave[None], 16000)[0].mean(axis=0)
        assert columns[:24].max() < columns[-24:].min()


def test_long_waves_are_cut_into_stretches_and_look_as_they_would_whole(monkeypatch):
    wave = noise(160_000) // np.repeat([1, 30, 4, 1], 40_000).astype(np.int16)
    cut = thumbnail(wave[None], 16000)[0].astype(int)
    monkeypatch.setattr(sounds, "LONG_WINDOWS", 10**6)
    whole = thumbnail(wave[None], 16000)[0].astype(int)
    assert 0 < np.abs(cut - whole).mean() < 4


def test_levels_reach_70_db_down_from_the_loudest():
    wave = tone(1000, amplitude=0.9).astype(np.int64)
    wave[8000:] = tone(1000, amplitude=0.9)[8000:] / 100  # 40 dB less
    picture = thumbnail(wave.astype(np.int16)[None], 16000)[0]
    row = picture[:, 10].argmax()
    assert picture[row, 10] == 255
    assert picture[row, 50] == pytest.approx(255 * (1 - 40 / 70), abs=2)
    assert picture.min() == 0


def test_loudness_does_not_matter_and_silence_is_black():
    wave = noise(16000, 200)
    quiet, loud, silent = thumbnail(np.stack([wave, wave * 20, wave * 0]), 16000)
    assert np.abs(quiet.astype(int) - loud).max() <= 1
    assert silent.max() == 0


@pytest.mark.parametrize("n_samples", [1, 400, 16000, 200_000])
@pytest.mark.parametrize("sample_rate", [100, 8000, 44100, 192_000])
@pytest.mark.parametrize(("width", "height"), [(64, 40), (7, 128)])
def test_every_length_rate_and_size_has_a_picture(n_samples, sample_rate, width, height):
    picture = thumbnail(noise(n_samples)[None], sample_rate, width, height)[0]
    assert picture.shape == (height, width)
    assert picture.max() == 255


def test_a_batch_is_what_single_waves_are():
    waves = np.stack([np.roll(noise(16000), shift) for shift in range(8)])
    assert np.array_equal(thumbnail(waves, 16000), np.concatenate([thumbnail(wave[None], 16000) for wave in waves]))


def test_no_waves_have_no_pictures():
    assert thumbnail(np.empty((0, 16000), np.int16), 16000).shape == (0, 40, 64)


@pytest.mark.parametrize("n", [1, 3, 7, 9])
def test_the_sheet_holds_every_tile_in_the_colours_of_the_reports(n):
    tiles = np.random.default_rng(0).integers(0, 256, (n, 5, 8), dtype=np.uint8)
    encoded = sprite_sheet(tiles, columns=3)
    assert encoded == sprite_sheet(tiles, columns=3)
    with Image.open(io.BytesIO(encoded)) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (5 * -(-n // 3), 24, 3)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, 3)
        assert np.array_equal(pixels[5 * row : 5 * row + 5, 8 * column : 8 * column + 8], palette()[tile])
    if n % 3:
        assert (pixels[-5:, 8 * (n % 3) :] == palette()[0]).all()
