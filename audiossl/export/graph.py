"""A model made ready for a graph: a copy whose front end and network compute the same for any batch and length."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from audiossl.errors import UserError
from audiossl.export.filter_bank import GraphFilterBank
from audiossl.export.fourier import GraphSpectrum
from audiossl.export.networks import COUNTERPARTS
from audiossl.transforms import FrontEnd
from audiossl.transforms.filter_bank import FilterBankFrontEnd
from audiossl.transforms.pcen import Pcen
from audiossl.transforms.stft import FftSpectrum

EXPORTABLE = ("mel", "stft", "mfcc", "chroma", "cqt", "vqt", "cwt", "gammatone")


class GraphFrontEnd(nn.Module):
    """Compressed picture (B, C, F, T) of float32 waves (B, S), all clips at once and unchecked."""

    def __init__(self, frontend: FrontEnd):
        super().__init__()
        if isinstance(frontend, FilterBankFrontEnd):
            self.transform: nn.Module = GraphFilterBank(frontend)
        else:
            for name, module in list(frontend.named_modules()):
                if isinstance(module, FftSpectrum):
                    replace(frontend, name, GraphSpectrum(module))
            self.transform = Uncompressed(frontend)
        self.compress = frontend.compress

    def forward(self, wave: Tensor) -> Tensor:
        """The picture."""
        return self.compress(self.transform(wave))


class Uncompressed(nn.Module):
    """The picture of a front end before compression."""

    def __init__(self, frontend: FrontEnd):
        super().__init__()
        self.frontend = frontend

    def forward(self, wave: Tensor) -> Tensor:
        """The picture."""
        return self.frontend.transform(wave)


def graph_module(model: nn.Module) -> nn.Module:
    """A copy of a model on the CPU in eval mode that torch.export can follow for every batch and length.

    Raises UserError for a front end, a compression or a network that no graph can hold yet, naming those that can.
    """
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    for name, module in list(model.named_modules()):
        if isinstance(module, FrontEnd):
            check_frontend(module)
            replace(model, name, GraphFrontEnd(module))
    for module in model.modules():
        if type(module) in COUNTERPARTS:
            module.__class__ = COUNTERPARTS[type(module)]
    return model


def replace(model: nn.Module, name: str, part: nn.Module) -> None:
    """Put another module in the place of the one called `name`, such as "encoder.frontend"."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, part)


def check_frontend(frontend: FrontEnd) -> None:
    """Raise UserError for a front end that cannot be exported."""
    kind = frontend.config.type
    if kind not in EXPORTABLE:
        raise UserError(f"the front end {kind} cannot be exported: {', '.join(EXPORTABLE)} can.")
    if getattr(frontend.config, "backend", "fft") != "fft":
        raise UserError(f"the front end {kind} with backend=nnaudio cannot be exported: train with backend=fft.")
    if isinstance(frontend.compress, Pcen):
        raise UserError("compress=pcen cannot be exported: log, db and none can.")


def sample_waves(sample_rate: int, n_samples: int, n_clips: int, seed: int = 0) -> Tensor:
    """Waves (B, S) to try a graph on: noise and a gliding tone, the last clip 60 dB fainter, then silence."""
    generator = torch.Generator().manual_seed(seed)
    gain = torch.logspace(0.0, -3.0, n_clips)[:, None]
    time_s = torch.arange(n_samples) / sample_rate
    tone = torch.sin(2.0 * torch.pi * (200.0 * time_s + 1000.0 * time_s.square()))
    waves = gain * (0.1 * torch.randn(n_clips, n_samples, generator=generator) + 0.5 * tone)
    waves[:, n_samples - n_samples // 4 :] = 0.0
    return waves.clamp(-1.0, 1.0)
