"""Supervised learning on the same views: what the network gives when it is told the labels.

The upper row beside self-supervised networks of the same size, and a classifier that can be used. Cross-entropy with
label smoothing (Szegedy et al., 2016) over all views of a clip; a view that shows another clip as well answers to the
labels of both, in the shares that it shows (mixup: Zhang et al., 2018; cutmix: Yun et al., 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.backbones import Backbone
from audiossl.bag import BagOfPatches
from audiossl.errors import UserError
from audiossl.heads import ClassifierHead
from audiossl.methods.output import Output, passes
from audiossl.transforms.views import Views


@dataclass
class SupervisedConfig:
    """Settings of the classifier and of the labels that it learns from."""

    # Share of the target that is spread over all labels (Szegedy et al., 2016: 0.1).
    label_smoothing: float = 0.1
    # Dropout before the linear head.
    dropout: float = 0.0
    # none: every clip counts the same. balanced: every label does, whatever the number of its clips.
    class_weights: Literal["none", "balanced"] = "none"
    # Learn from so many labelled clips a class, drawn by --run.seed; 0 takes all. An epoch keeps its length.
    labels_per_class: int = 0
    # Or from this share of the labelled clips of every class, at least one, drawn by --run.seed: 0.01 for 1 %.
    label_share: float = 1.0
    # A clip may have several labels, or none of them: what stands between separators, as in "rain;wind". Each label is
    # then a question of its own (binary cross-entropy), and --method.label_separator says what parts them.
    multi_label: bool = False
    label_separator: str = ";"

    def __post_init__(self) -> None:
        """Raise `UserError` for values that the method has no meaning for."""
        for name in ("label_smoothing", "dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"--method.{name} must be from 0 to below 1, found {getattr(self, name)}.")
        if self.class_weights not in ("none", "balanced"):
            raise UserError(f"--method.class_weights must be none or balanced, found {self.class_weights!r}.")
        if self.labels_per_class < 0:
            raise UserError(
                f"--method.labels_per_class is {self.labels_per_class}; give a number of clips, or 0 for all."
            )
        if not 0.0 < self.label_share <= 1.0:
            raise UserError(f"--method.label_share is {self.label_share}; give a share above 0, and 1 for all.")
        if self.labels_per_class and (self.label_share < 1.0 or self.multi_label):
            raise UserError(
                "--method.labels_per_class goes with neither --method.label_share nor multi_label: leave it."
            )
        if not self.label_separator:
            raise UserError("--method.label_separator is empty: give the character between the labels of a clip.")


class Supervised(nn.Module):
    """A backbone and a linear head with dropout over its features, trained by cross-entropy.

    Args:
        backbone: the network.
        n_classes: number of labels, which count from 0.
        config: see `SupervisedConfig`.
        class_weights: (n_classes,), how much a clip of each label counts; see `balanced_weights`, and for clips of
            several labels `positive_weights`. None: all the same.
        frontend: the front end that the views come from, if it is to be learned: its parameters then belong to the
            method, so that they are optimised, wrapped and saved with the rest.

    Shape: `Views` and labels to `Output`: (B,) int64, or (B, n_classes) float, how much of each label a clip has,
    which is 0 or 1 with `config.multi_label`, and else the shares of labels that a teacher gave.

    Raises UserError for fewer than two classes.

    >>> from audiossl.backbones import BackboneConfig, build_backbone
    >>> method = Supervised(build_backbone(BackboneConfig("swin_micro"), (32, 32)), 3, SupervisedConfig())
    >>> views = Views([torch.randn(2 * 4, 1, 32, 32)], torch.zeros(2, 4, 4))
    >>> out = method(views, torch.tensor([0, 1, 2, 0]))
    >>> out.loss.shape, sorted(out.logs)
    (torch.Size([]), ['loss', 'passes', 'training_accuracy'])
    """

    class_weights: Tensor | None

    def __init__(
        self,
        backbone: Backbone | BagOfPatches,
        n_classes: int,
        config: SupervisedConfig,
        class_weights: Tensor | None = None,
        frontend: nn.Module | None = None,
    ):
        super().__init__()
        if n_classes < 2:
            raise UserError(f"a classifier needs two labels or more, found {n_classes}: give clips of several labels.")
        self.config, self.n_classes = config, n_classes
        self.frontend = frontend
        self.backbone = backbone
        self.head = ClassifierHead(backbone.feature_dim, n_classes, config.dropout)
        # Counted from the clips at every start, so no part of a checkpoint.
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, views: Views, labels: Tensor) -> Output:
        """Loss of a batch of views, and the share of them in percent whose label comes out first."""
        logits = torch.cat([self.head(self.backbone(group).features) for group in views.images])
        targets = self.targets(views, labels).flatten(0, 1)
        with torch.autocast(logits.device.type, enabled=False):
            loss = self._losses(logits.float(), targets).mean()
        if self.config.multi_label:
            hits = (logits.detach() > 0) == (targets > 0.5)
        else:
            hits = logits.detach().argmax(1) == targets.argmax(1)
        logs = {"loss": loss.detach(), "training_accuracy": 100.0 * hits.float().mean()}
        logs["passes"] = passes(views.images, len(labels), self.backbone.image_size)
        return Output(loss, logs)

    def _losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of every view (V B,)."""
        smoothing = self.config.label_smoothing
        if self.config.multi_label:
            wanted = targets * (1 - smoothing) + smoothing / 2
            losses = functional.binary_cross_entropy_with_logits(
                logits, wanted, pos_weight=self.class_weights, reduction="none"
            )
            return losses.sum(1)
        losses = functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
        if self.class_weights is not None:
            # Divided by the number of views and not by the sum of their weights, which on average is the same: the
            # mean over processes is then the mean over all of their clips.
            losses = losses * (targets @ self.class_weights)
        return losses

    def targets(self, views: Views, labels: Tensor) -> Tensor:
        """What each view shows of each label, (V, B, n_classes), before smoothing."""
        shown = labels if labels.ndim == 2 else functional.one_hot(labels, self.n_classes).float()
        if views.mixing is None:
            return shown.expand(len(views.boxes), -1, -1)
        share = torch.cat([share.mean((2, 3)) for share in views.mixing.shares])[..., None]
        return torch.lerp(shown.expand(len(share), -1, -1), shown[views.mixing.partner], share)

    def start_from(self, state: dict[str, Tensor]) -> None:
        """Begin with the weights of another run, of this method or of another: with what that one keeps.

        The backbone (and a learned front end) must fit; a head is taken over where it has as many labels, and stays
        as it was made elsewhere. So a network that learned without labels is fine-tuned with few.

        Args:
            state: the `state_dict` of that run's method.

        Raises UserError when a tensor of the backbone is missing or of another shape.
        """
        # BYOL, which has a predictor, keeps its student, and EsViT its teacher.
        branch = "student." if any(name.startswith("predictor.") for name in state) else "teacher."
        kept = {
            name.removeprefix(branch): value for name, value in state.items() if name.startswith(f"{branch}backbone.")
        }
        known, own = {**state, **kept}, self.state_dict()
        fits = {name: value for name, value in known.items() if name in own and value.shape == own[name].shape}
        other = [name for name in own if name not in fits and not name.startswith("head.")]
        if other:
            raise UserError(
                f"--run.start_from: its weights lack {len(other)} tensors, or have them in other shapes "
                f"({', '.join(other[:3])}{' ...' if len(other) > 3 else ''}): give both runs the same backbone and "
                "front end."
            )
        self.load_state_dict({**own, **fits})

    @property
    def encoder(self) -> Backbone | BagOfPatches:
        """The part that is kept: the backbone, without its head."""
        return self.backbone


def balanced_weights(labels: Tensor, n_classes: int) -> Tensor:
    """Weights (n_classes,) with which all labels among `labels` (N,) count the same; their mean over clips is 1.

    A label without a clip gets 0: it is never asked for.

    >>> balanced_weights(torch.tensor([0, 0, 0, 1]), 2)
    tensor([0.6667, 2.0000])
    """
    counts = torch.bincount(labels, minlength=n_classes).float()
    return torch.where(counts > 0, len(labels) / (counts.clamp(min=1.0) * (counts > 0).sum()), 0.0)


def positive_weights(table: Tensor) -> Tensor:
    """Weights (K,) with which the clips that have a label count as much as those without it, of a `table` (N, K).

    >>> positive_weights(torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]))
    tensor([2.0000, 0.5000])
    """
    positive = table.sum(0)
    return torch.where(positive > 0, (len(table) - positive) / positive.clamp(min=1.0), 1.0)
