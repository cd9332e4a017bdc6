"""Backbones: networks from picture to features, over timm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import BackboneConfig

if TYPE_CHECKING:
    from .backbone import Backbone, BackboneOutput, build_backbone

__all__ = ["Backbone", "BackboneConfig", "BackboneOutput", "build_backbone"]


def __getattr__(name: str) -> Any:
    # Lazy, so that a command line reads BackboneConfig without importing torch and timm (seconds).
    if name in ("Backbone", "BackboneOutput", "build_backbone"):
        from . import backbone

        return getattr(backbone, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
