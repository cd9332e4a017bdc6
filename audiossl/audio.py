"""The only place that opens audio files: soundfile (libsndfile) decodes and writes, soxr resamples.

Any sample rate, channel count and format that libsndfile knows (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF
...), from a path, bytes or a file object. A part of a long file is read by seeking, and comes out as the same
part of the whole file would, resampled or not.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np
import soundfile
import soxr

from audiossl.errors import UserError

Source: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | soundfile.SoundFile
Channels = Literal["mix", "first", "each"]

# fmt: off
AUDIO_SUFFIXES = frozenset({
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64",
})
# fmt: on
# soxr's default filter reaches this many samples of the lower rate to each side; measured: the error at the
# seam of two parts falls from 5e-5 at 64 to float32 rounding (3e-7) at 128.
_MARGIN = 160
# Frames that an MP3 may be short of its header: the encoder's padding, at most two MPEG frames.
_MP3_SLACK = 2 * 1152
# Frames that are decoded before a part of an MP3, which keeps some of its sound in them: without, it begins with noise.
# Measured: 5 x 1152 are too few for a steady tone, 10 x 1152 give the samples of the whole file.
_MP3_BEFORE = 20 * 1152
# Above this a header's length is a placeholder of a program that wrote into a pipe.
_PLACEHOLDER = 2**31 - 2**16
# Samples of a channel that a byte can stand for: FLAC packs 65,535 equal ones into 11 bytes, Vorbis and Opus fewer.
# A header that promises more is damaged: nobody shall make room for it, or cut it into a million clips.
_MOST_SAMPLES_PER_BYTE = 8192
# Rates further apart are not meant: a header that says 1 Hz would make 16,000 samples of each.
_MOST_RESAMPLED = 1000
# Samples that are decoded at a time: memory grows with what is there, and not with what a header promises.
_BLOCK = 1 << 22


class AudioError(UserError):
    """A recording that cannot be read: the message names the file and says what was found."""


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a recording says."""

    sample_rate: int
    n_samples: int
    n_channels: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate


def info(source: Source) -> AudioInfo:
    """Sample rate, samples and channels of a recording, from its header only.

    Raises `AudioError` when it is missing, empty, not audio, or has no samples.
    """
    with opened(source) as file:
        return AudioInfo(file.samplerate, file.frames, file.channels)


def load(
    source: Source,
    sample_rate: int | None = None,
    start_s: float = 0.0,
    duration_s: float | None = None,
    channels: Channels = "mix",
) -> tuple[np.ndarray, int]:
    """Read a recording or a part of it as float32 in [-1, 1], with the sample rate that the file has.

    `channels`: "mix" (their mean) and "first" give (S,), "each" gives (C, S). The wave is resampled to
    `sample_rate` when one is given. A part that runs past the end is as long as the file allows, one sample at least.
    Raises `AudioError` for what is missing, empty, truncated, not audio, of 0 samples, or holds NaN or Inf, and for a
    rate that cannot be meant.

    >>> memory = io.BytesIO()
    >>> soundfile.write(memory, np.zeros(8000), 8000, format="WAV")
    >>> wave, rate_of_file = load(memory, sample_rate=16000, start_s=0.25, duration_s=0.5)
    >>> wave.shape, rate_of_file
    ((8000,), 8000)
    """
    with opened(source) as file:
        rate = file.samplerate
        if not 1 / _MOST_RESAMPLED <= (sample_rate or rate) / rate <= _MOST_RESAMPLED:
            raise AudioError(
                f"{name_of(source)} says {rate} Hz, which cannot become {sample_rate} Hz: its header is damaged."
            )
        if not 0 <= start_s * rate < file.frames:
            raise AudioError(
                f"{name_of(source)} is {file.frames / rate:g} s long; nothing can be read at {start_s:g} s."
            )
        if sample_rate is None or sample_rate == rate:
            first = min(round(start_s * rate), file.frames - 1)
            last = None if duration_s is None else first + max(1, round(duration_s * rate))
            wave = _read(file, source, first, last, channels)
        else:
            wave = _read_resampled(file, source, sample_rate, start_s, duration_s, channels)
    if not len(wave):
        raise AudioError(f"{name_of(source)} is too short for a sample at {sample_rate} Hz: its header says {rate} Hz.")
    return np.ascontiguousarray(wave.T), rate


def resample(wave: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Resample (S,) or (C, S) float32 from `rate_in` to `rate_out` Hz with soxr at its high quality.

    >>> resample(np.zeros(8000, dtype=np.float32), 8000, 16000).shape
    (16000,)
    """
    if rate_in == rate_out:
        return wave
    return np.ascontiguousarray(soxr.resample(wave.T, rate_in, rate_out).T)


def as_wave(wave: np.ndarray, name: str = "the wave") -> np.ndarray:
    """One channel of float32 samples (S,) from floats in [-1, 1] or int16; raises `AudioError` for what is no sound.

    >>> as_wave(np.array([0, 16384], np.int16))
    array([0. , 0.5], dtype=float32)
    """
    if wave.ndim != 1 or wave.size == 0:
        raise AudioError(f"{name} has shape {wave.shape}: give (samples,) with at least one sample.")
    if wave.dtype == np.int16:
        return wave.astype(np.float32) / np.float32(32768)
    if not np.issubdtype(wave.dtype, np.floating):
        raise AudioError(f"{name} holds {wave.dtype} numbers: give floats in [-1, 1] or int16.")
    if not np.isfinite(wave).all():
        raise AudioError(f"{name} holds NaN or Inf; repair it or leave it out.")
    return np.ascontiguousarray(wave, dtype=np.float32)


def to_int16(wave: np.ndarray) -> np.ndarray:
    """Round a float wave to int16, clipped to [-1, 1); what was int16 in a file comes back bit for bit.

    >>> to_int16(np.array([-1.0, 0.5, 1.0, 7.0])).tolist()
    [-32768, 16384, 32767, 32767]
    """
    return np.clip(np.rint(wave * np.float32(32768)), -32768, 32767).astype(np.int16)


def fit_length(wave: np.ndarray, n_samples: int) -> np.ndarray:
    """Bring (S,) to `n_samples`: short waves are centred in zeros, long ones cut at the end.

    >>> fit_length(np.array([1, 2]), 5).tolist(), fit_length(np.array([1, 2, 3]), 2).tolist()
    ([0, 1, 2, 0, 0], [1, 2])
    """
    missing = n_samples - len(wave)
    if missing <= 0:
        return wave[:n_samples]
    return np.pad(wave, (missing // 2, missing - missing // 2))


def find_audio(folder: str | os.PathLike[str]) -> list[Path]:
    """Every audio file below `folder`, sorted; hidden files and folders are left out, links are followed.

    A folder below that cannot be listed stands among the files, so that it is skipped and named, or refused, as a file
    is that cannot be read. Raises `AudioError` when `folder` is not a folder, or cannot be listed itself.
    """
    if not os.path.isdir(folder):
        raise AudioError(f"{folder} is not a folder; give a folder of audio files.")
    found: list[Path] = []
    unlisted: list[OSError] = []
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, onerror=unlisted.append, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        audible = (n for n in names if not n.startswith(".") and Path(n).suffix.lower() in AUDIO_SUFFIXES)
        found.extend(Path(here, name) for name in audible)
    if not seen:
        raise AudioError(f"{folder} cannot be listed ({unlisted[0].strerror}): check its permissions.")
    return sorted([*found, *(Path(error.filename) for error in unlisted)])


def readable_formats() -> dict[str, bool]:
    """Which of the usual formats the installed libsndfile decodes.

    >>> readable_formats()["WAV"]
    True
    """
    formats = soundfile.available_formats()
    ogg = soundfile.available_subtypes("OGG") if "OGG" in formats else {}
    plain = {name: name in formats for name in ("WAV", "FLAC", "AIFF", "MP3")}
    return {**plain, "Ogg Vorbis": "VORBIS" in ogg, "Opus": "OPUS" in ogg}


def encode(samples: np.ndarray, sample_rate: int, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """Bytes of a file of one channel that holds int16 samples (S,), in a format and subtype that libsndfile writes.

    >>> encode(np.zeros(100, np.int16), 8000)[:4], len(encode(np.zeros(100, np.int16), 8000))
    (b'RIFF', 244)
    """
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, sample_rate, subtype=subtype, format=form)
    return encoded.getvalue()


def write(path: str | os.PathLike[str], samples: np.ndarray, sample_rate: int) -> None:
    """Write int16 samples (S,) as a file of one channel and 16 bits, in the format of the path's suffix.

    Raises `UserError` when the file cannot be written.
    """
    # Encoded in memory first: libsndfile does not pass on what goes wrong in a file object, a full disk say.
    encoded = encode(samples, sample_rate, os.path.splitext(path)[1].lstrip(".").upper())
    try:
        Path(path).write_bytes(encoded)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written ({reason}); make room or choose another place.") from error


def name_of(source: Source) -> str:
    """What to call a source in a message."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return os.fsdecode(name) if isinstance(name, (str, bytes)) else "the audio in memory"


@contextmanager
def opened(source: Source) -> Iterator[soundfile.SoundFile]:
    """An open, plausible sound file, of which every failure inside becomes an `AudioError`; an open one stays so."""
    name = name_of(source)
    try:
        if isinstance(source, soundfile.SoundFile):
            yield source
            return
        readable = _readable(source, name)
        with soundfile.SoundFile(readable) as file:
            _check_header(file, name, _n_bytes(readable))
            yield file
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(". ")
        raise AudioError(f"{name} cannot be decoded as audio ({reason}); it is damaged or no audio.") from error
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise AudioError(f"{name} cannot be read as audio ({error}).") from error


def _readable(source: Source, name: str) -> bytes | str | BinaryIO:
    """What soundfile opens, after the mistakes that have a plainer name than its own messages give them."""
    if isinstance(source, (str, os.PathLike)):
        if not os.path.exists(source):
            raise AudioError(f"{name} does not exist.")
        if os.path.isdir(source):
            raise AudioError(_why_no_file(source))
        if os.path.getsize(source) == 0:
            raise AudioError(f"{name} is empty (0 bytes).")
        if not os.access(source, os.R_OK):
            raise AudioError(f"{name} may not be read: check its permissions.")
        # Bytes, because names that are no valid UTF-8 exist.
        return os.fspath(source) if os.name == "nt" else os.fsencode(source)
    if not isinstance(source, bytes):
        if source.seekable():
            source.seek(0)
            return source
        source = source.read()
    if not source:
        raise AudioError(f"{name} is empty (0 bytes).")
    return io.BytesIO(source)


def _why_no_file(folder: str | os.PathLike[str]) -> str:
    """What to say of a folder in place of a file: `find_audio` gives those that it could not look into."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        return f"{folder} is a folder that cannot be listed ({error.strerror}): check its permissions."
    return f"{folder} is a folder, not an audio file."


def _n_bytes(source: bytes | str | BinaryIO) -> int:
    if isinstance(source, (bytes, str)):
        return os.path.getsize(source)
    place = source.tell()
    n_bytes = source.seek(0, os.SEEK_END)
    source.seek(place)
    return n_bytes


def _check_header(file: soundfile.SoundFile, name: str, n_bytes: int) -> None:
    if file.frames == 0:
        raise AudioError(f"{name} holds no samples: it is empty or truncated.")
    if file.frames > 2**60:
        raise AudioError(f"{name} does not say how long it is; write it anew, for example with ffmpeg.")
    if file.frames > _MOST_SAMPLES_PER_BYTE * n_bytes:
        raise AudioError(f"{name} promises {file.frames} samples in {n_bytes} bytes: its header is damaged.")
    # libsndfile shortens a PCM file whose header promises more than is there, and tells only its log.
    found = re.search(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", file.extra_info, re.M)
    if found:
        promised, there = int(found[1]), int(found[2])
        if there < 0.99 * promised and promised < _PLACEHOLDER:
            raise AudioError(f"{name} is truncated: {there} of {promised} bytes of sound are there.")


def _read(file: soundfile.SoundFile, source: Source, first: int, last: int | None, channels: Channels) -> np.ndarray:
    """Frames [first, last) of the file's own rate: (S,), or (S, C) for "each"."""
    stop = file.frames if last is None else min(last, file.frames)
    frames = _frames(file, first, stop)
    slack = _MP3_SLACK + 0.01 * (stop - first) if file.format == "MP3" else 0
    if len(frames) == 0 or len(frames) < stop - first - slack:
        raise AudioError(f"{name_of(source)} is truncated: {len(frames)} of {stop - first} samples are there.")
    if channels == "each":
        wave = frames
    elif channels == "first" or frames.shape[1] == 1:
        wave = frames[:, 0]
    else:
        wave = frames.mean(axis=1)
    if not np.isfinite(wave).all():
        raise AudioError(f"{name_of(source)} holds NaN or Inf; repair it or leave it out.")
    return wave


def _frames(file: soundfile.SoundFile, first: int, stop: int) -> np.ndarray:
    """Frames (S, C) of a file from `first` on, fewer than asked for where it ends before `stop`."""
    blocks, at_a_time = [], max(1, _BLOCK // file.channels)
    for start in range(first, max(stop, first + 1), at_a_time):
        # Before each block, since soundfile seeks after each reading.
        before = min(start, _MP3_BEFORE) if file.format == "MP3" else 0
        n_frames = before + min(at_a_time, stop - start)
        if file.seek(start - before) != start - before:  # a damaged Opus file says 3e18
            break
        blocks.append(file.read(n_frames, dtype="float32", always_2d=True)[before:])
        if len(blocks[-1]) < n_frames - before:
            break
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.empty((0, file.channels), np.float32), *blocks])


def _read_resampled(
    file: soundfile.SoundFile,
    source: Source,
    sample_rate: int,
    start_s: float,
    duration_s: float | None,
    channels: Channels,
) -> np.ndarray:
    """The part of the resampled file, from only its own frames and a margin on both sides.

    Reading starts where a sample of the file and one of the result coincide (every rate / gcd frames), so
    that the part lies on the grid of the whole file.
    """
    rate = file.samplerate
    step_in = rate // math.gcd(rate, sample_rate)
    step_out = sample_rate // math.gcd(rate, sample_rate)
    margin = math.ceil(_MARGIN * max(1.0, rate / sample_rate))
    n_out = (2 * file.frames * sample_rate + rate) // (2 * rate)
    first_out = min(round(start_s * sample_rate), max(0, n_out - 1))
    block = max(0, first_out * rate // sample_rate - margin) // step_in
    last = last_out = None
    if duration_s is not None:
        last_out = first_out + max(1, round(duration_s * sample_rate))
        last = math.ceil(last_out * rate / sample_rate) + margin
    wave = soxr.resample(_read(file, source, block * step_in, last, channels), rate, sample_rate)
    skipped = block * step_out
    return wave[first_out - skipped : None if last_out is None else last_out - skipped]
