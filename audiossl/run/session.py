"""The run around a recipe's loop: devices, processes, precision, seeds, logs, checkpoints, exact resume.

The loop stays in the recipe, see `Session`. Accelerate does the plumbing under rules that each have a test:
no scheduler is prepared (it would step once per process); the order of clips is seeded by the epoch and
survives a resume in mid-epoch; initial weights are equal on all ranks while views differ; a smaller last
accumulation group is a step like the others; losses leave the device every `log_steps` optimiser steps only.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import find_batch_size, gather_object, parse_flag_from_env
from torch import Tensor, nn

from audiossl import config as config_files
from audiossl.data.loader import stop_workers
from audiossl.data.unusual import unusual_clips_of
from audiossl.run import accelerated, environment, files, folder, gradients, seeds
from audiossl.run.checkpoint import (
    Checkpoints,
    Position,
    read_position,
    read_state,
    refuse_another,
    refuse_other_processes,
    weights_of_run,
)
from audiossl.run.clock import Clock
from audiossl.run.config import RunConfig
from audiossl.run.freed_memory import keep_freed_memory
from audiossl.run.interrupt import StopRequest
from audiossl.run.not_finite import BadSteps
from audiossl.run.ranks import Ranks
from audiossl.run.recorder import Recorder
from audiossl.run.state import TrainingState
from audiossl.run.step import Step
from audiossl.run.step_watch import StepWatch
from audiossl.run.tracking import check_trackers, tracker_config


class Session:
    """Device, processes, precision, logs and checkpoints of one run.

    Args:
        run: the run's own settings.
        config: the recipe's whole configuration, a dataclass; written to `config.yaml`, compared on resume.

    Raises `UserError` when the folder is in use, for a precision that the device lacks, an unknown tracker,
    a checkpoint of another configuration.

    The loop::

        session = Session(config.run, config)
        session.start_from(method)
        method, optimizer, loader = session.prepare(method, optimizer, loader)
        session.resume()
        for epoch in session.epochs():
            for step, batch in session.steps(loader, epoch):
                with session.accumulate(method):
                    out = method(views(batch.wave, step.generator))
                    session.backward(out.loss)
                    if session.synced:
                        session.clip(method.parameters(), 3.0)
                    optimizer.step()
                    optimizer.zero_grad()
                if session.synced:
                    session.unwrap(method).update_teacher(momentum(step.index))
                session.log(step, out.logs)
            session.end_epoch(epoch, monitors)
        session.finish()
    """

    def __init__(self, run: RunConfig, config: Any) -> None:
        self.run, self.config, self.out = run, config, Path(run.out)
        check_trackers(run.trackers)
        # Asked for before Accelerate's own state, which needs the precision: without `cpu` it would not see
        # the other processes of a run on CPUs.
        device = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device
        self.precision, reason = environment.choose_precision(run.precision, device, environment.cpu_flags())
        if device.type == "cpu":
            keep_freed_memory()
        self.accelerator = accelerated.accelerator(run, self.precision)
        self.device = self.accelerator.device
        self.ranks = Ranks(self.accelerator)
        self.rank, self.processes, self.is_main = self.ranks.rank, self.ranks.count, self.ranks.is_main
        self.recorder = Recorder(self.out, self.ranks, run.quiet)
        self.checkpoints = Checkpoints(self.out / files.CHECKPOINTS, run.keep, run.best)
        self._state = TrainingState(self.accelerator)
        self._watch = StepWatch(self._state, self.device, run.skip_not_finite)
        self._bad_steps, self._is_skipped = BadSteps(self, self._watch), False  # the present optimiser step
        self._stop, self._clock = StopRequest(), Clock()
        self._place = Position(processes=self.processes)
        self._group = run.accumulate  # micro-batches in the present accumulation group
        self._logs: list[Mapping[str, Tensor | float]] = []  # of this group
        self._rng: dict[str, Any] | None = None  # of the checkpoint, until the loop begins
        self._open(reason)
        seeds.seed_all(seeds.mixed_seed("weights", run.seed))  # on every rank the same: weights must be equal

    # -- before the loop -------------------------------------------------------------------------------------

    def _open(self, reason: str) -> None:
        """Claim and describe the folder, start the trackers (rank 0 writes)."""
        with self.ranks.one_voice(rank_0_only=True):
            if self.is_main:
                folder.claim(self.out, self.run.resume)
                self.checkpoints.tidy()
        self._checkpoint = self.checkpoints.latest() if self.run.resume else None
        notes: list[str] = []
        with self.ranks.one_voice():
            if self._checkpoint is not None:
                saved = read_state(self._checkpoint)["config"]
                notes = refuse_another(saved, self.config, self.run.new_epochs, self._checkpoint)
        threads = environment.choose_threads(self.run.threads, self.device, self.processes)
        with self.ranks.one_voice(rank_0_only=True):
            if self.is_main:
                self._describe(reason, threads, notes)

    def _describe(self, reason: str, threads: int, notes: list[str]) -> None:
        facts = {
            "precision": f"{self.precision} ({reason})",
            **accelerated.described(self.accelerator, self.run),
            "threads": f"{threads} per process",
        }
        folder.describe(self.out, self.config, facts)
        self.say(f"run {self.out}: " + ", ".join(f"{name} {fact}" for name, fact in facts.items()))
        for note in notes:
            self.say(f"resumed: {note}")
        done = read_position(self._checkpoint).step if self._checkpoint else 0
        flat = None if done else tracker_config(config_files.flatten(self.config))
        self.recorder.start_trackers(flat, done)

    def say(self, sentence: str) -> None:
        """A line on the console of rank 0, unless `--run.quiet`."""
        self.recorder.console.say(sentence)

    @property
    def is_new(self) -> bool:
        """Whether the run begins here, and not at a checkpoint."""
        return self._checkpoint is None

    def start_from(self, method: Any) -> None:
        """With `--run.start_from`, hand the method the weights of that run, unless this one is resumed.

        Call it before `prepare`: optimiser, schedules and clips begin anew. Raises `UserError` for a folder without a
        checkpoint, and what the method's own `start_from` raises for weights that do not fit.
        """
        if self.run.start_from is not None and self.is_new:
            with self.ranks.one_voice():
                method.start_from(weights_of_run(self.run.start_from))
            self.say(f"begins with the weights of {self.run.start_from}")

    def prepare(self, *objects: Any) -> Any:
        """Hand models, optimisers and loaders to Accelerate: device, wrapper, precision, share of the data.

        Loaders must drop their last incomplete batch; a new run says what is unusual about their clips. From here on
        the global random streams (dropout, drop path) differ by rank.
        """
        for sentence in unusual_clips_of(objects) if self.is_main and self.is_new else ():
            self.recorder.console.warn(f"warning: {sentence}")
        ready = [accelerated.placed(item, self.accelerator, self.run.channels_last) for item in objects]
        prepared = self.accelerator.prepare(*ready)
        self._state.add(prepared if isinstance(prepared, tuple) else (prepared,))
        seeds.seed_all(seeds.mixed_seed("training", self.run.seed, self.rank))
        return prepared

    def keep(self, *modules: nn.Module) -> None:
        """Let checkpoints carry what these modules remember, each process its own, such as a memory of past clips.

        They are no part of the method, and learn nothing. Call it before `resume`.
        """
        self._state.own += modules

    def resume(self) -> bool:
        """With `--run.resume`, load the last checkpoint; True when there was one. Call it after `prepare`.

        Raises `UserError` for a damaged checkpoint, another number of processes, or another model.
        """
        if not self.run.resume:
            return False
        path = self._checkpoint
        if path is not None:
            with self.ranks.one_voice():
                self._load(path)
        place = self._place
        self.recorder.rewind(place.epoch, place.step)
        where = f"epoch {place.epoch + 1}, batch {place.batch + 1}, after optimiser step {place.step}"
        nothing = f"--run.resume: {self.out} holds no checkpoint yet; this run starts anew"
        self.say(f"resumed {path}: {where}" if path else nothing)
        return path is not None

    def _load(self, path: Path) -> None:
        place, state = read_position(path), read_state(path)
        refuse_other_processes(place, self.processes, path)
        self._state.load_state_dict(state, path)
        self._state.load_own(state["own"][self.rank] if "own" in state else [])
        self.recorder.load_state_dict(state["recorder"], self.device)
        self._rng, self._place, self._clock.before_s = state["rng"][self.rank], place, place.seconds
        self._watch.skipped = place.skipped

    # -- the loop --------------------------------------------------------------------------------------------

    def steps_per_epoch(self, loader: Any) -> int:
        """Optimiser steps of an epoch; a last group of fewer micro-batches is a step as well."""
        return math.ceil(len(loader) / self.run.accumulate)

    def total_steps(self, loader: Any) -> int:
        """Optimiser steps of the whole run, known beforehand: schedules are functions of step and total."""
        return self.run.epochs * self.steps_per_epoch(loader)

    def epochs(self) -> Iterator[int]:
        """The epochs that are still to do.

        In here SIGTERM, SIGINT and SIGUSR1 mean: finish the step, write a checkpoint, exit with 143, 130 or 138; a
        second SIGTERM or SIGINT stops at once.
        """
        self._stop.install()
        try:
            yield from range(self._place.epoch, self.run.epochs)
        finally:
            self._stop.remove()

    def steps(self, loader: Any, epoch: int) -> Iterator[tuple[Step, Any]]:
        """The micro-batches of an epoch that are still to do, each with its place and its generator.

        Raises `UserError` when the loader is empty or not as long as it was at the checkpoint, when a loss or a
        gradient is not finite, and when the disk is full.
        """
        with self.ranks.one_voice():
            length = accelerated.checked_length(loader, self.run.batch_size, self.processes, self._place)
        done = self._place.batch if epoch == self._place.epoch else 0
        every, console = self.run.accumulate, self.recorder.console
        self._bad_steps.clip_ids = getattr(getattr(loader, "dataset", None), "ids", None)
        self.accelerator.step = 0  # checkpoints lie between optimiser steps, so every part begins a group
        # What a loader draws at its start hangs on its workers, new or living on: it must leave the streams alone.
        rng, self._rng = self._rng or seeds.rng_state(), None
        self._clock.start_epoch()
        console.start(epoch, self.run.epochs, done, length)
        try:
            batches = accelerated.batches(loader, epoch, done)
            for position in range(done, length):
                batch = self._clock.next(batches)
                if position == done:
                    seeds.restore_rng(rng)
                self._group = min(every, length - position // every * every)
                generator = seeds.step_generator(self.run.seed, epoch, position, self.rank)
                index = epoch * self.steps_per_epoch(loader) + position // every
                self._watch.begin(index + 1, epoch, position, batch)
                self._is_skipped = False
                yield Step(index, epoch, position, generator), batch
                self._clock.clips += (find_batch_size(batch) or 0) * self.processes
                console.advance(epoch, position + 1, length, self.recorder.last_loss)
                if (position + 1) % every == 0 or position + 1 == length:
                    self._place = Position(
                        epoch, position + 1, index + 1, length, self.processes, skipped=self._watch.skipped
                    )
                    self._between_steps()
            next(batches, None)  # Accelerate's loader closes its books behind the last batch
            if done == length:
                seeds.restore_rng(rng)
        except BaseException:
            stop_workers(loader)
            raise
        finally:
            console.stop()
            self._clock.stop_epoch()

    def accumulate(self, method: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """Context of one micro-batch: ranks exchange gradients, and the optimiser moves, at a group's end."""
        return self.accelerator.accumulate(method)

    @property
    def synced(self) -> bool:
        """True in the micro-batch that completes an optimiser step, unless that step is left out as not finite."""
        return self.accelerator.sync_gradients and not self._is_skipped

    def backward(self, loss: Tensor) -> None:
        """Gradients of the mean loss over the accumulation group, a smaller last one included.

        Raises `UserError` when loss or gradient is not finite, unless the step is left out (`run.skip_not_finite`): all
        is then as it was before it, there are no gradients for the optimiser, and `synced` is False.
        """
        self._watch.note_loss(loss)
        if self._group != self.run.accumulate:  # Accelerate divides by `accumulate`
            loss = loss * (self.run.accumulate / self._group)
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            self._watch.note_gradients(scaled=self.accelerator.scaler is not None)
            if self._watch.at_each_step:
                self._is_skipped = self._bad_steps.look()

    def clip(self, parameters: Iterable[Tensor], max_norm: float, per_tensor: bool = False) -> None:
        """Clip gradients to an L2 norm, all together or each by itself, in every precision.

        Under fp16 it unscales first. To be called once per optimiser step, when `synced`.
        """
        self.accelerator.unscale_gradients()
        gradients.clip(parameters, max_norm, per_tensor)

    def unwrap(self, method: nn.Module) -> Any:
        """The method itself, without the wrapper of several processes."""
        return self.accelerator.unwrap_model(method)

    def log(self, step: Step, logs: Mapping[str, Tensor | float]) -> None:
        """Add a micro-batch's values; every `log_steps` optimiser steps their means are written."""
        self._logs.append(logs)
        if not self.accelerator.sync_gradients:
            return
        for values in [] if self._is_skipped else self._logs:
            self.recorder.add(values)
        self._logs = []
        if (step.index + 1) % self.run.log_steps == 0:
            self._bad_steps.look()
            self.recorder.write_step(step.epoch, step.index + 1, self._more())

    def _more(self) -> dict[str, float]:
        """What rows have beside logged values."""
        skipped = self._watch.skipped
        return {**self._state.lr(), **({"skipped_steps": float(skipped)} if skipped else {})}

    # -- between steps and epochs ----------------------------------------------------------------------------

    def _between_steps(self) -> None:
        """A checkpoint when its time has come; the end when somebody asked for it."""
        if self.processes > 1 and self.device.type != "cpu" and self._place.step % self.run.log_steps:
            return  # to agree, ranks wait for their devices: not at every step
        at_end = self._place.batch == self._place.batches_per_epoch  # `end_epoch` writes one anyway
        due = not at_end and self._clock.checkpoint_age_s() >= 60 * self.run.checkpoint_minutes
        wish = self.ranks.largest(1000 * (due and self.is_main) + self._stop.signal)
        if wish:
            path = self._save({})
            if wish % 1000:
                self._leave(wish % 1000, path)

    def _leave(self, stop: int, path: Path) -> None:
        self.recorder.console.stop()
        self.recorder.console.warn(f"stopped by signal {stop} after writing {path}; go on with --run.resume")
        self.finish()
        raise SystemExit(128 + stop)

    def _save(self, monitors: dict[str, float]) -> Path:
        """Write a checkpoint of this place, unless it would be worthless."""
        self._bad_steps.look()
        self._bad_steps.stop_at_bad_weights(self._place.step)
        path = self.write_checkpoint(self.checkpoints, monitors)
        self._clock.checkpointed()
        return path

    def write_checkpoint(self, checkpoints: Checkpoints, monitors: dict[str, float]) -> Path:
        """Write the state between two optimiser steps (rank 0), with the random states of all ranks."""
        place = replace(self._place, seconds=self._clock.seconds(), monitors=monitors)
        rng, own = gather_object([seeds.rng_state()]), gather_object([self._state.own_state()])
        path = checkpoints.folder
        with self.ranks.one_voice(rank_0_only=True):
            if self.is_main:
                state = {"config": config_files.to_dict(self.config), "rng": rng, "own": own}
                state |= {**self._state.state_dict(), "recorder": self.recorder.state_dict()}
                path = checkpoints.save(state, place)
        return path

    def monitor_due(self, epoch: int) -> bool:
        """True in epochs that end with monitors: every `monitor_epochs`, and the last."""
        return (epoch + 1) % self.run.monitor_epochs == 0 or epoch + 1 == self.run.epochs

    def end_epoch(self, epoch: int, monitors: Mapping[str, float] | None = None) -> None:
        """Close an epoch: its row, metrics.jsonl, trackers, a checkpoint, a warning where one is due.

        Args:
            epoch: from 0.
            monitors: values on the encoder, such as knn (percent), feature_std, rankme; may be empty.
        """
        scores = {name: float(value) for name, value in (monitors or {}).items()}
        self._bad_steps.look()
        more = {**self._more(), **scores, **self._clock.row(self.device)}
        self.recorder.write_epoch(epoch, self.run.epochs, self._place.step, more)
        self._place = replace(self._place, epoch=epoch + 1, batch=0)
        path = self._save(scores)
        stop = self.ranks.largest(self._stop.signal)
        if stop and epoch + 1 < self.run.epochs:
            self._leave(stop, path)

    def load_best(self, method: nn.Module) -> float | None:
        """Give the method, unwrapped, the weights of the best checkpoint; returns its monitor, None without one."""
        weights, value = self.checkpoints.best_weights()
        if weights is not None:
            method.load_state_dict(weights)
        return value

    def finish(self) -> None:
        """Close the trackers and wait for all ranks; the folder is then complete."""
        self._stop.remove()
        for loader in self.accelerator._dataloaders:
            stop_workers(loader)
        self.recorder.finish()
