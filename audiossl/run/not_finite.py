"""Optimiser steps whose loss or gradient is not finite: named, kept to be run again, left out or the end of the run."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object

from audiossl import config as config_files
from audiossl.errors import UserError
from audiossl.run import files
from audiossl.run.checkpoint import Checkpoints
from audiossl.run.page_file import replace
from audiossl.run.step_watch import StepWatch

if TYPE_CHECKING:
    from audiossl.run.session import Session

NAMED = 5  # clips in a sentence
# Steps in a row that the loss scale of fp16 may leave out: each halves it, and it begins at 2 ** 16, so that behind
# these the gradients are not too large for fp16 but not finite at any scale.
MOST_OVERFLOWS = 40
WHOLE = 3  # steps of a run that are kept with their checkpoint, which may be large


class BadSteps:
    """What a run does about the steps in which `watch` finds something; to be asked by all ranks, or they hang.

    A bad step is kept in `RUN/not_finite/step-N`: `batch.json` (places, losses and clips of all ranks) and, where it
    could be undone, a checkpoint from before it and `again.yaml`, with which the recipe runs it again.
    """

    def __init__(self, session: Session, watch: StepWatch) -> None:
        self.session, self.watch = session, watch
        self.clip_ids: Sequence[str] | None = None  # names of the clips, where the data set has any

    def look(self) -> bool:
        """Undo a step that is not finite, and give True, or raise `UserError` when none may be left out any more."""
        session, watch = self.session, self.watch
        if watch.overflows > MOST_OVERFLOWS:  # on all ranks alike, since gradients are exchanged before
            with session.ranks.one_voice():
                raise UserError(f"the gradient was not finite in {watch.overflows} steps in a row: {self._advice()}.")
        bad = watch.first_bad()
        if not session.ranks.largest(int(bad is not None)):
            return False
        found = [one for one in gather_object([bad.facts(self.clip_ids) if bad else None]) if one]
        facts = [one for one in found if one["step"] == min(other["step"] for other in found)]
        if watch.at_each_step:
            watch.undo()
            watch.skipped += 1
        kept, what, budget = self._keep(facts), sentence(facts), session.run.skip_not_finite
        if watch.at_each_step and watch.skipped <= budget:
            left = budget - watch.skipped
            session.recorder.console.warn(f"left out: {what}; {left} more may be (--run.skip_not_finite); see {kept}")
            return True
        with session.ranks.one_voice():
            raise UserError(f"{what}: {self._advice()}, or leave such steps out (--run.skip_not_finite); see {kept}.")

    def stop_at_bad_weights(self, step: int) -> None:
        """Raise `UserError` when a weight is not finite after this step."""
        if self.session.ranks.largest(int(not self.watch.weights_finite())):
            with self.session.ranks.one_voice():
                raise UserError(f"a weight is not finite after optimiser step {step}: {self._advice()}.")

    def _keep(self, facts: list[dict[str, Any]]) -> Path:
        session = self.session
        if (session.out / files.AGAIN).exists():
            return session.out  # the step is being run again, and this is its folder
        kept = session.out / files.NOT_FINITE / f"step-{facts[0]['step']}"
        whole = self.watch.at_each_step and self.watch.skipped <= WHOLE
        with session.ranks.one_voice(rank_0_only=True):
            if session.is_main:
                write_facts(kept, facts)
                if whole:
                    write_again(kept, session.config)
        if whole:
            session.write_checkpoint(Checkpoints(kept / files.CHECKPOINTS, keep=1, best=session.run.best), {})
        return kept

    def _advice(self) -> str:
        last = self.session.checkpoints.latest()
        kept = f"the last good checkpoint is {last}" if last else "no checkpoint was written before"
        lower = "--run.precision fp32 or " if self.session.precision != "fp32" else ""
        return f"{kept}; try {lower}a lower learning rate"


def sentence(facts: Sequence[dict[str, Any]]) -> str:
    """What was found in a step, from what every process says of it.

    >>> part = {"batch": 4, "loss": "nan", "clips": [7, 3], "names": ["a.wav", "b.wav"]}
    >>> sentence([{"step": 5, "epoch": 0, "gradients_finite": False, "parts": [part]}])
    'the loss is nan at optimiser step 5 (epoch 1, batch 5; clips a.wav, b.wav)'
    """
    parts = [part for one in facts for part in one["parts"]]
    bad = [part for part in parts if not _is_finite(part["loss"])]
    what = f"the loss is {bad[0]['loss']}" if bad else "the gradient is not finite"
    names = [str(name) for part in bad or parts for name in part["names"] or part["clips"]]
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    where = f"epoch {facts[0]['epoch'] + 1}, batch {(bad or parts)[0]['batch'] + 1}"
    return f"{what} at optimiser step {facts[0]['step']} ({where}{'; clips ' + shown if shown else ''})"


def write_facts(folder: Path, facts: Sequence[dict[str, Any]]) -> None:
    """Write what every rank says of a step into the folder's `batch.json`; raises `UserError` when it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace(folder / files.BATCH, json.dumps(list(facts), indent=1))
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}); make room and go on with --run.resume."
        ) from None


def write_again(folder: Path, config: Any) -> None:
    """Write `again.yaml`: what the recipe's `--config` takes to go on from the checkpoint in this folder."""
    if dataclasses.is_dataclass(getattr(config, "run", None)):
        run = dataclasses.replace(config.run, out=str(folder), resume=True, new_epochs=False, skip_not_finite=0)
        config_files.save(dataclasses.replace(config, run=run), folder / files.AGAIN)


def _is_finite(loss: str | None) -> bool:
    return loss is None or math.isfinite(float(loss))
