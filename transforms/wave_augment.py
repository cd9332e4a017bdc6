"""All augmentations of the waveform in a row: from the source through the room to the microphone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from .draws import Draws
from .frontend import as_float
from .wave import Gain, Polarity, Shift, WaveAugmentation
from .wave_config import WaveAugmentConfig
from .wave_filters import PassFilter, Tilt
from .wave_noise import Noise
from .wave_reverb import Reverb
from .wave_speed import Pitch, Speed

BAND_Q = 0.7071  # of the band-pass: a band of two octaves


class WaveAugment(nn.Module):
    """What a configuration turns on, in the order of the air: speed, pitch, shift, room, noise, microphone, level.

    With nothing turned on the wave passes untouched, whatever its type, and nothing is drawn.

    Args:
        config: strengths; see `WaveAugmentConfig`.
        sample_rate: in Hz.
        noises: recordings (N, S') for noise_colour folder, floats or int16.
        impulses: impulse responses (N, R) in place of synthetic rooms, floats or int16.

    Shape: wave (B, S), floats in [-1, 1] or int16, to float32 (B, S); nothing is clipped.
    Raises UserError for filters above half of the sample rate, for folders whose recordings were not handed in, and
    for a wave that is no batch.

    >>> augment = WaveAugment(WaveAugmentConfig(gain_db=6.0, noise=0.5), 16000)
    >>> augment(torch.zeros(2, 16000), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 16000])
    >>> print(augment)
    WaveAugment(
      (steps): ModuleList(
        (0): Noise(probability=0.5, snr_db=(5.0, 30.0), colour=pink)
        (1): Gain(most_db=6.0)
      )
    )
    """

    def __init__(
        self,
        config: WaveAugmentConfig,
        sample_rate: int,
        noises: Tensor | None = None,
        impulses: Tensor | None = None,
    ):
        super().__init__()
        self.config = config
        self.steps = nn.ModuleList(_steps(config, sample_rate, noises, impulses))

    @torch.no_grad()
    def forward(self, wave: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw for each clip of a batch and change it."""
        if not self.steps:
            return wave
        if wave.ndim != 2 or wave.shape[1] == 0:
            raise UserError(f"wave has shape {tuple(wave.shape)}: give (batch, samples) with at least one sample.")
        draws = Draws(generator, wave.device)
        with torch.autocast(wave.device.type, enabled=False):
            wave = as_float(wave).to(torch.float32)
            for step in self.steps:
                wave = step(wave, draws)
        return wave

    def copies(self, wave: Tensor, n: int, generator: torch.Generator | None = None) -> list[Tensor]:
        """The batch n times, each time changed by other draws; once when nothing is turned on."""
        return [self(wave, generator) for _ in range(n if self.steps else 1)]


def _steps(
    config: WaveAugmentConfig, sample_rate: int, noises: Tensor | None, impulses: Tensor | None
) -> list[WaveAugmentation]:
    """The augmentations whose strength is above 0, in order."""
    steps: list[WaveAugmentation] = []
    if config.speed:
        steps.append(Speed(config.speed))
    if config.pitch_semitones:
        steps.append(Pitch(config.pitch_semitones, sample_rate))
    if config.shift_s:
        steps.append(Shift(config.shift_s, sample_rate, config.shift_wraps))
    if config.reverb:
        if config.reverb_folder and impulses is None:
            raise UserError(f"the impulse responses of --wave.reverb_folder {config.reverb_folder} were not read.")
        decay_s, direct_db = _pair(config.reverb_s), _pair(config.reverb_direct_db)
        steps.append(Reverb(config.reverb, sample_rate, decay_s, direct_db, impulses))
    if config.noise:
        steps.append(Noise(config.noise, _pair(config.noise_snr_db), config.noise_colour, noises))
    if config.tilt_db:
        steps.append(Tilt(config.tilt_db, sample_rate, config.tilt_pivot_hz))
    if config.low_pass:
        steps.append(PassFilter("low", config.low_pass, sample_rate, _pair(config.low_pass_hz)))
    if config.high_pass:
        steps.append(PassFilter("high", config.high_pass, sample_rate, _pair(config.high_pass_hz)))
    if config.band_pass:
        steps.append(PassFilter("band", config.band_pass, sample_rate, _pair(config.band_pass_hz), BAND_Q))
    if config.gain_db:
        steps.append(Gain(config.gain_db))
    if config.polarity:
        steps.append(Polarity(config.polarity))
    return steps


def _pair(values: list[float]) -> tuple[float, float]:
    return values[0], values[1]
