"""The flags of fine-tuning beside those of the method. No torch here, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audiossl.errors import UserError


@dataclass
class FinetuneConfig:
    """What is fine-tuned, from where, and when it is done."""

    # Folder of an encoder (RUN/encoder), a model's name, a file that EsViT's or BYOL-A's authors released (with arch),
    # or empty for random weights in the network of --backbone and the picture of --frontend.
    encoder: str = ""
    # Of a released file: swin_tiny, deit_small, audiontt_2020 ...
    arch: str = ""
    # Keep the encoder's network and picture, but begin with random weights: what the pretraining is worth.
    scratch: bool = False
    # Where the head begins: a new one as torch draws it, or the linear probe, fitted to the encoder's features.
    start: Literal["new", "logistic"] = "new"
    # Epochs in which the head alone learns.
    frozen_epochs: int = 0
    # Batch norms keep the statistics that they came with: for few clips, and for sounds like those of the pretraining.
    frozen_batch_norm: bool = False
    # Stop when the score on validation clips has not risen for so many epochs; 0 goes on to the end. The best is kept.
    patience: int = 0
    # Divide the scores by one number, found on validation clips, with which probabilities mean what they say.
    calibrate: bool = True
    # Sounds are called unknown below the probability that this share of the rightly named validation clips reaches; 1
    # calls none so.
    keep_known: float = 1.0
    # map.html of the validation clips, to see and to hear.
    map: bool = True
    # Folder of a larger classifier, whose probabilities are learned in the place of this share of the labels.
    teacher: str = ""
    teacher_share: float = 0.7
    # Its scores are divided by this before they become probabilities: above 1 they also tell what is nearly as likely.
    teacher_temperature: float = 2.0

    def __post_init__(self) -> None:
        """Raise `UserError` for values that make no sense."""
        if self.scratch and not self.encoder:
            raise UserError(
                "--finetune.scratch keeps the network of an encoder: give its folder as --finetune.encoder."
            )
        if self.arch and not self.encoder:
            raise UserError(f"--finetune.arch {self.arch} is that of a released file: give it as --finetune.encoder.")
        if self.start not in ("logistic", "new"):
            raise UserError(f"--finetune.start must be new or logistic, found {self.start!r}.")
        for name in ("frozen_epochs", "patience"):
            if getattr(self, name) < 0:
                raise UserError(f"--finetune.{name} must be 0 or more, found {getattr(self, name)}.")
        if not 0.0 < self.keep_known <= 1.0:
            raise UserError(f"--finetune.keep_known must be a share above 0, and at most 1, found {self.keep_known}.")
        if not 0.0 <= self.teacher_share <= 1.0:
            raise UserError(f"--finetune.teacher_share must be from 0 to 1, found {self.teacher_share}.")
        if not self.teacher_temperature > 0.0:
            raise UserError(f"--finetune.teacher_temperature must be above 0, found {self.teacher_temperature}.")

    @property
    def has_learnt(self) -> bool:
        """Whether there is something in the encoder that a linear probe can read."""
        return bool(self.encoder) and not self.scratch
