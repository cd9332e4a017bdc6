"""The classifier: wave in, probabilities of labels out. What a fine-tuning run keeps.

It is an encoder with a head, and knows the names of its labels. Its folder holds the encoder's own folder, so that
everything that opens an encoder opens that too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from audiossl.encoder import AudioEncoder, Folder
from audiossl.errors import UserError
from audiossl.heads import ClassifierHead


class Classifier(nn.Module):
    """An encoder and a head over its features: wave (B, S) -> scores (B, K) of labels.

    Args:
        encoder: of the sounds.
        head: over its features.
        labels: K names.
        multi_label: a sound may have several labels, or none: every label has a probability of its own.
        unknown_below: what has no label of at least this probability is called unknown; 0 for never.

    Attributes: sample_rate (Hz), n_samples and clip_s, the length that it was trained on, and dim, which is K.
    Raises UserError when there is not one name for every score, or a name stands twice.

    >>> import torch
    >>> from audiossl.encoder import EncoderConfig
    >>> encoder = AudioEncoder.build(EncoderConfig()).eval()
    >>> words = Classifier(encoder, ClassifierHead(encoder.dim, 2), ["yes", "no"]).eval()
    >>> words.probabilities(torch.zeros(3, 16000)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        encoder: AudioEncoder,
        head: ClassifierHead,
        labels: Sequence[str],
        multi_label: bool = False,
        unknown_below: float = 0.0,
    ):
        super().__init__()
        if len(labels) != head.linear.out_features or len(set(labels)) < len(labels):
            raise UserError(f"a head of {head.linear.out_features} scores needs as many labels, found {list(labels)}.")
        if not 0.0 <= unknown_below < 1.0:
            raise UserError(f"unknown_below is {unknown_below}: give a probability from 0 to below 1.")
        self.encoder, self.head = encoder, head
        self.labels, self.multi_label, self.unknown_below = list(labels), multi_label, unknown_below
        self.sample_rate, self.clip_s, self.n_samples = encoder.sample_rate, encoder.clip_s, encoder.n_samples
        self.dim = len(self.labels)

    def forward(self, wave: Tensor) -> Tensor:
        """Scores (B, K), before softmax or sigmoid, of waves (B, S), int16 or floats in [-1, 1] at `sample_rate`."""
        return self.head(self.encoder(wave))

    def probabilities(self, wave: Tensor) -> Tensor:
        """Probabilities (B, K) of waves (B, S): of one label among all, or with `multi_label` of each."""
        return self.as_probabilities(self(wave))

    def as_probabilities(self, scores: Tensor) -> Tensor:
        """Probabilities (B, K) of scores (B, K)."""
        return scores.sigmoid() if self.multi_label else scores.softmax(1)

    def predict(self, inputs: Any, sample_rate: int | None = None, **settings: Any) -> Any:
        """Name sounds; see `audiossl.predict.predict`, whose settings these are.

        Example:
            classifier = audiossl.load_classifier("runs/words/classifier")
            classifier.predict("a_clip.wav").table[0]  # {'file': 'a_clip.wav', ..., 'label': 'yes', ...}
        """
        from audiossl.predict import predict

        return predict(inputs, self, sample_rate, **settings)

    def save_pretrained(self, folder: Folder, extra: dict[str, Any] | None = None) -> None:
        """Write config.json, head.safetensors, README.md and encoder/ into `folder`, all at once or not at all.

        extra: facts of the training and the scores (JSON), kept in config.json and shown in the card. Raises UserError
        when the folder holds something else.
        """
        from audiossl.classifier_files import save

        save(self, folder, extra or {})

    @classmethod
    def from_pretrained(cls, folder: Folder) -> Classifier:
        """Open a classifier's folder, in eval mode on the CPU; raises UserError when a file is missing or damaged."""
        from audiossl.classifier_files import open_classifier

        return open_classifier(folder)


def load_classifier(folder: Folder) -> Classifier:
    """Open the folder of a classifier (RUN/classifier), in eval mode on the CPU.

    Raises UserError, saying what there is, when it is none.
    """
    return Classifier.from_pretrained(folder)
