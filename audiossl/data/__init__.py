"""Recordings: one small interface over many layouts, and a memory-mapped cache of fixed-length clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audiossl.data.clips import Clip, ClipSet, ClipStream
from audiossl.data.config import DataConfig
from audiossl.data.open import open_clips

if TYPE_CHECKING:
    from audiossl.data.cache import cache_clips
    from audiossl.data.cached import CachedClips
    from audiossl.data.loader import Batch, training_loader
    from audiossl.data.recordings import open_augment

__all__ = [
    "Batch",
    "CachedClips",
    "Clip",
    "ClipSet",
    "ClipStream",
    "DataConfig",
    "cache_clips",
    "open_augment",
    "open_clips",
    "training_loader",
]

_NEED_TORCH = {
    "Batch": "loader",
    "training_loader": "loader",
    "CachedClips": "cached",
    "cache_clips": "cache",
    "open_augment": "recordings",
}


def __getattr__(name: str) -> Any:
    # Lazy, because these import torch (seconds) and a command line's --help does not need it.
    if name not in _NEED_TORCH:
        raise AttributeError(f"module 'audiossl.data' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"audiossl.data.{_NEED_TORCH[name]}"), name)
