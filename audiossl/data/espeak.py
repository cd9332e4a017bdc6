"""The eSpeak NG speech engine through ctypes: a word in, int16 samples out.

The library and its voices come in the wheel `espeakng-loader` (GPL 3, the optional extra `speech`), which is
imported only when the engine is opened. The engine is one C library with global state: there can be one
open engine in a process, and what it says depends on what it said before. The same calls in the same order in
a fresh process give the same bytes; a single utterance cannot be repeated by itself, seeded or not.
"""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from audiossl.errors import UserError

MISSING = (
    "the data set spoken_words needs the package espeakng-loader: "
    'run pip install "audiossl-toolkit[speech]", '
    "or give recordings of your own with --data.root."
)

# Constants of espeak-ng/src/include/espeak-ng/speak_lib.h (1.52).
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 1 << 15
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_EE_OK = 0
# The engine keeps the path of its data in a buffer of 160 characters and appends "/espeak-ng-data" to it.
_LONGEST_DATA_PATH = 140

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class _Voice(ctypes.Structure):
    """The head of espeak_VOICE: what is read here stands in the first three fields."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_char_p),
        ("identifier", ctypes.c_char_p),
    )


def loader() -> ModuleType:
    """Return the module `espeakng_loader`; raises UserError that names the extra where it is absent."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise UserError(MISSING) from error
    return espeakng_loader


def variants() -> tuple[str, ...]:
    """Names of the voice variants that the wheel brings (104 in 0.2.4), sorted."""
    folder = Path(loader().get_data_path()) / "voices" / "!v"
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_file()))


class Espeak:
    """The open engine; `close()` it, or use it under `contextlib.closing`.

    `sample_rate` (Hz, 22050 for every voice) is known after opening. Raises UserError when the wheel is
    absent or the engine does not start.
    """

    def __init__(self) -> None:
        module = loader()
        try:
            self._lib: Any = _declare(ctypes.CDLL(module.get_library_path()))
        except OSError as error:
            raise UserError(
                f"the speech engine of espeakng-loader does not load ({error}): reinstall it, or use --data.root."
            ) from error
        self._chunks: list[bytes] = []
        self._link: tempfile.TemporaryDirectory[str] | None = None
        self._callback = _CALLBACK(self._collect)  # kept here: ctypes does not hold it alive
        path = self._short(module.get_data_path())
        if not Path(path, "phontab").is_file():  # opened a second time, the engine would use its first path
            self._refuse(path, "they are not there")
        rate = self._lib.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, path.encode(), _INITIALIZE_DONT_EXIT)
        if rate <= 0:  # it returns the rate in Hz, 0 or -1 when it cannot read its data
            self._lib.espeak_Terminate()
            self._refuse(path, f"code {rate}")
        self.sample_rate = int(rate)
        # It seeds the noise of breathy voices with the time of day.
        self._lib.espeak_ng_SetRandSeed(0)
        self._lib.espeak_SetSynthCallback(self._callback)
        self._voice = ""

    def close(self) -> None:
        """Shut the engine down and remove what it needed on disk."""
        self._lib.espeak_Terminate()
        if self._link is not None:
            self._link.cleanup()
            self._link = None

    def say(self, text: str, voice: str, rate_wpm: int, pitch: int, pitch_range: int, volume: int) -> np.ndarray:
        """Speak `text` and return int16 samples (S,) at `sample_rate`.

        `voice` is an accent, or accent+variant ("en-us+f3"); `rate_wpm` 80 to 450 words a minute; `pitch`,
        `pitch_range` 0 to 99 around the voice's own (50 is neutral); `volume` 0 to 200 (100 is neutral).
        Raises UserError for a voice that the engine does not have and for an error of the engine.
        """
        self._set_voice(voice)
        for parameter, value in (
            (_RATE, rate_wpm),
            (_VOLUME, volume),
            (_PITCH, pitch),
            (_RANGE, pitch_range),
        ):
            self._check(self._lib.espeak_SetParameter(parameter, int(value), 0), f"parameter {parameter}={value}")
        self._chunks.clear()
        spoken = text.encode("utf-8")
        code = self._lib.espeak_Synth(spoken, len(spoken) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
        self._check(code, f"speaking {text!r}")
        self._check(self._lib.espeak_Synchronize(), f"speaking {text!r}")
        return np.frombuffer(b"".join(self._chunks), dtype=np.int16)

    def _refuse(self, path: str, reason: str) -> NoReturn:
        if self._link is not None:
            self._link.cleanup()
        raise UserError(
            f"the speech engine does not start with the voices in {path} ({reason}): "
            "reinstall espeakng-loader, or give recordings of your own with --data.root."
        )

    def _set_voice(self, voice: str) -> None:
        if voice == self._voice:
            return
        self._check(self._lib.espeak_SetVoiceByName(voice.encode()), f"choosing the voice {voice!r}")
        # An unknown variant is no error for the engine: it speaks in the plain accent. Here it is one.
        variant = voice.partition("+")[2]
        chosen = self._lib.espeak_GetCurrentVoice().contents.identifier or b""
        if variant and not chosen.decode().endswith("+" + variant):
            raise UserError(
                f"the speech engine has no voice variant {variant!r}: audiossl.data.espeak.variants() lists them."
            )
        self._voice = voice

    def _collect(self, samples: Any, n_samples: int, events: Any) -> int:
        if samples and n_samples > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * n_samples))
        return 0  # 0: go on

    @staticmethod
    def _check(code: int, doing: str) -> None:
        if code != _EE_OK:
            raise UserError(f"the speech engine failed when {doing} (code {code}): check the name, or use --data.root.")

    def _short(self, path: str) -> str:
        if len(path) <= _LONGEST_DATA_PATH:
            return path
        self._link = tempfile.TemporaryDirectory(prefix="audiossl-")
        link = Path(self._link.name) / "espeak-ng-data"
        link.symlink_to(path, target_is_directory=True)
        return str(link)


def _declare(lib: ctypes.CDLL) -> ctypes.CDLL:
    """State the C signatures that are used, so that a wrong argument is an error and not a crash."""
    c_int, c_char_p, c_void_p, c_uint = ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint
    lib.espeak_Initialize.argtypes = [c_int, c_int, c_char_p, c_int]
    lib.espeak_SetSynthCallback.argtypes = [_CALLBACK]
    lib.espeak_SetSynthCallback.restype = None
    lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    lib.espeak_SetVoiceByName.argtypes = [c_char_p]
    lib.espeak_SetParameter.argtypes = [c_int, c_int, c_int]
    lib.espeak_Synth.argtypes = [c_char_p, ctypes.c_size_t, c_uint, c_int, c_uint, c_uint, c_void_p, c_void_p]
    lib.espeak_Synchronize.argtypes = []
    lib.espeak_Terminate.argtypes = []
    lib.espeak_GetCurrentVoice.argtypes = []
    lib.espeak_GetCurrentVoice.restype = ctypes.POINTER(_Voice)
    return lib
