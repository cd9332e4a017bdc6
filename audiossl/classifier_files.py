"""The folder of a classifier: config.json, head.safetensors, README.md, and the folder of its encoder.

Written beside its place and renamed into it; opened strictly, as an encoder's is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import audiossl
from audiossl.classifier import Classifier
from audiossl.encoder import AudioEncoder, Folder
from audiossl.errors import UserError
from audiossl.heads import ClassifierHead
from audiossl.model_card import classifier_card
from audiossl.whole_folder import written_whole

FORMAT = 1
CONFIG, HEAD, CARD, ENCODER = "config.json", "head.safetensors", "README.md", "encoder"
KIND = "classifier"


def save(classifier: Classifier, folder: Folder, extra: Mapping[str, Any]) -> None:
    """Write a classifier's folder in place of an older one of a classifier."""
    place = Path(os.path.abspath(folder))
    if place.exists() and not _is_classifier(place) and not (place.is_dir() and not any(place.iterdir())):
        raise UserError(f"{place} holds something else than a classifier: choose another folder.")
    config = {
        "library_name": "audiossl",
        "kind": KIND,
        "format": FORMAT,
        "labels": classifier.labels,
        "multi_label": classifier.multi_label,
        "unknown_below": classifier.unknown_below,
        "sample_rate": classifier.sample_rate,
        "clip_s": classifier.clip_s,
        "versions": {"audiossl": audiossl.__version__},
        "extra": dict(extra),
    }
    try:
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    except TypeError as error:
        raise UserError(f"the facts for {place / CONFIG} cannot be written as JSON: {error}.") from None
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.head.state_dict().items()}
    with written_whole(place, (CONFIG, HEAD, CARD, ENCODER)) as beside:
        classifier.encoder.save_pretrained(beside / ENCODER, extra=dict(extra))
        save_file(tensors, beside / HEAD)
        (beside / CONFIG).write_text(text, encoding="utf-8")
        (beside / CARD).write_text(classifier_card(classifier, place.name, extra), encoding="utf-8")


def _is_classifier(place: Path) -> bool:
    try:
        return json.loads((place / CONFIG).read_text(encoding="utf-8")).get("kind") == KIND
    except (OSError, ValueError, AttributeError):
        return False


def open_classifier(folder: Folder) -> Classifier:
    """Open a classifier's folder; see `Classifier.from_pretrained`."""
    place = Path(folder)
    if not _is_classifier(place):
        raise UserError(_no_classifier(place))
    config = json.loads((place / CONFIG).read_text(encoding="utf-8"))
    if config.get("format") != FORMAT:
        raise UserError(
            f"{place / CONFIG} is of format {config.get('format')}, audiossl {audiossl.__version__} reads {FORMAT}: "
            "install the version that wrote it."
        )
    encoder = AudioEncoder.from_pretrained(place / ENCODER)
    labels = config.get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise UserError(f"{place / CONFIG} has labels={labels!r}: expected a list of names.")
    head = ClassifierHead(encoder.dim, len(labels))
    try:
        head.load_state_dict(load_file(place / HEAD))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{place / HEAD} is missing, damaged or cut off ({error}): copy it again.") from None
    except RuntimeError:
        raise UserError(
            f"{place / HEAD} does not fit: {CONFIG} has {len(labels)} labels and the encoder {encoder.dim} numbers."
        ) from None
    classifier = Classifier(encoder, head, labels, bool(config["multi_label"]), float(config["unknown_below"]))
    return classifier.eval()


def _no_classifier(place: Path) -> str:
    if not place.exists():
        return f"{place} does not exist: give the folder of a classifier (RUN/classifier)."
    if _is_classifier(place / KIND):
        return f"{place} is the folder of a run: give its classifier, {place / KIND}."
    if (place / CONFIG).is_file():
        return f"{place} is an encoder, and has no labels: fine-tune it (recipes/finetune.py) to get a classifier."
    return f"{place} holds no {CONFIG} of a classifier: give the folder RUN/classifier."
