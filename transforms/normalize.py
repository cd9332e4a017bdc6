"""Normalisation of a picture by statistics of the training clips, measured once, kept with the encoder.

One mean and one standard deviation a channel keep the relations between frequency bins, as BYOL-A and AST do; per bin,
every row of the picture has mean 0 and deviation 1 over the training clips.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from .config import FrontEndConfig
from .frontend import FrontEnd, as_float


class Normalize(nn.Module):
    """(image - mean) / std with fixed statistics, one a channel, shape (C, 1), or one a bin of each, shape (C, F).

    statistics_of: fingerprint of the configuration of the front end that they were measured with, None if unknown.
    Shape: image (B, C, F, T) to the same.
    Raises UserError for statistics that are not finite or a deviation that is not positive.

    >>> Normalize(mean=2.0, std=4.0)(torch.full((1, 1, 2, 2), 6.0)).unique().tolist()
    [1.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Tensor = 0.0, std: float | Tensor = 1.0, statistics_of: str | None = None):
        super().__init__()
        self.register_buffer("mean", torch.atleast_2d(torch.as_tensor(mean, dtype=torch.float32)).clone())
        self.register_buffer("std", torch.atleast_2d(torch.as_tensor(std, dtype=torch.float32)).clone())
        if not (self.mean.isfinite().all() and self.std.isfinite().all() and (self.std > 0).all()):
            raise UserError(
                f"the picture's statistics are unusable (mean {self.mean.tolist()}, std {self.std.tolist()})."
            )
        self.statistics_of = statistics_of

    def check_belongs_to(self, frontend: FrontEndConfig) -> None:
        """Raise UserError when the statistics were measured with another front end than this configuration's."""
        if self.statistics_of not in (None, frontend.fingerprint()):
            raise UserError(
                f"the picture's statistics belong to a front end of fingerprint {self.statistics_of}, and the settings "
                f"of this one ({frontend.type}) have {frontend.fingerprint()}: restore the settings they were measured "
                "with, or measure them again."
            )

    def forward(self, image: Tensor) -> Tensor:
        """Normalise the picture."""
        return (image - self.mean[..., None]) / self.std[..., None]

    def extra_repr(self) -> str:
        """Show the statistics in `print(module)`."""
        channels, bins = self.mean.shape
        return f"mean={self.mean.mean():.3f}, std={self.std.mean():.3f}, channels={channels}, bins={bins}"

    @classmethod
    @torch.no_grad()
    def measure(
        cls, frontend: FrontEnd, waves: Iterable[Tensor | tuple[Tensor, Tensor]], per_bin: bool = False
    ) -> Normalize:
        """Measure the statistics over batches of waves (B, S), floats or int16, on whatever device they lie.

        A batch may be a pair of waves and their lengths (B,) in samples: frames behind a length do not count.
        Sums run in float64, so that neither the order nor the batch size shows within 1e-6.
        Raises UserError when there is no wave, or nothing but silence.
        """
        count, total, squares = 0, torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
        for batch in waves:
            wave, lengths = batch if isinstance(batch, tuple) else (batch, None)
            image = frontend(as_float(wave), lengths)
            # float64 does not exist on every device (MPS): there the sums are made on the CPU.
            image = image.cpu().double() if image.device.type == "mps" else image.double()
            frames = image.permute(0, 3, 1, 2).flatten(0, 1)  # (B T, C, F)
            if lengths is not None:
                frames = frames[frontend.frame_mask(lengths, wave.shape[1]).flatten().to(frames.device)]
            count += len(frames)
            total = total + frames.sum(0).cpu()
            squares = squares + frames.square().sum(0).cpu()
        if count == 0:
            raise UserError("there are no clips to measure the picture's statistics on.")
        mean, mean_square = total / count, squares / count
        if not per_bin:
            mean, mean_square = mean.mean(1, keepdim=True), mean_square.mean(1, keepdim=True)
        std = (mean_square - mean.square()).clamp(min=0.0).sqrt()
        if bool((std < 1e-6).any()):
            raise UserError("the clips to measure the picture's statistics on hold nothing but silence.")
        return cls(mean, std, frontend.config.fingerprint())
