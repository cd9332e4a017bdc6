"""What a point of the map sounds and looks like: a small file that browsers play, and a small picture."""

from __future__ import annotations

import io
import math
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from audiossl import audio
from audiossl.run.pictures import palette

if TYPE_CHECKING:
    from audiossl.transforms.frontend import FrontEnd

MIME = {"opus": 'audio/ogg; codecs="opus"', "flac": "audio/flac"}
# The rates that Opus knows, in Hz.
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
# The picture: windows of at least 25 ms, from the loudest cell of a clip down to 70 dB below.
WINDOW_S, RANGE_DB = 0.025, 70.0
# Stretches of sound that are longer than so many windows and stand for one column are cut before they are analysed.
LONG_WINDOWS = 4
SERIAL = (1).to_bytes(4, "little")
BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def encode_sound(wave: np.ndarray, sample_rate: int, form: Literal["opus", "flac"]) -> bytes:
    """Bytes of a small file that browsers play; the same sound gives the same bytes.

    The first 60 words of Speech Commands, 0.98 s on average at 16 kHz, took 3.1 KB and 40 ms of a CPU each as Opus in
    Ogg, and 14.3 KB and half a millisecond as FLAC, which is exact.

    Args:
        wave: (S,) int16, at least one sample.
        sample_rate: in Hz. Opus knows five rates: others are resampled to the next above, or down to 48 kHz.
        form: "opus" or "flac".
    """
    if form == "flac":
        return audio.encode(wave, sample_rate, "FLAC")
    rate = next((known for known in OPUS_RATES if known >= sample_rate), OPUS_RATES[-1])
    if rate != sample_rate:
        wave = audio.to_int16(audio.resample(audio.as_wave(wave), sample_rate, rate))
    return _settled(audio.encode(wave if len(wave) else np.zeros(1, np.int16), rate, "OGG", "OPUS"))


def _settled(stream: bytes) -> bytes:
    """An Ogg Opus stream without what libsndfile adds: a random serial number, and 767 bytes for comments to come."""
    pages, at = [], 0
    while at < len(stream):
        body = at + 27 + stream[at + 26]
        end = body + sum(stream[at + 27 : body])
        header, packets = stream[at : at + 26], stream[body:end]
        lacing = stream[at + 26 : body]
        if packets.startswith(b"OpusTags"):
            vendor_ends = 12 + int.from_bytes(packets[8:12], "little")
            packets = packets[:vendor_ends] + bytes(4)  # no comments
            lacing = bytes([len(packets) // 255 + 1, *[255] * (len(packets) // 255), len(packets) % 255])
        page = header[:14] + SERIAL + header[18:22] + bytes(4) + lacing + packets
        pages.append(page[:22] + _ogg_checksum(page) + page[26:])
        at = end
    return b"".join(pages)


def _ogg_checksum(page: bytes) -> bytes:
    """The checksum of a page whose own is 0 (RFC 3533): zlib's, with the bits in the other order and no inversions."""
    mirrored = zlib.crc32(page.translate(BITS_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return mirrored.to_bytes(4, "big").translate(BITS_REVERSED)


def thumbnail(waves: np.ndarray, sample_rate: int, width: int = 64, height: int = 40) -> np.ndarray:
    """Log-mel pictures (B, height, width) uint8 of waves (B, S) int16, high frequency at the top.

    Powers are averaged over the stretch of time of each column, however long the waves are. 255 is the loudest cell of
    a picture, 0 is 70 dB below it, or silence.
    """
    pictures = np.empty((len(waves), height, width), np.uint8)
    for picture, wave in zip(pictures, waves, strict=True):  # one by one: a batch is then what single waves are
        power = _mel_power(wave, sample_rate, width, height)
        peak = power.max()
        if peak > 0:
            decibels = 10 * np.log10(np.maximum(power / peak, 10 ** (-RANGE_DB / 10)))
            picture[:] = np.rint(255 * (decibels / RANGE_DB + 1))[::-1]
        else:
            picture[:] = 0
    return pictures


def _mel_power(wave: np.ndarray, sample_rate: int, width: int, height: int) -> np.ndarray:
    """Mean power (height, width) of each band, low frequency first, in each of `width` stretches of a wave (S,)."""
    import torch
    from torch.nn.functional import adaptive_avg_pool1d

    n_fft = _window(sample_rate, height)
    samples = torch.from_numpy(audio.as_wave(wave))
    stretch = len(wave) // width
    with torch.inference_mode():
        if stretch > LONG_WINDOWS * n_fft:
            # One stretch a clip: memory then does not grow with the length, and the last samples are not missed.
            front_end = _front_end(sample_rate, height, n_fft, n_fft // 4)
            power = front_end(samples[: stretch * width].view(width, stretch))[:, 0].mean(dim=2).T
        else:
            hop_length = max(1, min(n_fft // 4, stretch))
            frames = _front_end(sample_rate, height, n_fft, hop_length)(samples[None])[0, 0]
            power = adaptive_avg_pool1d(frames, width)
    return power.double().numpy()


def _window(sample_rate: int, height: int) -> int:
    """Samples of the window: a power of 2, at least 25 ms, and enough for each band to hold a bin."""
    return 2 ** math.ceil(math.log2(max(256, 8 * height, WINDOW_S * sample_rate)))


@lru_cache(maxsize=16)
def _front_end(sample_rate: int, height: int, n_fft: int, hop_length: int) -> FrontEnd:
    from audiossl.transforms import MelConfig, build_frontend

    return build_frontend(
        MelConfig(
            sample_rate=sample_rate,
            n_bins=height,
            n_fft=n_fft,
            win_length=n_fft,
            hop_length=hop_length,
            f_min=0.0,
            f_max=0.49 * sample_rate,
            compress="none",
        )
    )


def sprite_sheet(tiles: np.ndarray, columns: int) -> bytes:
    """One PNG that holds tiles (n, height, width) uint8 row by row, `columns` in each, in the colours of the reports.

    What the last row does not fill is black.
    """
    from PIL import Image

    n, height, width = tiles.shape
    rows = -(-n // columns)
    padded = np.zeros((rows * columns, height, width), np.uint8)
    padded[:n] = tiles
    sheet = padded.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)
    drawn = Image.fromarray(np.ascontiguousarray(sheet), mode="P")
    drawn.putpalette(palette().tobytes())
    encoded = io.BytesIO()
    drawn.save(encoded, "PNG", optimize=True)
    return encoded.getvalue()
