"""The settings of front ends, a dataclass a type, free of torch so that a command line can read them at once.

`--frontend.type cqt` chooses the class that is registered as `cqt`; its fields are then the flags `--frontend.*`. What
means the same has the same name everywhere: `n_bins` rows of the picture, `hop_length` samples from frame to frame,
`f_min` and `f_max` in Hz.
"""

from __future__ import annotations

from .config_base import BandConfig, FrontEndConfig, fingerprint_of
from .config_fourier import (
    ChromaConfig,
    FbankConfig,
    FourierConfig,
    LeafConfig,
    MelConfig,
    MfccConfig,
    ReassignedConfig,
    StftConfig,
)
from .config_octave import (
    ConstantQConfig,
    CqtConfig,
    CwtConfig,
    GammatoneConfig,
    ScatteringConfig,
    SynchrosqueezingConfig,
    VqtConfig,
)
from .config_other import (
    DiscreteWaveletConfig,
    DwtConfig,
    EmdConfig,
    MatchingPursuitConfig,
    StackConfig,
    WaveletPacketConfig,
    WignerVilleConfig,
)

__all__ = [
    "BandConfig",
    "ChromaConfig",
    "ConstantQConfig",
    "CqtConfig",
    "CwtConfig",
    "DiscreteWaveletConfig",
    "DwtConfig",
    "EmdConfig",
    "FbankConfig",
    "FourierConfig",
    "FrontEndConfig",
    "GammatoneConfig",
    "LeafConfig",
    "MatchingPursuitConfig",
    "MelConfig",
    "MfccConfig",
    "ReassignedConfig",
    "ScatteringConfig",
    "StackConfig",
    "StftConfig",
    "SynchrosqueezingConfig",
    "VqtConfig",
    "WaveletPacketConfig",
    "WignerVilleConfig",
    "fingerprint_of",
]
