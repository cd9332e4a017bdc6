"""The HEAR interface (Turian et al., HEAR: Holistic Evaluation of Audio Representations, 2022) over an `AudioEncoder`.

Scenes are the mean over windows that lie side by side, weighted by sound, as a clip is for `audiossl.featurize`.
Timestamps are windows of the encoder's length around every 50 ms, zeros beyond the ends.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.embed.windows import Cut
from audiossl.encoder import AudioEncoder
from audiossl.encoder import load_model as open_encoder
from audiossl.errors import UserError
from audiossl.installed import DEFAULT_MODEL
from audiossl.transforms import as_float

WINDOWS = 128  # on the device at a time: bounds memory for sound of any length
HOP_MS = 50.0  # HEAR asks for 50 ms or less where events are to be found


class HearModel(nn.Module):
    """An encoder with what HEAR reads of a model.

    Attributes: sample_rate in Hz; scene_embedding_size and timestamp_embedding_size, the encoder's dim; hop_ms.
    """

    def __init__(self, encoder: AudioEncoder, hop_ms: float = HOP_MS) -> None:
        super().__init__()
        if not hop_ms > 0:
            raise UserError(f"hop_ms is {hop_ms}: give a distance in ms above 0.")
        self.encoder, self.hop_ms = encoder.eval(), hop_ms
        self.sample_rate = encoder.sample_rate
        self.scene_embedding_size = self.timestamp_embedding_size = encoder.dim

    @torch.inference_mode()
    def forward(self, windows: Tensor) -> Tensor:
        """Embeddings (N, D) of windows (N, S), some at a time."""
        # Convolutions in full float32: TF32 on a GPU differs by about 1e-3 between batch sizes.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return torch.cat([self.encoder(part) for part in windows.split(WINDOWS)])


def load_model(model_file_path: str | os.PathLike[str] = "", hop_ms: float = HOP_MS) -> HearModel:
    """Open the folder of an encoder, or a model by name, for HEAR; timestamps come every `hop_ms`.

    An empty `model_file_path`, which HEAR allows, opens the model that comes with audiossl. Raises UserError when there
    is none of that name.
    """
    return HearModel(open_encoder(model_file_path or DEFAULT_MODEL), hop_ms)


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """One embedding (N, D) float32 a sound, on the model's device, of (N, S) floats in [-1, 1] or int16 at its rate."""
    audio = _checked(audio, model)
    n_total, n = audio.shape[1], model.encoder.n_samples
    total = torch.zeros(len(audio), model.scene_embedding_size, device=audio.device, dtype=torch.float64)
    if audio.device.type == "mps":  # has no float64
        total = total.float()
    n_windows = Cut(model.sample_rate, n, n).n_windows(n_total)
    for at in range(n_windows):
        window = audio[:, at * n : (at + 1) * n]
        missing = n - window.shape[1]
        total += model(functional.pad(window, (missing // 2, missing - missing // 2))) * window.shape[1]
    return (total / min(n_total, n_windows * n)).float()


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Embeddings (N, T, D) float32 and their times (N, T), the windows' centres in ms, of sounds (N, S)."""
    audio = _checked(audio, model)
    n, hop = model.encoder.n_samples, model.hop_ms * model.sample_rate / 1000
    n_stamps = 1 + int(audio.shape[1] / hop)
    padded = functional.pad(audio, (n // 2, n))
    starts = (torch.arange(n_stamps, dtype=torch.float64) * hop).round().long().tolist()
    per_sound = max(1, WINDOWS // len(audio))
    parts = []
    for at in range(0, n_stamps, per_sound):
        windows = torch.stack([padded[:, start : start + n] for start in starts[at : at + per_sound]], dim=1)
        parts.append(model(windows.flatten(0, 1)).unflatten(0, windows.shape[:2]))
    times = (torch.arange(n_stamps, device=audio.device, dtype=torch.float32) * model.hop_ms).expand(len(audio), -1)
    return torch.cat(parts, dim=1), times.contiguous()


def _checked(audio: Tensor, model: HearModel) -> Tensor:
    if audio.ndim != 2 or not audio.shape[1] or not audio.shape[0]:
        raise UserError(f"audio has shape {tuple(audio.shape)}: give (sounds, samples), at least one of each.")
    device = next(model.parameters()).device
    return as_float(audio.to(device))
