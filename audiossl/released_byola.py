"""BYOL-A's published weight files, opened as encoders; the user brings the file, whose licence forbids shipping it.

AudioNTT2020-BYOLA-64x96d512.pth, d1024 and d2048 (Niizumi et al., IJCNN 2021), and AudioNTT2022-BYOLA-64x96d2048.pth
(TASLP 2023), from github.com/nttcslab/byol-a. A file holds the encoder's tensors by name, features.* and fc.*, for
pictures of 64 mel bands; names and shapes stand in docs/released-checkpoints.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from audiossl.backbones import BackboneConfig
from audiossl.backbones.audiontt import AUDIONTTS
from audiossl.encoder import AudioEncoder, EncoderConfig, Folder
from audiossl.errors import UserError
from audiossl.released import check_finite, check_keys, read_weights
from audiossl.transforms import MelConfig, Normalize

ARCHS = tuple(AUDIONTTS)
# Mean and deviation of that picture over Speech Commands, as BYOL-A's second version states them.
SPEECH_MEAN, SPEECH_STD = -9.660, 4.722


def byola_frontend() -> MelConfig:
    """BYOL-A's picture: 64 mel bands from 60 to 7,800 Hz in librosa's scale and areas, ln(power + float32 epsilon).

    Clips are reflected at their ends, as its extractors do: librosa (before 0.9), torchaudio and nnAudio.
    """
    return MelConfig(
        sample_rate=16000,
        n_fft=1024,
        win_length=1024,
        hop_length=160,
        n_bins=64,
        f_min=60.0,
        f_max=7800.0,
        floor=float(np.finfo(np.float32).eps),
        pad_mode="reflect",
    )


def load_byola(path: Folder, arch: str, normalize: Normalize | None = None, clip_s: float = 1.0) -> AudioEncoder:
    """Open a published file of BYOL-A as an encoder in eval mode, with BYOL-A's front end and pooling.

    Args:
        path: the file.
        arch: audiontt_2020 (first version: 512, 1,024 or 2,048 numbers, by the file) or audiontt_2022 (second).
        normalize: statistics of its pictures, by `Normalize.measure` with `byola_frontend` over your clips: on spoken
            digits they are worth 6 points. Left out, those of Speech Commands.
        clip_s: length in seconds of the clips to be used.

    Raises UserError for an unknown arch, statistics of another front end, and a file that cannot be opened or holds
    several networks; and `audiossl.released.KeysError`, with the list of keys, for one that does not fit.
    """
    if arch not in ARCHS:
        raise UserError(f"arch={arch!r} is not one of BYOL-A's networks: choose one of {', '.join(ARCHS)}.")
    tensors = encoder_weights(read_weights(path), path)
    frontend = byola_frontend()
    width = tensors["fc.3.bias"].shape[0] if "fc.3.bias" in tensors and tensors["fc.3.bias"].ndim == 1 else 0
    config = EncoderConfig(frontend, BackboneConfig(arch, pool="mean_max", width=width), clip_s)
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced: leave the caller's draws alone
        statistics = normalize or Normalize(SPEECH_MEAN, SPEECH_STD, frontend.fingerprint())
        encoder = AudioEncoder.build(config, statistics)
    net = encoder.network.net
    check_keys(_shapes(net.state_dict()), _shapes(tensors), path, arch)
    check_finite(tensors, path)
    net.load_state_dict(tensors)
    return encoder.eval()


def encoder_weights(weights: Mapping[str, Tensor], path: Folder) -> dict[str, Tensor]:
    """Tensors of the encoder alone, without what a program that trained it may have put before their names.

    Raises UserError when a name stands there twice, as in the state of a training, with its online and target network.

    >>> list(encoder_weights({"module.fc.3.bias": torch.ones(2), "projector.0.bias": torch.ones(3)}, "byola.pth"))
    ['fc.3.bias']
    """
    tensors: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        if match := re.search(r"(?:^|\.)((?:features|fc)\..*)", key):
            name = match[1]
            if name in tensors:
                raise UserError(f"{path} holds {name} twice, under several prefixes: save the tensors of one network.")
            tensors[name] = tensor
    return tensors


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
