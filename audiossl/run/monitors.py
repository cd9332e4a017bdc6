"""Is the run learning? Numbers that need no loss: spread of the features, RankMe, kNN on a fixed subset.

Self-distillation can stop learning while its loss looks fine: every clip gets the same output (collapse), or
the targets stay uniform and the loss sits at ln K. `feature_std` and `rankme` see this without labels,
`OnlineKNN` with the labels of the training and validation splits, and `verdict` turns all curves into one
sentence. Of a classifier there is its accuracy on validation clips as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from audiossl.run.verdict import verdict

if TYPE_CHECKING:
    from audiossl.data.cached import CachedClips
    from audiossl.encoder import AudioEncoder
    from audiossl.run.session import Session

__all__ = ["OnlineKNN", "classifier_accuracy", "feature_std", "knn_accuracy", "monitor", "rankme", "verdict"]


def feature_std(features: Tensor) -> float:
    """Spread of the directions of the features: 1 is isotropic, near 0 is collapse to one point.

    The mean over dimensions of the standard deviation of the L2-normalised features, times sqrt(D); needs no
    labels (the collapse test of SimSiam, Chen and He 2021, and of BYOL-A v2, Niizumi et al. 2023).

    Args:
        features: (B, D), any floating type, B at least 2.

    Raises:
        ValueError: fewer than two rows.

    >>> feature_std(torch.eye(2).repeat(8, 1) * 2 - 1) > 0.9
    True
    >>> feature_std(torch.ones(16, 4))
    0.0
    """
    _check(features)
    directions = normalize(features.detach().float(), dim=1)
    return float(directions.std(dim=0, correction=0).mean() * features.shape[1] ** 0.5)


def rankme(features: Tensor) -> float:
    """Effective number of directions that the features use, between 1 and min(B, D).

    exp of the entropy of the singular values divided by their sum, epsilon 1e-7 (RankMe, Garrido et al. 2023,
    equation 1; the features are not centred). Features that are all zero give 0, NaN or Inf give NaN.

    Args:
        features: (B, D), B at least 2; the paper uses many more rows than dimensions.

    Raises:
        ValueError: fewer than two rows.

    >>> round(rankme(torch.eye(8)), 3)
    8.0
    """
    _check(features)
    rows = features.detach().float()
    if not bool(torch.isfinite(rows).all()):
        return math.nan
    singular = torch.linalg.svdvals(rows)
    total = singular.sum()
    if float(total) == 0.0:
        return 0.0
    share = singular / total + 1e-7
    return float(torch.exp(-(share * share.log()).sum()))


def _check(features: Tensor) -> None:
    if features.ndim != 2 or features.shape[0] < 2:
        raise ValueError(f"features must be (B, D) with at least two rows, found {tuple(features.shape)}")


def knn_accuracy(train_x: np.ndarray, train_y: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Accuracy in percent of the weighted kNN of `audiossl.probes.knn` on features standardised on `train_x`.

    The same protocol as the final table, so curve and table can be compared. Shapes (N, D), (N,), (M, D),
    (M,); rows with label -1 are left out; NaN when a feature is not finite or nothing is labelled.
    """
    from audiossl.probes.features import standardise
    from audiossl.probes.knn import knn_predict

    train_x, train_y, x, y = train_x[train_y >= 0], train_y[train_y >= 0], x[y >= 0], y[y >= 0]
    if not len(train_y) or not len(y) or not (np.isfinite(train_x).all() and np.isfinite(x).all()):
        return math.nan
    train_x, x = standardise(train_x, x)
    return 100.0 * float(np.mean(knn_predict(train_x, train_y, x, n_classes=int(train_y.max()) + 1) == y))


def classifier_accuracy(encoder: nn.Module, head: nn.Module, clips: CachedClips, batch_size: int = 256) -> float:
    """Percent of the labelled clips whose label a head (B, D) -> (B, C) on an encoder's features puts first.

    Both run in evaluation mode, and their modes are restored. NaN when no clip has a label.
    """
    from audiossl.probes.features import waves_to_features

    labels = np.asarray(clips.label_ids)
    clips, labels = clips.subset(np.flatnonzero(labels >= 0)), labels[labels >= 0]
    if not len(labels):
        return math.nan
    network = nn.Sequential(encoder, head)
    modes = encoder.training, head.training
    network.eval()
    try:
        logits = waves_to_features(network, clips, batch_size, next(head.parameters()).device)
    finally:
        encoder.train(modes[0])
        head.train(modes[1])
    return 100.0 * float(np.mean(logits.argmax(1) == labels))


class OnlineKNN:
    """Monitors of an encoder on a fixed set of clips: kNN in percent, feature_std and rankme.

    The same clips every epoch, so that the curve shows the encoder and not the draw; the test split is never
    looked at. Without labels, or without a validation split, only the two label-free numbers are given.

    Args:
        clips: cached clips with splits; fitted on "training", scored on "validation".
        n_training, n_validation: at most so many clips of each, drawn once by `seed`.
        batch_size: clips at a time through the encoder.
    """

    def __init__(
        self,
        clips: CachedClips,
        n_training: int = 2000,
        n_validation: int = 500,
        seed: int = 0,
        batch_size: int = 256,
    ):
        self.training = _draw(clips.split("training"), n_training, seed)
        self.validation = _draw(clips.split("validation"), n_validation, seed)
        self.batch_size = batch_size
        several = len(set(np.asarray(self.training.label_ids).tolist()) - {-1}) > 1
        self.labelled = several and bool((np.asarray(self.validation.label_ids) >= 0).any())

    def floors(self, encoder: AudioEncoder) -> dict[str, float]:
        """What kNN on the same clips gives without learning: random weights, the better log-mel statistic, chance."""
        from audiossl.probes.baselines import log_mel_tables

        if not self.labelled:
            return {}
        train_y, y = np.asarray(self.training.label_ids), np.asarray(self.validation.label_ids)
        training, validation = log_mel_tables(self.training), log_mel_tables(self.validation)
        tables = [(training[name], validation[name]) for name in training if name.startswith("log-mel")]
        return {
            "knn_random": self(encoder.randomised(0))["knn"],
            "knn_log_mel": max(knn_accuracy(train.x, train_y, other.x, y) for train, other in tables),
            "knn_chance": 100.0 / len(set(train_y.tolist()) - {-1}),
        }

    def __call__(self, encoder: nn.Module) -> dict[str, float]:
        """Monitors of this encoder (wave (B, S) -> (B, D)) in evaluation mode; its mode is restored."""
        from audiossl.probes.features import waves_to_features

        device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
        was_training = encoder.training
        encoder.eval()
        try:
            train_x = waves_to_features(encoder, self.training, self.batch_size, device)
            features = torch.from_numpy(train_x)
            values = {"feature_std": feature_std(features), "rankme": rankme(features)}
            if self.labelled:
                x = waves_to_features(encoder, self.validation, self.batch_size, device)
                train_y, y = np.asarray(self.training.label_ids), np.asarray(self.validation.label_ids)
                values["knn"] = knn_accuracy(train_x, train_y, x, y)
        finally:
            encoder.train(was_training)
        return values


def monitor(session: Session, encoder: AudioEncoder, knn: OnlineKNN, epoch: int) -> dict[str, float]:
    """Is it learning? kNN, spread and rank of the encoder's features; the first time, the floors of kNN as well."""
    if not session.is_main or not session.monitor_due(epoch):
        return {}
    known = any("knn_random" in row for row in session.recorder.history)  # in a resumed run, before it too
    return {**knn(encoder), **({} if known else knn.floors(encoder))}


def _draw(clips: CachedClips, limit: int, seed: int) -> CachedClips:
    if len(clips) <= limit:
        return clips
    return clips.subset(np.sort(np.random.default_rng(seed).permutation(len(clips))[:limit]).tolist())
