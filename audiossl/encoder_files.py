"""The folder of an encoder: config.json, model.safetensors and the model card README.md.

A folder is written beside its place and renamed into it, so that a reader finds the old one or the new one,
never half of each. Opening is strict: a weight that is missing or left over is an error, since a network that
keeps some of its random weights gives numbers that look right and are not.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

import audiossl
from audiossl.backbones import BackboneConfig
from audiossl.bag_config import BagConfig
from audiossl.encoder import AudioEncoder, EncoderConfig, Folder
from audiossl.errors import UserError
from audiossl.hub import fetch, looks_like_a_name
from audiossl.installed import REGISTRY, installed_models, pretrained_folder
from audiossl.model_card import model_card
from audiossl.reading import read_json
from audiossl.reading_tensors import read_safetensors
from audiossl.transforms import FrontEndConfig, Normalize, PatchesConfig
from audiossl.transforms.config import fingerprint_of
from audiossl.whole_folder import written_whole

FORMAT = 1  # of config.json: raised when an older audiossl could no longer read it rightly
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
T = TypeVar("T")


def describe(encoder: AudioEncoder, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Contents of config.json: all that the network is built from, and the facts of its training."""
    return {
        "library_name": "audiossl",
        "format": FORMAT,
        "sample_rate": encoder.sample_rate,
        "clip_s": encoder.clip_s,
        "image_size": list(encoder.image_size),
        "dim": encoder.dim,
        "frontend": encoder.config.frontend.to_dict(),
        "statistics_of": encoder.normalize.statistics_of,
        "backbone": asdict(encoder.config.backbone),
        **_described_bag(encoder.config),
        "versions": {
            "audiossl": audiossl.__version__,
            "torch": str(torch.__version__),
            "timm": timm.__version__,
        },
        "extra": dict(extra),
    }


def _described_bag(config: EncoderConfig) -> dict[str, Any]:
    return {} if config.bag is None else {"bag": asdict(config.bag), "patches": asdict(config.patches)}


def save(encoder: AudioEncoder, folder: Folder, card: str | None, extra: Mapping[str, Any]) -> None:
    """Write an encoder's folder, replacing an older one of an encoder; files of other names in it stay."""
    place = Path(os.path.abspath(folder))
    _check_replaceable(place)
    config = describe(encoder, extra)
    try:
        text = json.dumps(config, indent=2) + "\n"
    except TypeError as error:
        raise UserError(f"the facts for {place / CONFIG} cannot be written as JSON: {error}.") from None
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    with written_whole(place, (CONFIG, WEIGHTS, CARD)) as folder:
        (folder / CONFIG).write_text(text, encoding="utf-8")
        (folder / CARD).write_text(card or model_card(encoder, place.name, extra), encoding="utf-8")
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def _check_replaceable(place: Path) -> None:
    if place.is_dir():
        if any(place.iterdir()) and not (place / CONFIG).is_file():
            raise UserError(f"{place} holds files but no {CONFIG} of an encoder: choose another folder.")
    elif place.exists():
        raise UserError(f"{place} is a file: give a folder to write the encoder to.")


def open_folder(folder: Folder) -> AudioEncoder:
    """Open an encoder's folder; see `AudioEncoder.from_pretrained`."""
    place = Path(folder)
    if not (place / CONFIG).is_file():
        raise UserError(_no_encoder(place))
    config = _read_config(place / CONFIG)
    return _assemble(config, place / CONFIG, place / WEIGHTS)


def open_any(folder_or_name: Folder) -> AudioEncoder:
    """Open a folder or an installed model; see `audiossl.load_model`."""
    place, name = Path(folder_or_name), str(folder_or_name)
    if place.exists():
        return open_folder(place)
    models = installed_models()
    if name in models:
        return _assemble(models[name].config, pretrained_folder() / REGISTRY, models[name].weights)
    if looks_like_a_name(name):
        return open_folder(fetch(name))
    there = f"the installed models are {', '.join(models)}" if models else "no models are installed"
    raise UserError(f"there is no folder and no model {name!r}: {there}; a run keeps its encoder in RUN/encoder.")


def _no_encoder(place: Path) -> str:
    if not place.exists():
        return f"{place} does not exist: give the folder of an encoder."
    if not place.is_dir():
        return (
            f"{place} is not a folder: give the folder of an encoder, with {CONFIG} and {WEIGHTS}, or, if it is a file "
            "that EsViT's or BYOL-A's authors released, its arch as well, such as arch='swin_tiny' or 'audiontt_2020'."
        )
    if (place / "encoder" / CONFIG).is_file():
        return f"{place} is the folder of a run: give its encoder, {place / 'encoder'}."
    if (place / "classifier" / CONFIG).is_file():
        return f"{place} is the folder of a run: give its classifier, {place / 'classifier'}, or the encoder in there."
    return f"{place} holds no {CONFIG}: it is not the folder of an encoder."


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): the file is damaged.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings: the file is damaged.")
    return content


def _read_config(path: Path) -> dict[str, Any]:
    config = _read_json(path)
    if config.get("kind") == "classifier":
        raise UserError(f"{path.parent} is a classifier: give its encoder, {path.parent / 'encoder'}.")
    if config.get("library_name") != "audiossl":
        raise UserError(f"{path} does not describe an audiossl encoder (library_name is missing).")
    if config.get("format") != FORMAT:
        raise UserError(
            f"{path} is of format {config.get('format')}, audiossl {audiossl.__version__} reads {FORMAT}: "
            "install the version that wrote it."
        )
    return config


def _section(kind: type[T], config: Mapping[str, Any], key: str, path: Path) -> T:
    """Settings of one part; what is missing keeps its default, what is unknown is an error."""
    values = config.get(key)
    if not isinstance(values, dict):
        raise UserError(f"{path} has no section {key!r}: the file is damaged.")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    settings = {name: value for name, value in values.items() if name != "type"}
    for name, value in settings.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise UserError(f"{path} has an unknown setting {key}.{name}{hint}.")
        factory = known[name].default_factory
        default = known[name].default if factory is MISSING else factory()
        right = isinstance(value, type(default)) or (isinstance(default, float) and isinstance(value, int))
        right = right or (default is None and isinstance(value, str))  # a text that may be left out
        if not right:
            raise UserError(f"{path} has {key}.{name}={value!r}: expected a value like {default!r}.")
    try:
        return kind(**settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _frontend(config: Mapping[str, Any], path: Path) -> FrontEndConfig:
    """Settings of the front end, of the class that its type names."""
    values = config.get("frontend")
    known = FrontEndConfig.get_known_choices()
    if isinstance(values, dict) and values.get("type") not in list(known):  # in a list anything may be looked for
        raise UserError(f"{path} has frontend.type={values.get('type')!r}: expected one of {', '.join(known)}.")
    kind = known[values["type"]] if isinstance(values, dict) else FrontEndConfig
    return _section(kind, config, "frontend", path)


def _fingerprint_of_statistics(config: Mapping[str, Any], frontend: FrontEndConfig, path: Path) -> str | None:
    """Fingerprint of the front end for a folder's statistics, None where the folder does not say.

    The section counts as it stands in the file, too: a setting that a later audiossl adds, with a default that leaves
    the picture as it was, must not part an encoder from its statistics.
    """
    measured, present = config.get("statistics_of"), frontend.fingerprint()
    if measured is None:
        return None
    if measured not in (present, fingerprint_of(config["frontend"])):
        raise UserError(
            f"{path} has statistics_of={measured!r}, but its section 'frontend' has the fingerprint {present!r}: "
            "settings of the front end were changed after the picture's statistics were measured; restore them."
        )
    return present


def _assemble(config: Mapping[str, Any], path: Path, weights: Path) -> AudioEncoder:
    clip_s = config.get("clip_s")
    if not isinstance(clip_s, (int, float)):
        raise UserError(f"{path} has clip_s={clip_s!r}: expected the length of a clip in seconds.")
    encoder_config = EncoderConfig(
        _frontend(config, path),
        _section(BackboneConfig, config, "backbone", path),
        float(clip_s),
    )
    if "bag" in config:
        encoder_config.bag = _section(BagConfig, config, "bag", path)
        encoder_config.patches = _section(PatchesConfig, config, "patches", path)
    statistics_of = _fingerprint_of_statistics(config, encoder_config.frontend, path)
    tensors = _read_weights(weights)
    if not {"normalize.mean", "normalize.std"} <= tensors.keys():
        raise UserError(f"{weights} holds no statistics of the pictures (normalize.mean): it is not an encoder's.")
    try:
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced: leave the caller's draws alone
            normalize = Normalize(tensors["normalize.mean"], tensors["normalize.std"], statistics_of)
            n_weights = sum(tensor.numel() for tensor in tensors.values())
            encoder = AudioEncoder.build(encoder_config, normalize, n_weights)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # sizes that no memory holds, numbers that overflow
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} describes an encoder that cannot be built ({reason}): the file is damaged.") from None
    _load_strictly(encoder, tensors, weights)
    return encoder.eval()


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"{path} is missing: the folder of the encoder is incomplete.")
    try:
        return read_safetensors(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged or cut off ({error}): copy it again.") from None


def _load_strictly(encoder: AudioEncoder, tensors: Mapping[str, Tensor], path: Path) -> None:
    own = encoder.state_dict()
    for problem, names in (
        ("lacks", own.keys() - tensors.keys()),
        ("has unknown", tensors.keys() - own.keys()),
    ):
        if names:
            raise UserError(
                f"{path} {problem} {len(names)} of {len(own)} weights, such as {min(names)}: "
                f"it belongs to another network than {CONFIG} says."
            )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise UserError(
                f"{path} has {name} of shape {tuple(tensor.shape)}, the network of {CONFIG} needs "
                f"{tuple(own[name].shape)}."
            )
    encoder.load_state_dict(dict(tensors))
