"""Mel-frequency cepstral coefficients: the shape of the spectrum in a few numbers.

The orthonormal cosine transform (DCT-II) of the compressed mel picture, Davis & Mermelstein (1980), as librosa's and
torchaudio's: compress="log" is torchaudio's log_mels=True to the letter (its offset is the default floor), and "db" is
librosa's, except that the floor is added and nothing is cut 80 dB below the loudest cell, so that no cell depends on
another.
"""

from __future__ import annotations

import math
from dataclasses import fields

import torch
from torch import Tensor

from audiossl.errors import UserError

from .compress import Compress
from .config import MelConfig, MfccConfig
from .frontend import FrontEnd, check_at_least, check_choices
from .mel import Mel, check_mel


def cosines(n_coefficients: int, n_bands: int) -> Tensor:
    """Orthonormal DCT-II (n_coefficients, n_bands) in float64.

    >>> matrix = cosines(8, 8)
    >>> torch.allclose(matrix @ matrix.T, torch.eye(8, dtype=torch.float64))
    True
    """
    band = torch.arange(n_bands, dtype=torch.float64) + 0.5
    order = torch.arange(n_coefficients, dtype=torch.float64)[:, None]
    matrix = torch.cos(math.pi / n_bands * order * band) * math.sqrt(2.0 / n_bands)
    matrix[0] /= math.sqrt(2.0)
    return matrix


def mel_settings(config: MfccConfig) -> MelConfig:
    """Configuration of the mel picture that is transformed."""
    settings = {field.name: getattr(config, field.name) for field in fields(MelConfig)}
    return MelConfig(**{**settings, "n_bins": config.n_mels})


class Mfcc(FrontEnd):
    """Cepstral coefficients of waves (B, S): image (B, 1, n_bins, T), signed, with T = 1 + S // hop_length.

    Rows are coefficients, the 0th (loudness) first. They have no frequency: `frequencies` only counts them, evenly
    from f_min to f_max, so that pages and grids have a rising axis.
    Raises UserError for more coefficients than mel bands, and for compress="none".

    >>> Mfcc(MfccConfig(n_bins=13))(torch.zeros(2, 16000)).shape
    torch.Size([2, 1, 13, 96])
    """

    config: MfccConfig
    cosines: Tensor

    def __init__(self, config: MfccConfig):
        check_at_least(config, 1, "n_bins", "n_mels")
        check_choices(config, compress=("log", "db", "pcen"))
        check_mel(mel_settings(config), rows="n_mels")
        if config.n_bins > config.n_mels:
            raise UserError(f"n_bins={config.n_bins} coefficients need as many bands: raise n_mels={config.n_mels}.")
        super().__init__(config, torch.linspace(config.f_min, config.f_max, config.n_bins))
        self.mel = Mel(mel_settings(config))
        self.compress = Compress("none")  # the mel picture was compressed before its cosine transform
        self.register_buffer("cosines", cosines(config.n_bins, config.n_mels).to(torch.float32), persistent=False)

    def transform(self, wave: Tensor) -> Tensor:
        """Cepstral coefficients."""
        return torch.matmul(self.cosines, self.mel.compress(self.mel.transform(wave)))

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip."""
        return self.mel.temporary_bytes(n_samples)
