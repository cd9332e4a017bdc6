"""What becomes an embedding: a window's picture, its normalisation, and the vectors that the network gives for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from audiossl.backbones.last_blocks import pooled_blocks
from audiossl.embed.config import EmbedConfig
from audiossl.encoder import AudioEncoder
from audiossl.errors import UserError
from audiossl.transforms import FrontEnd, Normalize

SMALLEST_STD = 1e-5  # of a picture that is normalised by itself: silence stays at 0


def sound_frames(frontend: FrontEnd, n_samples: int, n_valid: Tensor) -> Tensor:
    """Which frames (N, T) of windows lie in their sound, `n_valid` (N,) samples in the middle; at least one of each.

    >>> from audiossl.transforms import build_frontend
    >>> sound_frames(build_frontend("mel", hop_length=100), 400, torch.tensor([200, 400])).int().tolist()
    [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    """
    middle = (frontend.times(n_samples).to(n_valid.device) * frontend.sample_rate)[None]
    before = ((n_samples - n_valid) // 2)[:, None]
    inside = (middle >= before) & (middle <= before + n_valid[:, None])
    inside[:, inside.shape[1] // 2] |= ~inside.any(1)
    return inside


class PictureStatistics:
    """Mean and deviation of pictures over all their channels, rows and frames of sound, summed in float64."""

    def __init__(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64)  # how many, sum, sum of squares

    def add(self, image: Tensor, sound: Tensor) -> None:
        """Take pictures (N, C, F, T), of which the frames `sound` (N, T) count."""
        # float64 does not exist on every device (MPS): there the sums are made on the CPU.
        where = torch.device("cpu") if image.device.type == "mps" else image.device
        frames = sound.to(where)[:, None, None]
        kept = image.to(where).double() * frames
        count = frames.sum() * image.shape[1] * image.shape[2]
        self.sums += torch.stack([count.double(), kept.sum(), kept.square().sum()]).cpu()

    def result(self) -> tuple[float, float] | None:
        """Mean and deviation, None before the first picture."""
        count, total, squares = self.sums.tolist()
        if not count:
            return None
        return total / count, max(0.0, squares / count - (total / count) ** 2) ** 0.5


class Embedder:
    """Windows (N, S) to embeddings (N, D), or frames of them (N, T', D), float32 on the CPU.

    Any module will do that takes waves (B, S) and has sample_rate, n_samples and dim; layers, frames, another
    normalisation and statistics of the pictures need an `AudioEncoder`, or `UserError` is raised.

    Args:
        encoder: on its device, in eval mode.
        config: says what is wanted.
    """

    def __init__(self, encoder: Any, config: EmbedConfig) -> None:
        self.encoder, self.config = encoder, config
        self.seen = PictureStatistics()
        self.normalize: Normalize | None = getattr(encoder, "normalize", None)
        if not isinstance(encoder, AudioEncoder):
            for name, usual in (("layers", ()), ("normalize", "model")):
                if getattr(config, name) != usual:
                    raise UserError(f"{name} needs an AudioEncoder, and the model is a {type(encoder).__name__}.")
            if config.level == "frame":
                raise UserError(f"level 'frame' needs an AudioEncoder, and the model is a {type(encoder).__name__}.")
        self.device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
        self.dim = self._measured_dim() if config.layers else encoder.dim
        if config.level == "frame":
            self.dim = encoder.backbone.dim

    @torch.inference_mode()
    def _measured_dim(self) -> int:
        silence = torch.zeros(1, self.encoder.n_samples, device=self.device)
        return pooled_blocks(self.encoder.network, self.encoder.image(silence), self.config.layers).shape[1]

    @torch.inference_mode()
    def __call__(self, windows: Tensor, n_valid: Tensor) -> Tensor:
        """Embed windows (N, S) whose middle `n_valid` (N,) samples are sound."""
        windows = windows.to(self.device)
        if not isinstance(self.encoder, AudioEncoder):
            return self.encoder(windows).float().cpu()
        image = self._normalised(self._picture(windows, n_valid), windows.shape[1], n_valid)
        if self.config.layers:
            return pooled_blocks(self.encoder.network, image, self.config.layers).float().cpu()
        output = self.encoder.backbone(image)
        if self.config.level == "frame":
            return output.patches.unflatten(1, output.grid).mean(1).float().cpu()
        return output.features.float().cpu()

    def frame_edges_s(self, n_samples: int, n_frames: int) -> Tensor:
        """Where the `n_frames` frames of a window of so many samples begin and end (T' + 1,), in seconds."""
        encoder: AudioEncoder = self.encoder
        frontend = encoder.frontend
        size = (frontend.n_bins, frontend.n_frames(n_samples))
        n_rows = encoder.backbone.n_rows
        place = encoder.backbone.middles((n_rows, n_frames), size)[1]
        times = frontend.times(n_samples)
        before = place.floor().long().clamp(max=len(times) - 1)
        centre = torch.lerp(times[before], times[(before + 1).clamp(max=len(times) - 1)], place - before)
        ends = torch.tensor([0.0, n_samples / frontend.sample_rate])
        return torch.cat([ends[:1], (centre[1:] + centre[:-1]) / 2, ends[1:]])

    @torch.inference_mode()
    def look(self, windows: Tensor, n_valid: Tensor) -> None:
        """Take the windows' pictures into the statistics, and nothing more."""
        self._picture(windows.to(self.device), n_valid)

    def normalize_by_what_was_seen(self) -> None:
        """Normalise from now on by the statistics of the pictures so far; raises `UserError` where they are none."""
        found = self.seen.result()
        if found is None or found[1] < SMALLEST_STD:
            raise UserError("normalize 'dataset' finds nothing but silence in the recordings: choose 'model'.")
        self.normalize = Normalize(*found).to(self.device)

    def _picture(self, windows: Tensor, n_valid: Tensor) -> Tensor:
        image = self.encoder.frontend(windows)
        self.seen.add(image, sound_frames(self.encoder.frontend, windows.shape[1], n_valid.to(image.device)))
        return image

    def _normalised(self, image: Tensor, n_samples: int, n_valid: Tensor) -> Tensor:
        if self.config.normalize != "clip":
            assert self.normalize is not None
            return self.normalize(image)
        sound = sound_frames(self.encoder.frontend, n_samples, n_valid.to(image.device))[:, None, None]
        count = sound.sum((2, 3), keepdim=True) * image.shape[2]
        mean = (image * sound).sum((2, 3), keepdim=True) / count
        var = ((image - mean).square() * sound).sum((2, 3), keepdim=True) / count
        return (image - mean) / var.sqrt().clamp(min=SMALLEST_STD)

    def facts(self) -> dict[str, Any]:
        """Statistics of the pictures beside those that the model was trained with, for `meta`."""
        found = self.seen.result()
        if found is None or not isinstance(self.encoder, AudioEncoder):
            return {}
        model = self.encoder.normalize
        return {
            "input_mean": found[0],
            "input_std": found[1],
            "model_mean": float(model.mean.mean()),
            "model_std": float(model.std.mean()),
        }


def far_from_model(facts: dict[str, Any], normalize: str) -> str | None:
    """A sentence with both numbers when the input's mean lies more than one deviation from the model's."""
    if not facts or normalize != "model":
        return None
    mean, model, std = facts["input_mean"], facts["model_mean"], facts["model_std"]
    if abs(mean - model) <= std:
        return None
    return (
        f"these recordings are far from what the model was trained on: their pictures have mean {mean:.3g}, "
        f"the model's had {model:.3g} with deviation {std:.3g}; if the recordings are right, normalize='dataset' or "
        "'clip' may help."
    )
