"""Everything between the waveform and the network: batched on the device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compress import Compress
    from .config import FrontEndConfig, MultiCropConfig
    from .front_end import FrontEnd, as_float, build_front_end
    from .mel import Mel
    from .normalize import Normalize
    from .stft import Stft
    from .views import MultiCrop, Views

# Name -> its module. Lazy, so that a command line reads FrontEndConfig without importing torch (seconds).
_HOMES = {
    "Compress": "compress",
    "FrontEnd": "front_end",
    "FrontEndConfig": "config",
    "Mel": "mel",
    "MultiCrop": "views",
    "MultiCropConfig": "config",
    "Normalize": "normalize",
    "Stft": "stft",
    "Views": "views",
    "as_float": "front_end",
    "build_front_end": "front_end",
}
__all__ = [
    "Compress",
    "FrontEnd",
    "FrontEndConfig",
    "Mel",
    "MultiCrop",
    "MultiCropConfig",
    "Normalize",
    "Stft",
    "Views",
    "as_float",
    "build_front_end",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
