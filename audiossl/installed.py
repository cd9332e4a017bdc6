"""The models that come with audiossl, known by name: their settings, weights and cards in `audiossl.pretrained`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from audiossl.errors import UserError
from audiossl.reading import read_json

DEFAULT_MODEL = "words"  # what `audiossl.load_model()` opens
REGISTRY = "registry.json"


@dataclass(frozen=True)
class InstalledModel:
    """A model of the registry.

    Attributes: config, as an encoder's config.json; weights and card, files.
    """

    name: str
    about: str
    config: dict[str, Any]
    weights: Path
    card: Path


def pretrained_folder() -> Path:
    """The installed folder `audiossl.pretrained`."""
    return Path(str(resources.files("audiossl.pretrained")))


def installed_models(folder: Path | None = None) -> dict[str, InstalledModel]:
    """All of them by name, the default first; raises `UserError` when the installation is damaged.

    >>> DEFAULT_MODEL in installed_models()
    True
    """
    folder = folder or pretrained_folder()
    if not (folder / REGISTRY).is_file():
        return {}
    try:
        entries = read_json(folder / REGISTRY)
        found = {
            name: InstalledModel(
                name,
                str(entry["about"]),
                dict(entry["config"]),
                folder / "weights" / f"{name}.safetensors",
                folder / "cards" / f"{name}.md",
            )
            for name, entry in entries.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{folder / REGISTRY} cannot be read ({error!r}): install audiossl again.") from None
    return dict(sorted(found.items(), key=lambda item: (item[0] != DEFAULT_MODEL, item[0])))
