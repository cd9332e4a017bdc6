"""An exported file beside the model that it was made from: how far apart their outputs are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from audiossl.errors import UserError
from audiossl.export.graph import sample_waves

TOLERANCE = 1e-4

Outputs = Callable[[np.ndarray], np.ndarray]


def batches(sample_rate: int, n_samples: int, clips: Sequence[np.ndarray]) -> Iterator[Tensor]:
    """Waves (B, S) to compare on: made ones of several batch sizes and lengths, and the clips, one by one."""
    for n_clips, length in ((3, n_samples), (1, n_samples), (2, n_samples * 17 // 10), (4, n_samples // 2), (1, 100)):
        yield sample_waves(sample_rate, max(length, 1), n_clips, seed=length)
    for clip in clips:
        yield torch.as_tensor(clip, dtype=torch.float32)[None]


@torch.no_grad()
def largest_difference(model: nn.Module, exported: Outputs, waves: Iterator[Tensor]) -> float:
    """Largest difference between the outputs of a model and of its export, as a share of the largest number above 1.

    Raises UserError when the shapes differ or the export gives NaN.
    """
    largest = 0.0
    for wave in waves:
        expected = model(wave).numpy()
        try:
            found = exported(wave.numpy())
        except Exception as error:  # onnxruntime's errors share no other class
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"the exported file cannot take waves {tuple(wave.shape)} ({reason}): this network was not made for "
                "clips of every length; give another."
            ) from None
        if found.shape != expected.shape or not np.isfinite(found).all():
            raise UserError(
                f"the exported file gives {found.shape} numbers, or not all finite, in place of {expected.shape} for "
                f"waves {tuple(wave.shape)}: nothing was written; report this with the output of `audiossl doctor`."
            )
        scale = max(1.0, float(np.abs(expected).max()))
        largest = max(largest, float(np.abs(found - expected).max()) / scale)
    return largest


def check_close(difference: float, name: str) -> None:
    """Raise UserError for a difference beyond the tolerance."""
    if difference > TOLERANCE:
        raise UserError(
            f"{name} differs from the model by {difference:.1e}, more than {TOLERANCE:g}: nothing was written; report "
            "this with the output of `audiossl doctor`."
        )
