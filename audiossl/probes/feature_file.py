"""Features kept in an .npz file, so that other probes of the same encoder and clips need not embed them again.

The file knows what it was made of: a hash of the network (settings, weights, blocks that are read) and one of the clips
(ids and waves, in order). Labels and splits are not in it: they are read anew, and may have changed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audiossl.embeddings import written
from audiossl.encoder_files import describe
from audiossl.errors import UserError
from audiossl.probes.last_blocks import LastBlocks
from audiossl.reading import read_arrays

if TYPE_CHECKING:
    from audiossl.data.cache import CachedClips
    from audiossl.encoder import AudioEncoder

ENCODER_KEY, CLIPS_KEY = "encoder_hash", "clips_hash"
CHUNK = 1024  # clips hashed at a time
# All settings count, so that one which a later version adds makes the features new: better than old ones taken for new.
_ENCODER = "another encoder, or of this one in another version of audiossl"


def encoder_hash(encoder: AudioEncoder | LastBlocks) -> str:
    """Hash of all that the features of an encoder depend on besides the clips, as 32 hexadecimal digits."""
    blocks = encoder.facts() if isinstance(encoder, LastBlocks) else {}
    inner = encoder.encoder if isinstance(encoder, LastBlocks) else encoder
    settings = {name: value for name, value in describe(inner, {}).items() if name != "versions"}
    digest = hashlib.blake2b(json.dumps([settings, blocks], sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(inner.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def clips_hash(clips: CachedClips) -> str:
    """Hash of ids and waves in their order, as 32 hexadecimal digits."""
    digest = hashlib.blake2b(json.dumps([clips.sample_rate, clips.ids]).encode(), digest_size=16)
    for start in range(0, len(clips), CHUNK):
        digest.update(np.ascontiguousarray(clips.waves[start : start + CHUNK]).data)
    return digest.hexdigest()


def read_features(path: str | os.PathLike[str], encoder: str, clips: str) -> dict[str, np.ndarray]:
    """The features (N, D) in the file by name, none when there is no file.

    Raises `UserError` when it is damaged, or holds features of another encoder or other clips than these hashes name.
    """
    if not Path(path).exists():
        return {}
    try:
        found = read_arrays(path)
        hashes = str(found.pop(ENCODER_KEY)), str(found.pop(CLIPS_KEY))
    except (OSError, ValueError, KeyError):
        raise UserError(f"--features {path} is not a file of features: give another name, or delete it.") from None
    for mine, its, what in zip((encoder, clips), hashes, (_ENCODER, "other clips"), strict=True):
        if mine != its:
            raise UserError(f"--features {path} holds features of {what}: give another name, or delete it.")
    return found


def write_features(path: str | os.PathLike[str], features: Mapping[str, np.ndarray], encoder: str, clips: str) -> None:
    """Write features (N, D) by name with the hashes of what they are of; the file appears whole or not at all."""
    content: dict[str, Any] = {ENCODER_KEY: np.array(encoder), CLIPS_KEY: np.array(clips), **features}
    with written(path) as part, open(part, "wb") as file:
        np.savez(file, **content)
