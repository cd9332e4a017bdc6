"""The settings of front ends, a dataclass a type, free of torch so that a command line can read them at once.

`--frontend.type cqt` chooses the class that is registered as `cqt`; its fields are then the flags `--frontend.*`. What
means the same has the same name everywhere: `n_bins` rows of the picture, `hop_length` samples from frame to frame,
`f_min` and `f_max` in Hz.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import draccus


@dataclass
class FrontEndConfig(draccus.ChoiceRegistry):
    """How a waveform becomes a picture: what every type of front end has."""

    # Hz; the same as --data.sample_rate.
    sample_rate: int = 16000
    # Samples from one frame to the next. 167 in place of BYOL-A's 160, so that one second at 16 kHz makes
    # 1 + 16000 // 167 = 96 frames, a multiple of 32, and a backbone pads nothing.
    hop_length: int = 167
    # log: natural logarithm of power + floor; db: the same in decibels re full scale; none.
    compress: str = "log"
    floor: float = 1e-6

    @property
    def type(self) -> str:
        """Name under which the class is registered.

        >>> MelConfig().type
        'mel'
        """
        return self.get_choice_name(type(self))

    def to_dict(self) -> dict[str, object]:
        """Type and settings as plain values; `from_dict` gives an equal configuration back."""
        return {"type": self.type, **asdict(self)}

    def fingerprint(self) -> str:
        """Sixteen hex digits that stand for type and settings: what statistics of the picture belong to.

        >>> MelConfig().fingerprint() == MelConfig(n_bins=64).fingerprint() != MelConfig(n_bins=65).fingerprint()
        True
        """
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class FourierConfig(FrontEndConfig):
    """What the front ends that begin with a short-time Fourier transform share.

    The defaults are BYOL-A's (Niizumi et al., 2021): window 1,024, power, 60 to 7,800 Hz. Departures: the hop, and a
    floor of 1e-6 in place of 1.2e-7 (see `audiossl.transforms.compress`).
    """

    # fft: framed FFT; nnaudio: nnAudio's convolutions, whose kernels can be trained.
    backend: str = "fft"
    # Samples of the Fourier transform and of its window.
    n_fft: int = 1024
    win_length: int = 1024
    # The band that the picture covers, in Hz.
    f_min: float = 60.0
    f_max: float = 7800.0
    # 2: power, 1: magnitude.
    power: float = 2.0
    # constant (zeros) or reflect: n_fft / 2 samples on both sides, so that frame t is centred on sample t * hop_length.
    pad_mode: str = "constant"
    # The kernels become parameters; only with backend nnaudio.
    trainable: bool = False


@FrontEndConfig.register_subclass("stft")
@dataclass
class StftConfig(FourierConfig):
    """Linear frequency: the bins of the Fourier transform between f_min and f_max."""


@FrontEndConfig.register_subclass("mel")
@dataclass
class MelConfig(FourierConfig):
    """Mel bands; BYOL-A's 64 of them."""

    # Rows of the picture.
    n_bins: int = 64
    # slaney or htk, and the filters' norm: slaney (equal area) or none.
    mel_scale: str = "slaney"
    norm: str = "slaney"
