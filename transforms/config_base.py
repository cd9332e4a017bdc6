"""What the settings of every front end share, and the registry of their types."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
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
    # log: natural logarithm of power + floor; db: the same in decibels re 1.0; pcen: per-channel energy
    # normalisation, a slow gain control in every row, with floor as its epsilon; none.
    compress: str = "log"
    floor: float = 1e-6
    # Every row of the picture has mean 0 and deviation 1 over the training clips; false: the picture as a whole, which
    # keeps the relations between rows. For rows of very different size, as mfcc's.
    per_bin: bool = False

    @property
    def type(self) -> str:
        """Name under which the class is registered.

        >>> from audiossl.transforms import MelConfig
        >>> MelConfig().type
        'mel'
        """
        return self.get_choice_name(type(self))

    def to_dict(self) -> dict[str, object]:
        """Type and settings as plain values."""
        return {"type": self.type, **asdict(self)}

    def fingerprint(self) -> str:
        """Sixteen hex digits that stand for type and settings: what statistics of the picture belong to.

        >>> from audiossl.transforms import MelConfig
        >>> MelConfig().fingerprint() == MelConfig(n_bins=64).fingerprint() != MelConfig(n_bins=65).fingerprint()
        True
        """
        return fingerprint_of(self.to_dict())


@dataclass
class BandConfig(FrontEndConfig):
    """What the front ends with a chosen number of rows over a chosen band share."""

    # Rows of the picture.
    n_bins: int = 64
    # The band that they cover, in Hz.
    f_min: float = 60.0
    f_max: float = 7800.0


def fingerprint_of(settings: Mapping[str, object]) -> str:
    """Sixteen hex digits that stand for what a picture depends on: type and settings in plain values, in any order.

    >>> from audiossl.transforms import MelConfig
    >>> fingerprint_of(MelConfig().to_dict()) == MelConfig().fingerprint()
    True
    """
    text = json.dumps({key: value for key, value in settings.items() if key != "per_bin"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
