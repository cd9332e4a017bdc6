"""audiossl: self-supervised learning on your own sounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "featurize", "load_model"]

if TYPE_CHECKING:
    from audiossl.encoder import load_model
    from audiossl.featurize import featurize


def __getattr__(name: str) -> Any:
    # Lazy, so that `import audiossl` costs no torch import (seconds).
    if name == "featurize":
        from audiossl.featurize import featurize

        return featurize
    if name == "load_model":
        from audiossl.encoder import load_model

        return load_model
    raise AttributeError(f"module 'audiossl' has no attribute {name!r}")
