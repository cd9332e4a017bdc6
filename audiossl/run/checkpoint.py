"""Checkpoints: written beside and renamed, the last few and the best kept, refused by another configuration.

A checkpoint is a folder `checkpoints/epoch-EEEE_batch-BBBBB`, named by the place where training goes on, with
`state.pt` (tensors and plain values; read with `weights_only`, so that nothing in it can run code) and
`position.json` (the place and the scores, for people too).
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from audiossl.config import flatten
from audiossl.errors import UserError
from audiossl.reading import read_json, read_yaml
from audiossl.reading_tensors import are_plain, read_safetensors, read_torch
from audiossl.run import files
from audiossl.run.config import AFTER_TRAINING, MAY_CHANGE

# Kinds of the parts of a state, where they are there.
PARTS: dict[str, type] = {
    "models": list,
    "optimizers": list,
    "scaler": dict,
    "config": dict,
    "recorder": dict,
    "rng": list,
}


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a checkpoint goes on: the next micro-batch."""

    epoch: int = 0
    batch: int = 0  # micro-batches of this epoch that are done, per process
    step: int = 0  # optimiser steps that are done, over all epochs
    batches_per_epoch: int = 0  # 0: not known yet
    processes: int = 1
    seconds: float = 0.0  # time so far, all parts of the run together
    monitors: dict[str, float] = dataclasses.field(default_factory=dict)  # at the end of an epoch
    skipped: int = 0  # optimiser steps that were left out since they were not finite


class Checkpoints:
    """The `checkpoints/` folder of a run.

    Args:
        folder: made when the first checkpoint is written.
        keep: how many of the last checkpoints stay.
        best: name of the monitor whose highest value marks one more that stays.
    """

    def __init__(self, folder: Path, keep: int, best: str) -> None:
        self.folder, self.keep, self.best = folder, keep, best

    def all(self) -> list[Path]:
        """Complete checkpoints, the furthest last."""
        return sorted((path.parent for path in self.folder.glob("epoch-*_batch-*/position.json")), key=_place)

    def latest(self) -> Path | None:
        """The checkpoint that is furthest, or None."""
        return next(reversed(self.all()), None)

    def best_one(self) -> Path | None:
        """The checkpoint with the highest `best` monitor, or None; of equal ones the earlier."""
        scores = [(read_position(path).monitors.get(self.best), path) for path in self.all()]
        known = [(score, path) for score, path in scores if score is not None and score == score]
        return max(known, key=lambda pair: pair[0])[1] if known else None

    def best_weights(self) -> tuple[dict[str, Any] | None, float | None]:
        """Weights of the method in the best checkpoint, and the monitor's value there; two None without one."""
        path = self.best_one()
        if path is None:
            return None, None
        (weights,) = read_state(path)["models"]
        return weights, read_position(path).monitors[self.best]

    def tidy(self) -> None:
        """Clear away what a kill in the middle of a write has left; a run that is resumed calls it, and nobody else."""
        for old in self.folder.glob(".epoch-*_batch-*.old"):
            target = self.folder / old.name[1:].removesuffix(".old")
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(old, target)  # killed between the two renames of `_rename`
        for pattern in (".epoch-*_batch-*.part", ".epoch-*_batch-*.removed"):
            for half in self.folder.glob(pattern):
                shutil.rmtree(half, ignore_errors=True)

    def save(self, state: dict[str, Any], position: Position) -> Path:
        """Write a checkpoint, then remove those that are no longer kept.

        Raises `UserError` when the disk is full or the folder cannot be written; earlier ones stay untouched.
        """
        target = self.folder / f"epoch-{position.epoch:04d}_batch-{position.batch:05d}"
        beside = self.folder / f".{target.name}.part"
        try:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            with open(beside / "state.pt", "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            with open(beside / "position.json", "w", encoding="utf-8") as text:
                json.dump(dataclasses.asdict(position), text, indent=1)
                text.flush()
                os.fsync(text.fileno())
            self._rename(beside, target)
        except (OSError, RuntimeError) as error:  # torch's zip writer may make a RuntimeError of a full disk
            shutil.rmtree(beside, ignore_errors=True)
            raise UserError(self._not_written(target, error)) from error
        self._prune()
        return target

    def _rename(self, beside: Path, target: Path) -> None:
        old = self.folder / f".{target.name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():  # the same place reached twice, after a resume
            os.replace(target, old)
        os.replace(beside, target)
        shutil.rmtree(old, ignore_errors=True)

    def _not_written(self, target: Path, error: BaseException) -> str:
        last = self.latest()
        free = shutil.disk_usage(self.folder).free if self.folder.exists() else 0
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        kept = f"the last good one is {last}" if last else "there is no earlier one"
        return (
            f"the checkpoint {target} could not be written ({reason}, {free / 1e9:.1f} GB free): {kept}; "
            "make room on that disk and go on with --run.resume."
        )

    def superfluous(self) -> list[Path]:
        """Checkpoints that are neither among the last `keep` nor the best."""
        kept = {*self.all()[-self.keep :], self.best_one()}
        return [path for path in self.all() if path not in kept]

    def remove(self, path: Path) -> None:
        """Remove a checkpoint; its name first, so that a kill leaves no half of one that nobody clears away."""
        removed = self.folder / f".{path.name}.removed"
        shutil.rmtree(removed, ignore_errors=True)
        os.replace(path, removed)
        shutil.rmtree(removed, ignore_errors=True)

    def _prune(self) -> None:
        for path in self.superfluous():
            self.remove(path)


def _place(path: Path) -> tuple[list[int], str]:
    """What checkpoints are sorted by: a long run's numbers have more digits than the name makes room for."""
    return [int(number) for number in re.findall(r"\d+", path.name)], path.name


def read_position(path: Path) -> Position:
    """The place of a checkpoint; raises `UserError` when its file is damaged."""
    try:
        position = Position(**read_json(path / "position.json"))
        for field in dataclasses.fields(Position):
            value, kind = getattr(position, field.name), type(field.default)
            right = isinstance(value, int | float) and value >= 0 if kind in (int, float) else isinstance(value, dict)
            if not right or (kind is int and not isinstance(value, int)):
                raise ValueError(f"{field.name} is {value!r}")
        if not all(isinstance(value, int | float) or value is None for value in position.monitors.values()):
            raise ValueError(f"monitors are {position.monitors!r}")
        return position
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path / 'position.json'} is damaged ({error}); remove {path} to resume from an earlier one."
        ) from None


def read_state(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU.

    Raises `UserError` when the file is damaged, or holds objects other than tensors and plain values.
    """
    try:
        state = read_torch(path / "state.pt", checked=True)
        if not isinstance(state, dict) or "models" not in state:
            raise ValueError("it holds no state of a run")
        odd = [name for name, kind in PARTS.items() if name in state and not isinstance(state[name], kind)]
        if odd:
            raise ValueError(f"its part {odd[0]} is a {type(state[odd[0]]).__name__}")
        return state
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path / 'state.pt'} cannot be read ({error}); remove {path} to resume from an earlier one."
        ) from None


def checkpoints_of_run(folder: str | os.PathLike[str], keep: int) -> Checkpoints:
    """The checkpoints of a run's folder, the best by the run's own monitor; raises `UserError` when it is no run."""
    config = Path(folder) / files.CONFIG
    if not config.is_file():
        raise UserError(f"{folder} is not the folder of a run: it has no {files.CONFIG}.")
    try:
        settings = read_yaml(config)
    except (OSError, ValueError) as error:
        raise UserError(f"{config} cannot be read ({error}): it is not a run's.") from None
    run = settings.get("run") if isinstance(settings, dict) else None
    best = run.get("best", "") if isinstance(run, dict) else ""
    return Checkpoints(Path(folder) / files.CHECKPOINTS, keep, str(best))


def weights_of_run(folder: str | os.PathLike[str], flag: str = "--run.start_from") -> dict[str, Any]:
    """The method's weights in the last checkpoint of a run, for another run to begin from; `flag` names the folder.

    The folder may also be that of an encoder, such as `RUN/encoder` or one made of a released file: the backbone's
    weights are then those of `backbone.*`.

    Raises `UserError` when the folder holds neither, or a damaged one.
    """
    encoder = Path(folder) / "model.safetensors"
    if encoder.is_file():
        try:
            return dict(read_safetensors(encoder))
        except (OSError, ValueError) as error:
            raise UserError(f"{flag} {folder}: {encoder.name} is damaged ({error}); copy it again.") from None
    path = Checkpoints(Path(folder) / files.CHECKPOINTS, keep=1, best="").latest()
    if path is None:
        raise UserError(f"{flag} {folder}: there is no checkpoint in it; name the folder of a run, or of an encoder.")
    models = read_state(path)["models"]
    if not isinstance(models, list) or len(models) != 1 or not are_plain(models[0]):
        raise UserError(f"{flag} {folder}: {path / 'state.pt'} holds no weights of one model; name another run.")
    return models[0]


def refuse_other_setting(folder: str | os.PathLike[str], flag: str, name: str, value: Any) -> None:
    """Raise `UserError` when the run or encoder that `flag` names had another setting `name` (`section.field`).

    For what its weights do not show. A folder that says nothing of it is not refused.
    """
    section, field = name.split(".")
    for read, file in ((read_yaml, files.CONFIG), (read_json, "config.json")):
        try:
            found = read(Path(folder) / file)[section][field]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if found != value:
            raise UserError(f"{flag} {folder} was trained with --{name} {found}: give that, in place of {value}.")


def refuse_other_processes(place: Position, processes: int, path: Path) -> None:
    """Raise `UserError` when another number of processes wrote the checkpoint: each has its own random states."""
    if place.processes != processes:
        raise UserError(
            f"--run.resume: {path} was written by {place.processes} process(es) and now there are "
            f"{processes}; launch with --num_processes {place.processes}."
        )


def refuse_another(saved: dict[str, Any], config: Any, new_epochs: bool, path: Path) -> list[str]:
    """Compare the configuration in a checkpoint with the one at hand.

    Gives a note on each difference that is allowed; raises `UserError` naming those that are not.
    """
    before, now = flatten(saved), flatten(config)
    changed = [key for key in {**before, **now} if before.get(key, "absent") != now.get(key, "absent")]
    allowed = MAY_CHANGE | AFTER_TRAINING | ({"run.epochs"} if new_epochs else set())
    refused = [key for key in changed if key not in allowed]
    if refused:
        listed = ", ".join(f"--{key} {now.get(key, 'absent')} (was {before.get(key, 'absent')})" for key in refused)
        hint = ", or add --run.new_epochs" if refused == ["run.epochs"] else ""
        raise UserError(
            f"--run.resume: {path} was written with another configuration: {listed}; give the same values "
            f"or another --run.out{hint}."
        )
    silent = {"run.resume", "run.new_epochs", "run.quiet"}
    return [f"{key} is now {now.get(key)} (was {before.get(key)})" for key in changed if key not in silent]
