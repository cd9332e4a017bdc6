"""Runs a recipe in a forked process, and records for every micro-batch its clips and where its draws begin.

A test hands over RECIPE, ARGV, OUTPUT and RECORD as globals.
"""

from __future__ import annotations

import json
import multiprocessing
import runpy
import sys
from typing import Any

from audiossl.run.session import Session


def record_steps(path: str) -> None:
    """Let `Session.steps` write a line a micro-batch; a kill leaves whole lines, and at most a broken last one."""
    plain = Session.steps

    def recorded(self: Session, loader: Any, epoch: int) -> Any:
        with open(path, "a") as file:
            for step, batch in plain(self, loader, epoch):
                place = [epoch, step.position, step.index]
                file.write(json.dumps([*place, batch.index.tolist(), step.generator.initial_seed()]) + "\n")
                file.flush()
                yield step, batch

    Session.steps = recorded  # type: ignore[method-assign]


if "ARGV" in globals():
    multiprocessing.set_start_method("fork", force=True)  # of the loader's workers: else they inherit "forkserver"
    sys.argv = [globals()["RECIPE"], *globals()["ARGV"]]
    sys.stdout = sys.stderr = open(globals()["OUTPUT"], "a", buffering=1)  # noqa: SIM115
    record_steps(globals()["RECORD"])
    runpy.run_path(globals()["RECIPE"], run_name="__main__")
