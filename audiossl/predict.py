"""From sound to labels: recordings of any rate and length in, a row with label and probability out.

Reading, resampling and cutting are those of `audiossl.featurize`: what takes an embedding's place are probabilities.
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiossl.classifier import Classifier, load_classifier
from audiossl.embeddings import written
from audiossl.errors import UserError
from audiossl.featurize import default_device, featurize

UNKNOWN = "unknown"
KEPT = ("file", "channel", "start_s", "end_s", "valid_s", "status", "message")  # columns of featurize's table


@dataclass(frozen=True)
class Predictions:
    """Labels of sounds.

    table: one dictionary a recording or window: file, channel, start_s, end_s, valid_s, status and message as of
        `audiossl.featurize`, label (None where the status is "error"; several are joined by "; ") and probability, that
        of the label, or of the likeliest where none was given.
    probabilities: (N, K) float32 of all labels; rows of NaN where the status is "error".
    labels: K names.
    """

    table: list[dict[str, Any]]
    probabilities: np.ndarray
    labels: list[str]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.table)

    def __str__(self) -> str:
        """One line a row: file, seconds, label, probability."""
        return "\n".join(_line(row) for row in self.table)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the table, and a column of probabilities for each label."""
        columns = [*KEPT, "label", "probability"]
        with written(path) as part, part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow([*columns, *self.labels])
            for row, values in zip(self.table, self.probabilities, strict=True):
                cells = ["" if row[name] is None else row[name] for name in columns]
                writer.writerow([*cells, *("" if np.isnan(value) else f"{value:.6f}" for value in values)])
        return Path(path)

    def to_json(self, top: int = 1) -> str:
        """One line of JSON a row, with the `top` likeliest labels and their probabilities."""
        lines = []
        for row, values in zip(self.table, self.probabilities, strict=True):
            order = [] if np.isnan(values).any() else np.argsort(-values, kind="stable")[:top].tolist()
            likeliest = {self.labels[place]: round(float(values[place]), 6) for place in order}
            lines.append(json.dumps({**row, "likeliest": likeliest}))
        return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    span = "" if row["start_s"] is None else f"  {row['start_s']:.2f}-{row['end_s']:.2f} s"
    if row["label"] is None:
        return f"{row['file']}{span}  not read: {row['message']}"
    return f"{row['file']}{span}  {row['label'] or '(none)'}  {row['probability']:.3f}"


class _Ear(nn.Module):
    """A classifier as `featurize` takes an encoder: waves (B, S) to probabilities (B, K)."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier
        self.sample_rate, self.n_samples, self.dim = classifier.sample_rate, classifier.n_samples, classifier.dim

    def forward(self, wave: Tensor) -> Tensor:
        return self.classifier.probabilities(wave)


def predict(
    inputs: Any,
    classifier: Classifier | str | os.PathLike[str],
    sample_rate: int | None = None,
    level: str = "clip",
    window_s: float | None = None,
    hop_s: float | None = None,
    unknown_below: float | None = None,
    batch_size: int = 64,
    workers: int = 0,
    device: str | torch.device | None = None,
    errors: str = "record",
    progress: bool = False,
    outside: bool = False,
) -> Predictions:
    """Name recordings, or the windows of long ones.

    Args:
        inputs: what `audiossl.featurize` takes: files, folders, patterns, manifests, arrays with `sample_rate` ...
        classifier: a `Classifier`, or its folder (RUN/classifier).
        sample_rate: rate of arrays in Hz.
        level: "clip" gives one row a recording, the mean over its windows; "window" one row a window.
        window_s: length of a window in seconds; by default that of the clips that the classifier was trained on.
        hop_s: distance of the windows; by default they lie side by side.
        unknown_below: what has no label of at least this probability is called "unknown" (with several labels a sound:
            has none, which is ""); by default the classifier's own threshold.
        batch_size: windows on the device at a time.
        workers: threads that decode; 0 takes two a core.
        device: "cpu", "cuda" ...
        errors: as of `audiossl.featurize`.
        progress: show a bar when standard error is a terminal.
        outside: let a manifest name files outside of its own folder.

    Returns `Predictions` in the inputs' order. Raises `UserError` as `featurize` does, and for a level or threshold.
    """
    if level not in ("clip", "window"):
        raise UserError(f"level is {level!r}: a classifier names a clip or a window.")
    if unknown_below is not None and not 0.0 <= unknown_below < 1.0:
        raise UserError(f"unknown_below is {unknown_below}: give a probability from 0 to below 1.")
    opened = classifier if isinstance(classifier, Classifier) else load_classifier(classifier)
    if device is None and not isinstance(classifier, Classifier):
        device = default_device()
    found = featurize(
        inputs,
        _Ear(opened),  # type: ignore[arg-type]
        sample_rate,
        level=level,
        window_s=window_s,
        hop_s=hop_s,
        batch_size=batch_size,
        workers=workers,
        device=device,
        errors=errors,
        progress=progress,
        outside=outside,
    )
    threshold = opened.unknown_below if unknown_below is None else unknown_below
    named = [_named(values, opened, threshold) for values in found.embeddings]
    table = [{**{name: row[name] for name in KEPT}, **name} for row, name in zip(found.table, named, strict=True)]
    return Predictions(table, found.embeddings, opened.labels)


def _named(values: np.ndarray, classifier: Classifier, threshold: float) -> dict[str, Any]:
    """Label and probability of one row of probabilities (K,)."""
    if np.isnan(values).any():
        return {"label": None, "probability": None}
    best = int(np.argmax(values))
    label = classifier.labels[best] if values[best] >= threshold else UNKNOWN
    if classifier.multi_label:
        there = [name for name, value in zip(classifier.labels, values, strict=True) if value >= (threshold or 0.5)]
        label = "; ".join(there)
    return {"label": label, "probability": round(float(values[best]), 6)}
