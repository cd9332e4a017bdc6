"""A model without torch: one ONNX graph from waveform to embedding or scores, in a folder that holds all it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .folder import ExportOptions, export

__all__ = ["ExportOptions", "export"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `audiossl export --help` needs no torch.
    if name in __all__:
        from . import folder

        return getattr(folder, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
