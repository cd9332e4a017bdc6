"""What fine-tuning begins with: an encoder, the labels to learn, and a head that already reads the encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiossl.classifier import Classifier, load_classifier
from audiossl.data.cached import CachedClips
from audiossl.data.config import DataConfig
from audiossl.data.label_table import label_names, label_table
from audiossl.encoder import AudioEncoder, load_model
from audiossl.errors import UserError
from audiossl.methods.supervised import SupervisedConfig
from audiossl.probes.features import waves_to_features
from audiossl.probes.linear_start import linear_start
from audiossl.run.finetune_config import FinetuneConfig
from audiossl.run.labels import labelled_clips

BATCH = 256
MANY_LABELS = 1000  # of more, neither is a head fitted, whose regression would take hours, nor a confusion matrix kept


@dataclass(frozen=True)
class Truth:
    """Clips whose labels are known, and the table (N, K) of them, which is made when it is asked for."""

    clips: CachedClips
    names: tuple[str, ...]
    separator: str | None

    @property
    def table(self) -> np.ndarray:
        """1 where a clip has the label of the column, else 0."""
        return label_table(self.clips.labels, self.names, self.separator)


class Lesson(NamedTuple):
    """What is learned: names of the K labels, the clips of an epoch, and the known labels of the three splits.

    Few clips stand in `clips` again and again, and in `truths["training"]` once.
    """

    names: tuple[str, ...]
    clips: CachedClips
    truths: dict[str, Truth]
    separator: str | None

    @property
    def told(self) -> str:
        """How many labels are learned, for people."""
        return f"with {len(self.truths['training'].clips)} labelled clips of {len(self.names)} labels"


def open_encoder(config: FinetuneConfig, seed: int) -> AudioEncoder | None:
    """The encoder that is fine-tuned, None where `config` names none; raises UserError when it cannot be opened."""
    if not config.encoder:
        return None
    released = {"arch": config.arch} if config.arch else {}
    encoder = load_model(config.encoder, **released)
    return encoder.randomised(seed).train() if config.scratch else encoder


def data_at_rate(data: DataConfig, sample_rate: int) -> tuple[DataConfig, str]:
    """The data set at the encoder's rate, and a sentence where that is not the one that was asked for."""
    if data.sample_rate == sample_rate:
        return data, ""
    said = f"the encoder hears {sample_rate} Hz: recordings are resampled to that, not to --data.sample_rate"
    return replace(data, sample_rate=sample_rate), f"{said} {data.sample_rate}"


def lesson(clips: CachedClips, config: SupervisedConfig, seed: int) -> Lesson:
    """The labels of a data set as `config` wants them learned.

    Raises UserError when no clip, or one label alone, is there to learn from, and when validation or test clips have
    labels that the training clips have not.
    """
    separator = config.label_separator if config.multi_label else None
    training = clips.split("training")
    names = label_names(training.labels, separator)
    taught = labelled_clips(training, config.labels_per_class, seed, config.label_share)
    if len(names) < 2:
        raise UserError(f"{clips.name}: the training clips have one label, {', '.join(names)}: give two or more.")
    once = taught.subset(np.unique(taught.ids, return_index=True)[1].tolist())
    truths = {"training": Truth(once, names, separator)}
    for split in ("validation", "testing"):
        truths[split] = _truth(clips.split(split), split, names, separator)
    return Lesson(names, taught, truths, separator)


def _truth(clips: CachedClips, split: str, names: tuple[str, ...], separator: str | None) -> Truth:
    known = clips.subset([row for row, label in enumerate(clips.labels) if label is not None])
    new = sorted(set(label_names(known.labels, separator)) - set(names))
    if new:
        raise UserError(
            f"{clips.name}: the {split} split has {len(new)} label(s) that no training clip has, such as {new[0]!r}: "
            "move a clip of each to the training split (--data.lists, or a split column), or leave them out."
        )
    return Truth(known, names, separator)


def targets(found: Lesson, config: FinetuneConfig, device: torch.device) -> Tensor:
    """What each clip of an epoch shall be named: (N,) int64, or shares of labels (N, K) float32.

    Shares where a clip may have several labels, and where a teacher gives some of them (Hinton et al., Distilling the
    knowledge in a neural network, 2015). Raises UserError for a teacher of other labels.
    """
    if config.teacher:
        own = label_table(found.clips.labels, found.names, found.separator)
        taught = _teachers(config, found, device)
        return (1 - config.teacher_share) * torch.from_numpy(own).to(device) + config.teacher_share * taught
    if found.separator is not None:
        return torch.from_numpy(label_table(found.clips.labels, found.names, found.separator)).to(device)
    place = {name: number for number, name in enumerate(found.names)}
    return torch.tensor([place[str(label)] for label in found.clips.labels], device=device)


def _teachers(config: FinetuneConfig, found: Lesson, device: torch.device) -> Tensor:
    """Probabilities (N, K) that the teacher gives the clips of an epoch."""
    teacher = load_classifier(config.teacher).to(device)
    several = found.separator is not None
    if set(teacher.labels) != set(found.names) or teacher.multi_label != several:
        raise UserError(
            f"--finetune.teacher {config.teacher} knows {len(teacher.labels)} labels ({', '.join(teacher.labels[:3])} "
            f"...), and the clips have {len(found.names)} ({', '.join(found.names[:3])} ...): they must be the same."
        )
    if teacher.sample_rate != found.clips.sample_rate:
        raise UserError(
            f"--finetune.teacher {config.teacher} hears {teacher.sample_rate} Hz and the clips have "
            f"{found.clips.sample_rate} Hz: give an encoder of the teacher's rate."
        )
    once, place = np.unique(found.clips.ids, return_index=True, return_inverse=True)[1:]
    scores = waves_to_features(teacher, found.clips.subset(once.tolist()), BATCH, device)
    probabilities = teacher.as_probabilities(torch.from_numpy(scores) / config.teacher_temperature)
    order = [teacher.labels.index(name) for name in found.names]
    return probabilities[:, order][torch.from_numpy(place)].to(device)


def fit_head(classifier: Classifier, found: Lesson) -> float:
    """Give the head the best weights for the encoder as it is; returns their strength C, chosen on validation clips."""
    encoder, head = classifier.encoder, classifier.head
    device, was_training = next(encoder.parameters()).device, encoder.training
    encoder.eval()
    training, validation = found.truths["training"], found.truths["validation"]
    x, checked = (
        waves_to_features(encoder, truth.clips, BATCH, device)
        if len(truth.clips)
        else np.empty((0, encoder.dim), np.float32)
        for truth in (training, validation)
    )
    encoder.train(was_training)
    start = linear_start(x, training.table, checked, validation.table, classifier.multi_label)
    with torch.no_grad():
        head.linear.weight.copy_(torch.from_numpy(start.weight))
        head.linear.bias.copy_(torch.from_numpy(start.bias))
    return start.c
