"""Everything between the waveform and the network: batched on the device."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chroma import Chroma
    from .compress import Compress
    from .config import (
        ChromaConfig,
        CqtConfig,
        CwtConfig,
        DwtConfig,
        EmdConfig,
        FbankConfig,
        FrontEndConfig,
        GammatoneConfig,
        LeafConfig,
        MatchingPursuitConfig,
        MelConfig,
        MfccConfig,
        ReassignedConfig,
        ScatteringConfig,
        StackConfig,
        StftConfig,
        SynchrosqueezingConfig,
        VqtConfig,
        WaveletPacketConfig,
        WignerVilleConfig,
    )
    from .cqt import Cqt, Vqt
    from .cwt import Cwt
    from .dwt import Dwt
    from .emd import Emd
    from .fbank import Fbank
    from .frontend import FrontEnd, as_float, build_frontend
    from .gammatone import Gammatone
    from .leaf import Leaf
    from .matching_pursuit import MatchingPursuit
    from .mel import Mel
    from .mfcc import Mfcc
    from .normalize import Normalize
    from .patches import Patches
    from .pcen import Pcen
    from .reassigned import Reassigned
    from .scattering import Scattering
    from .stack import Stack
    from .stft import Stft
    from .synchrosqueezing import Synchrosqueezing
    from .two_views import TwoViews
    from .view_config import MultiCropConfig, PatchesConfig, TwoViewsConfig
    from .views import MultiCrop, Views
    from .wave_augment import WaveAugment
    from .wave_config import WaveAugmentConfig
    from .wavelet_packet import WaveletPacket
    from .wigner_ville import WignerVille

# Name -> its module. Lazy, so that a command line reads FrontEndConfig without importing torch (seconds).
_HOMES = {
    "Chroma": "chroma",
    "ChromaConfig": "config",
    "Compress": "compress",
    "Cqt": "cqt",
    "CqtConfig": "config",
    "Cwt": "cwt",
    "CwtConfig": "config",
    "Dwt": "dwt",
    "DwtConfig": "config",
    "Emd": "emd",
    "EmdConfig": "config",
    "Fbank": "fbank",
    "FbankConfig": "config",
    "FrontEnd": "frontend",
    "FrontEndConfig": "config",
    "Gammatone": "gammatone",
    "GammatoneConfig": "config",
    "Leaf": "leaf",
    "LeafConfig": "config",
    "MatchingPursuit": "matching_pursuit",
    "MatchingPursuitConfig": "config",
    "Mel": "mel",
    "MelConfig": "config",
    "Mfcc": "mfcc",
    "MfccConfig": "config",
    "MultiCrop": "views",
    "MultiCropConfig": "view_config",
    "Normalize": "normalize",
    "Patches": "patches",
    "PatchesConfig": "view_config",
    "Pcen": "pcen",
    "Reassigned": "reassigned",
    "ReassignedConfig": "config",
    "Scattering": "scattering",
    "ScatteringConfig": "config",
    "Stack": "stack",
    "StackConfig": "config",
    "Stft": "stft",
    "StftConfig": "config",
    "Synchrosqueezing": "synchrosqueezing",
    "SynchrosqueezingConfig": "config",
    "TwoViews": "two_views",
    "TwoViewsConfig": "view_config",
    "Views": "views",
    "Vqt": "cqt",
    "VqtConfig": "config",
    "WaveAugment": "wave_augment",
    "WaveAugmentConfig": "wave_config",
    "WaveletPacket": "wavelet_packet",
    "WaveletPacketConfig": "config",
    "WignerVille": "wigner_ville",
    "WignerVilleConfig": "config",
    "as_float": "frontend",
    "build_frontend": "frontend",
}
__all__ = [
    "Chroma",
    "ChromaConfig",
    "Compress",
    "Cqt",
    "CqtConfig",
    "Cwt",
    "CwtConfig",
    "Dwt",
    "DwtConfig",
    "Emd",
    "EmdConfig",
    "Fbank",
    "FbankConfig",
    "FrontEnd",
    "FrontEndConfig",
    "Gammatone",
    "GammatoneConfig",
    "Leaf",
    "LeafConfig",
    "MatchingPursuit",
    "MatchingPursuitConfig",
    "Mel",
    "MelConfig",
    "Mfcc",
    "MfccConfig",
    "MultiCrop",
    "MultiCropConfig",
    "Normalize",
    "Patches",
    "PatchesConfig",
    "Pcen",
    "Reassigned",
    "ReassignedConfig",
    "Scattering",
    "ScatteringConfig",
    "Stack",
    "StackConfig",
    "Stft",
    "StftConfig",
    "Synchrosqueezing",
    "SynchrosqueezingConfig",
    "TwoViews",
    "TwoViewsConfig",
    "Views",
    "Vqt",
    "VqtConfig",
    "WaveAugment",
    "WaveAugmentConfig",
    "WaveletPacket",
    "WaveletPacketConfig",
    "WignerVille",
    "WignerVilleConfig",
    "as_float",
    "build_frontend",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
