"""The folder of a classifier: config.json, head.safetensors, README.md, and the folder of its encoder.

Written beside its place and renamed into it; opened strictly, as an encoder's is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

import audiossl
from audiossl.classifier import Classifier
from audiossl.encoder import AudioEncoder, Folder
from audiossl.errors import UserError
from audiossl.heads import ClassifierHead
from audiossl.model_card import classifier_card
from audiossl.reading import read_json
from audiossl.reading_tensors import read_safetensors
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
        content = read_json(place / CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def open_classifier(folder: Folder) -> Classifier:
    """Open a classifier's folder; see `Classifier.from_pretrained`."""
    place = Path(folder)
    if not _is_classifier(place):
        raise UserError(_no_classifier(place))
    config = read_json(place / CONFIG)
    if config.get("format") != FORMAT:
        raise UserError(
            f"{place / CONFIG} is of format {config.get('format')}, audiossl {audiossl.__version__} reads {FORMAT}: "
            "install the version that wrote it."
        )
    labels, several, unknown_below = (config.get(key) for key in ("labels", "multi_label", "unknown_below"))
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise UserError(f"{place / CONFIG} has labels={labels!r}: expected a list of names.")
    if not isinstance(several, bool) or not isinstance(unknown_below, int | float):
        raise UserError(f"{place / CONFIG} has no multi_label or unknown_below: the file is damaged.")
    encoder = AudioEncoder.from_pretrained(place / ENCODER)
    head = ClassifierHead(encoder.dim, len(labels))
    try:
        head.load_state_dict(read_safetensors(place / HEAD))
    except (OSError, ValueError) as error:
        raise UserError(f"{place / HEAD} is missing, damaged or cut off ({error}): copy it again.") from None
    except RuntimeError:
        raise UserError(
            f"{place / HEAD} does not fit: {CONFIG} has {len(labels)} labels and the encoder {encoder.dim} numbers."
        ) from None
    try:
        return Classifier(encoder, head, labels, several, float(unknown_below)).eval()
    except UserError as error:
        raise UserError(f"{place / CONFIG}: {error}") from None


def _no_classifier(place: Path) -> str:
    if not place.exists():
        return f"{place} does not exist: give the folder of a classifier (RUN/classifier)."
    if _is_classifier(place / KIND):
        return f"{place} is the folder of a run: give its classifier, {place / KIND}."
    if (place / CONFIG).is_file():
        return f"{place} is an encoder, and has no labels: fine-tune it (recipes/finetune.py) to get a classifier."
    return f"{place} holds no {CONFIG} of a classifier: give the folder RUN/classifier."
