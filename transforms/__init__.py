"""Everything between the waveform and the network: batched on the device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compress import Compress
    from .config import FrontEndConfig, MelConfig, StftConfig
    from .frontend import FrontEnd, as_float, build_frontend
    from .mel import Mel
    from .normalize import Normalize
    from .stft import Stft
    from .view_config import MultiCropConfig
    from .views import MultiCrop, Views

# Name -> its module. Lazy, so that a command line reads FrontEndConfig without importing torch (seconds).
_HOMES = {
    "Compress": "compress",
    "FrontEnd": "frontend",
    "FrontEndConfig": "config",
    "Mel": "mel",
    "MelConfig": "config",
    "MultiCrop": "views",
    "MultiCropConfig": "view_config",
    "Normalize": "normalize",
    "Stft": "stft",
    "StftConfig": "config",
    "Views": "views",
    "as_float": "frontend",
    "build_frontend": "frontend",
}
__all__ = [
    "Compress",
    "FrontEnd",
    "FrontEndConfig",
    "Mel",
    "MelConfig",
    "MultiCrop",
    "MultiCropConfig",
    "Normalize",
    "Stft",
    "StftConfig",
    "Views",
    "as_float",
    "build_frontend",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
