"""The same pictures by torchaudio, nnAudio, librosa and PyWavelets, where they have them and are installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

Call = Callable[[], object]

# Where a type's defaults cannot be asked of its peers: whole rows an octave, and a hop that halves often enough.
C1 = 32.703
SETTINGS: dict[str, dict[str, Any]] = {
    kind: {"n_bins": 84, "bins_per_octave": 12, "f_min": C1, "f_max": C1 * 2 ** (83 / 12), "hop_length": 256}
    for kind in ("cqt", "vqt")
}


def peers(config: Any, wave: torch.Tensor) -> dict[str, Call]:
    """Calls that make about the picture of `config` of a batch of waves (B, S), by library; empty where none has it."""
    calls: dict[str, Call] = {}
    for library, make in (("torchaudio", _torchaudio), ("nnAudio", _nnaudio), ("librosa", _librosa), ("pywt", _pywt)):
        if find_spec(library) is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call = make(config.type, config, wave)
        if call is not None:
            calls["PyWavelets" if library == "pywt" else library] = call
    return calls


def _torchaudio(kind: str, c: Any, wave: torch.Tensor) -> Call | None:
    from torchaudio import transforms as T
    from torchaudio.compliance import kaldi

    if kind == "stft":
        spectrogram = T.Spectrogram(c.n_fft, c.win_length, c.hop_length)
        return lambda: spectrogram(wave)
    if kind in ("mel", "mfcc"):
        n_mels = c.n_bins if kind == "mel" else c.n_mels
        frames = {"n_fft": c.n_fft, "win_length": c.win_length, "hop_length": c.hop_length}
        band = {"f_min": c.f_min, "f_max": c.f_max, "n_mels": n_mels, "mel_scale": c.mel_scale, "norm": c.norm}
        if kind == "mel":
            mel = T.MelSpectrogram(c.sample_rate, **frames, **band)
            return lambda: mel(wave)
        mfcc = T.MFCC(c.sample_rate, c.n_bins, log_mels=True, melkwargs={**frames, **band})
        return lambda: mfcc(wave)
    if kind == "fbank":
        settings = {
            "num_mel_bins": c.n_bins,
            "frame_length": 1e3 * c.win_length / c.sample_rate,
            "frame_shift": 1e3 * c.hop_length / c.sample_rate,
            "low_freq": c.f_min,
            "high_freq": c.f_max,
            "dither": 0.0,
            "snip_edges": c.snip_edges,
        }
        return lambda: [kaldi.fbank(one[None], **settings) for one in wave]
    return None


def _nnaudio(kind: str, c: Any, wave: torch.Tensor) -> Call | None:
    from nnAudio import features

    if kind == "stft":
        made = features.STFT(
            n_fft=c.n_fft, hop_length=c.hop_length, sr=c.sample_rate, output_format="Magnitude", verbose=False
        )
    elif kind in ("mel", "mfcc"):
        n_mels = c.n_bins if kind == "mel" else c.n_mels
        settings = {"n_fft": c.n_fft, "n_mels": n_mels, "hop_length": c.hop_length, "fmin": c.f_min, "fmax": c.f_max}
        if kind == "mel":
            made = features.MelSpectrogram(sr=c.sample_rate, verbose=False, **settings)
        else:
            made = features.MFCC(sr=c.sample_rate, n_mfcc=c.n_bins, verbose=False, **settings)
    elif kind in ("cqt", "vqt"):
        build = features.CQT1992v2 if kind == "cqt" else features.VQT
        settings = {"fmin": c.f_min, "n_bins": c.n_bins, "bins_per_octave": int(c.bins_per_octave)}
        extra = {} if kind == "cqt" else {"gamma": c.gamma}
        made = build(sr=c.sample_rate, hop_length=c.hop_length, verbose=False, **settings, **extra)
    elif kind == "gammatone":
        made = features.Gammatonegram(
            sr=c.sample_rate, n_fft=1024, n_bins=c.n_bins, hop_length=c.hop_length, fmin=c.f_min, fmax=c.f_max
        )
    else:
        return None
    return lambda: made(wave)


def _librosa(kind: str, c: Any, wave: torch.Tensor) -> Call | None:
    import librosa

    y, sr = wave.numpy(), c.sample_rate
    if kind == "stft":
        return lambda: abs(librosa.stft(y, n_fft=c.n_fft, win_length=c.win_length, hop_length=c.hop_length)) ** 2
    if kind in ("mel", "mfcc"):
        settings = {"n_fft": c.n_fft, "win_length": c.win_length, "hop_length": c.hop_length}
        band = {"fmin": c.f_min, "fmax": c.f_max, "n_mels": c.n_bins if kind == "mel" else c.n_mels}
        if kind == "mel":
            return lambda: librosa.feature.melspectrogram(y=y, sr=sr, **settings, **band)
        return lambda: librosa.feature.mfcc(y=y, sr=sr, n_mfcc=c.n_bins, **settings, **band)
    if kind in ("cqt", "vqt"):
        settings = {"sr": sr, "hop_length": c.hop_length, "fmin": c.f_min, "n_bins": c.n_bins}
        octave = int(c.bins_per_octave)
        if kind == "cqt":
            return lambda: abs(librosa.cqt(y, bins_per_octave=octave, **settings))
        return lambda: abs(librosa.vqt(y, bins_per_octave=octave, gamma=c.gamma, **settings))
    if kind == "reassigned":
        settings = {"n_fft": c.n_fft, "win_length": c.win_length, "hop_length": c.hop_length}
        return lambda: librosa.reassigned_spectrogram(y, sr=sr, **settings)
    if kind == "chroma":
        settings = {"n_fft": c.n_fft, "hop_length": c.hop_length, "tuning": 0.0}
        return lambda: librosa.feature.chroma_stft(y=y, sr=sr, **settings)
    return None


def _pywt(kind: str, c: Any, wave: torch.Tensor) -> Call | None:
    import pywt

    y = wave.numpy()
    if kind == "dwt":
        return lambda: pywt.wavedec(y, c.wavelet, c.pad_mode, c.level)
    if kind == "wavelet_packet":
        return lambda: pywt.WaveletPacket(y, c.wavelet, c.pad_mode, c.level).get_level(c.level, "freq")
    if kind == "cwt" and c.wavelet == "morlet":
        # PyWavelets' complex Morlet of bandwidth 1.5 and centre w0 / 2 pi sqrt(2 / 1.5), at the same frequencies.
        centre = c.w0 / (2 * torch.pi) * (2 / 1.5) ** 0.5
        hz = torch.logspace(*torch.tensor([c.f_min, c.f_max]).log10().tolist(), c.n_bins)
        scales = (centre * c.sample_rate / hz).numpy()
        return lambda: pywt.cwt(y, scales, f"cmor1.5-{centre:.4f}", 1 / c.sample_rate, method="fft")
    return None
