"""audiossl: self-supervised learning on your own sounds."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "check_encoder", "featurize", "load_classifier", "load_embeddings", "load_model"]

if TYPE_CHECKING:
    from audiossl.check import check_encoder
    from audiossl.classifier import load_classifier
    from audiossl.embeddings import load_embeddings
    from audiossl.encoder import load_model
    from audiossl.featurize import featurize

_HOMES = {
    "check_encoder": "check",
    "featurize": "featurize",
    "load_classifier": "classifier",
    "load_embeddings": "embeddings",
    "load_model": "encoder",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `import audiossl` costs no torch import (seconds).
    if name in _HOMES:
        return getattr(import_module(f"audiossl.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'audiossl' has no attribute {name!r}")
