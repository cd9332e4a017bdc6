"""Frozen features of a cached data set, and the three splits as every probe takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from audiossl.data.clips import SPLITS
from audiossl.errors import UserError

if TYPE_CHECKING:
    from audiossl.data.cache import CachedClips

Embed = Callable[[int, int], torch.Tensor]
# Calls an `Embed` for the batches of n rows, and puts what it gives in order: (embed, n, batch size) -> (n, D).
Batches = Callable[[Embed, int, int], np.ndarray]


class Labelled(NamedTuple):
    """Rows of one split: `x` (N, D) float32, `y` (N,) int64."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class ProbeData:
    """The three splits, as a rule standardised on the training rows; labels run from 0 to `n_classes` - 1."""

    train: Labelled
    validation: Labelled
    test: Labelled
    n_classes: int


@dataclass(frozen=True)
class ProbeScore:
    """One probe's result: accuracies from 0 to 1, and the settings that validation chose.

    `top5` is None where a probe ranks no labels, or there are fewer than five; `predicted` (N,) int64 are the labels
    that it gave to the test clips.
    """

    test: float
    validation: float | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    top5: float | None = None
    predicted: np.ndarray | None = field(default=None, compare=False, repr=False)


def accuracy(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Share of equal entries of two (N,) arrays.

    >>> accuracy(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]))
    0.75
    """
    return float(np.mean(predicted == truth))


def top5_accuracy(ranked: np.ndarray, truth: np.ndarray, n_classes: int) -> float | None:
    """Share of rows whose true label (N,) is among the first five of `ranked` (N, 5 or more), from 0 to 1.

    None for fewer than five classes, where it would say nothing.

    >>> top5_accuracy(np.array([[4, 3, 2, 1, 0], [0, 1, 2, 3, 4]]), np.array([0, 5]), n_classes=6)
    0.5
    """
    return float(np.mean((ranked[:, :5] == truth[:, None]).any(1))) if n_classes >= 5 else None


@dataclass(frozen=True)
class FeatureTable:
    """Features `x` (N, D) float32 and what is known of each clip; `label_ids` (N,) is -1 without a label."""

    x: np.ndarray
    label_ids: np.ndarray
    ids: list[str]
    speakers: list[str | None]
    splits: list[str | None]
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.x)

    def rows(self, split: str) -> Labelled:
        """The labelled rows of "training", "validation" or "testing", as they are (not standardised)."""
        wanted = np.array([name == split for name in self.splits], dtype=bool) & (self.label_ids >= 0)
        return Labelled(self.x[wanted], self.label_ids[wanted])

    def probe_data(self, standardised: bool = True) -> ProbeData:
        """The three splits, standardised on training; raises `UserError` if one holds no labelled clip."""
        if reason := why_no_probe(self):
            raise UserError(reason)
        splits = [self.rows(name) for name in SPLITS]
        scaled = [rows.x for rows in splits]
        if standardised:
            scaled = standardise(*scaled)
        train, validation, test = (Labelled(x, rows.y) for x, rows in zip(scaled, splits, strict=True))
        return ProbeData(train, validation, test, len(self.label_names))


def why_no_probe(clips: CachedClips | FeatureTable) -> str | None:
    """What these clips lack to be probed, in one sentence, or None: two labels, in all three splits."""
    labels, splits = np.asarray(clips.label_ids), np.array([name or "" for name in clips.splits])
    for name in SPLITS:
        if not np.any((splits == name) & (labels >= 0)):
            return (
                f"the {name} split holds no labelled clip, and probes need labels in all three splits: "
                "give a data set with labels, and a split column, lists or enough clips (see --data.root)."
            )
    if len(np.unique(labels[(splits == "training") & (labels >= 0)])) < 2:
        return "all training clips have the same label, and a probe tells labels apart: give two or more."
    return None


def standardise(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Zero mean and unit deviation on the training rows, the same shift and scale for all others; float32.

    A dimension that is constant on the training rows becomes zero everywhere it equals that constant: it is
    shifted, not scaled. All arrays are (N, D).

    >>> standardise(np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[1.0, 6.0]]))[1]
    array([[0., 1.]], dtype=float32)
    """
    mean, scale = mean_and_scale(train)
    return [((x - mean) / scale).astype(np.float32) for x in (train, *others)]


def mean_and_scale(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (D,) of rows (N, D), float64; the scale of a dimension that is constant is 1.

    >>> mean_and_scale(np.array([[0.0, 5.0], [2.0, 5.0]]))
    (array([1., 5.]), array([1., 1.]))
    """
    mean = train.mean(0, dtype=np.float64)
    deviation = train.std(0, dtype=np.float64)
    # Rounding leaves a constant dimension a deviation of about 1e-7 of its size; dividing by it would make
    # noise large.
    flat = deviation <= 1e-6 * np.maximum(np.abs(mean), 1e-6)
    return mean, np.where(flat, 1.0, deviation)


def in_order(embed: Embed, n: int, batch_size: int) -> np.ndarray:
    """Embed n rows batch after batch, in this process: the `Batches` of a program that has no other."""
    starts = range(0, n, batch_size)
    return np.concatenate([embed(start, min(start + batch_size, n)).cpu().numpy() for start in starts])


def waves_to_features(
    module: nn.Module, clips: CachedClips, batch_size: int, device: torch.device, batches: Batches = in_order
) -> np.ndarray:
    """Run `module` on all clips in order: (N, S) int16 -> (N, D) float32; it gets float32 in [-1, 1]."""

    def embed(start: int, stop: int) -> torch.Tensor:
        # A copy: the memory map is read-only, and torch shares memory with what it is given.
        wave = torch.from_numpy(np.array(clips.waves[start:stop])).to(device)
        return module(wave.float() / 32768.0).float()

    with torch.inference_mode():
        return batches(embed, len(clips), batch_size)


def extract(
    encoder: nn.Module,
    clips: CachedClips,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    batches: Batches = in_order,
) -> FeatureTable:
    """Embed every cached clip with the frozen encoder, in evaluation mode, which is restored afterwards.

    The encoder maps a wave (B, S) float32 to (B, D); it runs on `device`, by default where its weights are.
    `batches` may share the work out, see `audiossl.run.shared_batches`.
    Raises `UserError` when the set is empty, its rate is not the encoder's, or an embedding is not finite.
    """
    if len(clips) == 0:
        raise UserError(f"data set {clips.name!r} holds no clips, so there is nothing to probe: check --data.root.")
    rate = getattr(encoder, "sample_rate", clips.sample_rate)
    if rate != clips.sample_rate:
        raise UserError(
            f"the encoder wants {rate} Hz and the cached clips have {clips.sample_rate} Hz: "
            f"set --data.sample_rate {rate}."
        )
    before = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    target = before if device is None else torch.device(device)
    training = encoder.training
    encoder.eval().to(target)
    try:
        x = waves_to_features(encoder, clips, batch_size, target, batches)
    finally:
        encoder.to(before).train(training)
    bad = ~np.isfinite(x).all(1)
    if bad.any():
        raise UserError(
            f"the encoder gives values that are not finite for {int(bad.sum())} of {len(x)} clips, "
            f"first {clips.ids[int(bad.argmax())]!r}: the weights are damaged or training diverged."
        )
    return describe_features(x, clips)


def describe_features(x: np.ndarray, clips: CachedClips) -> FeatureTable:
    """Join features (N, D) with the labels, speakers and splits of their clips."""
    return FeatureTable(
        x=x,
        label_ids=np.asarray(clips.label_ids),
        ids=list(clips.ids),
        speakers=list(clips.speakers),
        splits=list(clips.splits),
        label_names=tuple(clips.label_names),
    )
