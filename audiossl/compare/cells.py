"""The cells of a comparison: one run of a recipe each, and the flags that it is called with."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import itertools
import json
import re
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from audiossl.compare.config import METHODS, OWN_NETWORK, CompareConfig
from audiossl.config import flatten, parse
from audiossl.data.config import DataConfig
from audiossl.errors import UserError
from audiossl.reading import read_yaml
from audiossl.run.config import MAY_CHANGE
from audiossl.transforms.config import FrontEndConfig

FOURIER_HOP = 334  # of the small presets at 16 kHz: 48 frames a second
PRESET_RATE = 16000
STFT_WINDOW_S = (
    0.016  # 124 rows up to 7,800 Hz: at the default 64 ms a picture has 496, fifteen times as many as the others
)
NYQUIST_SHARE = 0.975  # where the highest band ends: 7,800 Hz at 16 kHz


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training of a comparison. `fold` is the folder of its lists, None where the data set's own split counts."""

    method: str
    frontend: str
    backbone: str
    seed: int
    fold: Path | None
    flags: tuple[str, ...]  # of the recipe, but for the length of the run and its folder

    @property
    def row(self) -> tuple[str, str, str]:
        """What the cells of one row of the table have in common."""
        return self.method, self.frontend, self.backbone

    @property
    def recipe(self) -> Path:
        """File of the recipe."""
        module = importlib.import_module(f"audiossl.recipes.{METHODS[self.method].recipe}")
        return Path(str(module.__file__))

    def settings(self, *flags: str) -> Any:
        """The recipe's configuration as the recipe reads it; raises UserError for flags that it does not know."""
        module = importlib.import_module(f"audiossl.recipes.{METHODS[self.method].recipe}")
        return parse(module.Config, self.recipe.stem, [*self.flags, *flags], preset="small")

    def folder(self, out: Path, epochs: int) -> Path:
        """Folder of the run: readable, and other settings have another one."""
        key = self._key(MAY_CHANGE, "--run.epochs", str(epochs))
        parts = [*self.row, f"seed{self.seed}", *([self.fold.name] if self.fold else []), key]
        return out / "cells" / _file_name(parts)

    def setting(self) -> str:
        """Name of what all seeds and folds of a row share: their speed is one."""
        return _file_name([*self.row, self._key(MAY_CHANGE | {"run.seed", "run.epochs", "data.lists"})])

    def _key(self, without: Collection[str], *flags: str) -> str:
        """Hash of all settings of the training but those that are named."""
        flat = flatten(self.settings(*flags))
        kept = {key: value for key, value in flat.items() if key not in without and not key.startswith("probe.")}
        return hashlib.blake2b(json.dumps(kept, sort_keys=True).encode(), digest_size=4).hexdigest()


def _file_name(parts: Iterable[str]) -> str:
    """Parts of a name in one that every file system takes."""
    return re.sub(r"[^\w.-]+", "_", "-".join(parts))


def all_cells(config: CompareConfig, folds: list[Path]) -> list[Cell]:
    """All cells of a comparison in the order in which they are run: every row's first seed before any second.

    Raises UserError for flags that a recipe does not know, before anything has run.
    """
    own = own_flags(config)
    cells, seen = [], set()
    places: list[Path | None] = [*folds] or [None]
    grid = itertools.product(config.seeds, places, config.methods, config.frontends, config.backbones)
    for seed, fold, method, frontend, backbone in grid:
        if method in OWN_NETWORK:
            frontend, backbone = "own", "own"
        key = (seed, fold, method, frontend, backbone)
        if key in seen:
            continue
        seen.add(key)
        flags = recipe_flags(config, method, frontend, backbone, fold)
        flags += [*shlex.split(config.flags), *own.get(frontend, []), *own.get(method, []), "--run.seed", str(seed)]
        cells.append(Cell(method, frontend, backbone, seed, fold, tuple(flags)))
    for cell in {cell.row: cell for cell in cells}.values():
        cell.settings()
    return cells


def own_flags(config: CompareConfig) -> dict[str, list[str]]:
    """Flags of single methods and front ends, from the file of `--settings`; raises UserError for another form."""
    if config.settings is None:
        return {}
    path = Path(config.settings)
    try:
        content = read_yaml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"--settings {path} cannot be read ({error}).") from None
    if not isinstance(content, dict) or not all(isinstance(flags, str) for flags in content.values()):
        raise UserError(f"--settings {path} must have lines such as byol: --optim.lr 0.002 --views.fader 1.")
    known = [*METHODS, *FrontEndConfig.get_known_choices()]
    unknown = [name for name in content if name not in known]
    if unknown:
        raise UserError(f"--settings {path} has {unknown[0]!r}: choose from {', '.join(known)}.")
    try:
        return {name: shlex.split(flags) for name, flags in content.items()}
    except ValueError as error:
        raise UserError(f"--settings {path} has flags that cannot be split into words ({error}).") from None


def recipe_flags(config: CompareConfig, method: str, frontend: str, backbone: str, fold: Path | None) -> list[str]:
    """What a recipe is told so that all learn from the same clips, pictures and networks."""
    known = METHODS[method]
    flags = ["--preset", known.preset, *_data_flags(config.data, fold)]
    if method not in OWN_NETWORK:
        flags += [*_picture_flags(config.data, frontend), "--backbone.name", backbone]
        if backbone.startswith("resnet"):
            flags += ["--backbone.stages", "3", "--backbone.zero_init", "false"]
        else:
            flags += ["--backbone.stages", "0", "--backbone.zero_init", "true"]
    return [*flags, *_view_flags(config.data, known.recipe), *known.flags]


def _data_flags(data: DataConfig, fold: Path | None) -> list[str]:
    """Every field of the data set that is not at its default."""
    flags: list[str] = []
    for field in dataclasses.fields(DataConfig):
        value = getattr(data, field.name)
        if field.name == "lists" and fold is not None:
            value = str(fold)
        if value != field.default:
            flags += [f"--data.{field.name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return flags


def _picture_flags(data: DataConfig, frontend: str) -> list[str]:
    """The front end at the clips' rate, with as many frames a second as the small presets have."""
    flags = ["--frontend.type", frontend]
    if frontend == "stft":
        window = str(2 * round(STFT_WINDOW_S * data.sample_rate / 2))
        flags += ["--frontend.n_fft", window, "--frontend.win_length", window]
    if data.sample_rate != PRESET_RATE:
        hop = round(FOURIER_HOP * data.sample_rate / PRESET_RATE)
        flags += ["--frontend.sample_rate", str(data.sample_rate), "--frontend.hop_length", str(hop)]
        kinds = FrontEndConfig.get_known_choices()  # the recipe names them for a type that is none of them
        f_max = getattr(kinds[frontend], "f_max", None) if frontend in kinds else None
        if f_max is not None and f_max > NYQUIST_SHARE * data.sample_rate / 2:
            flags += ["--frontend.f_max", f"{NYQUIST_SHARE * data.sample_rate / 2:g}"]
    return flags


def _view_flags(data: DataConfig, recipe: str) -> list[str]:
    """Views as long as the clips, or half as long, as the presets have them for a second."""
    if data.clip_s == 1.0:
        return []
    clip, half = f"{data.clip_s:g}", f"{data.clip_s / 2:g}"
    if recipe.startswith("emp_ssl"):
        return ["--views.patch_s", half]
    if recipe.startswith(("byol", "contrastive")):
        return ["--views.view_s", clip]
    return ["--views.global_s", clip, "--views.local_s", half]
