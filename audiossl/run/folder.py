"""The run folder: refused when it is in use, described by `config.yaml` and `environment.txt`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from audiossl import config as config_files
from audiossl.errors import UserError
from audiossl.run import environment, files

# What a run has written when its data cannot be found: the corrected command may use the folder again.
BEFORE_TRAINING = {files.CONFIG, files.ENVIRONMENT, files.LINEAR_PROBE, "tensorboard"}


def claim(out: Path, resume: bool) -> None:
    """Make the folder; raises `UserError` when it cannot be written, or is in use and not resumed."""
    probe = out / f".writable-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--run.out {out} cannot be written ({error.strerror}); name another folder.") from None
    if not resume and any(path.name not in BEFORE_TRAINING for path in out.iterdir()):
        raise UserError(
            f"--run.out {out} is not empty: go on with the run there by --run.resume, or name another folder."
        )


def describe(out: Path, config: Any, facts: dict[str, str]) -> None:
    """Write `config.yaml` (as `--config` takes it, without the wish to resume) and `environment.txt`."""
    if dataclasses.is_dataclass(getattr(config, "run", None)):
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, resume=False, new_epochs=False))
    try:
        config_files.save(config, out / files.CONFIG)
        (out / files.ENVIRONMENT).write_text(environment.describe(facts), encoding="utf-8")
    except OSError as error:
        raise UserError(f"--run.out {out} cannot be written ({error.strerror}); make room or name another.") from None
