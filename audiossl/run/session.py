"""The run around a recipe's loop: devices, processes, precision, seeds, logs, checkpoints, exact resume.

The loop stays in the recipe, see `Session`. Accelerate does the plumbing under rules that each have a test:
no scheduler is prepared (it would step once per process); the order of clips is seeded by the epoch and
survives a resume in mid-epoch; initial weights are equal on all ranks while views differ; a smaller last
accumulation group is a step like the others; losses leave the device every `log_steps` optimiser steps only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, PartialState, skip_first_batches
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import (
    GradientAccumulationPlugin,
    ProjectConfiguration,
    broadcast_object_list,
    find_batch_size,
    gather_object,
)
from torch import Tensor, nn

from audiossl import config as config_files
from audiossl.errors import UserError
from audiossl.run import environment, folder, gradients, seeds
from audiossl.run.checkpoint import Checkpoints, Position, read_position, read_state, refuse_another
from audiossl.run.clock import Clock
from audiossl.run.config import RunConfig
from audiossl.run.console import Console
from audiossl.run.interrupt import StopRequest
from audiossl.run.tracking import Meter, MetricsFile, check_trackers, tracker_config
from audiossl.run.verdict import verdict


@dataclasses.dataclass(frozen=True)
class Step:
    """One micro-batch of the loop."""

    index: int  # the optimiser step that it belongs to, from 0, over all epochs: schedules follow it
    epoch: int  # from 0
    position: int  # micro-batch in the epoch, from 0
    generator: torch.Generator  # on the CPU, seeded by (seed, epoch, position, rank): views are drawn from it


class Session:
    """Device, processes, precision, logs and checkpoints of one run.

    Args:
        run: the run's own settings.
        config: the recipe's whole configuration, a dataclass; written to `config.yaml`, compared on resume.

    Raises `UserError` when the folder is in use, for a precision that the device lacks, an unknown tracker,
    a checkpoint of another configuration.

    The loop::

        session = Session(config.run, config)
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
        _forget_earlier_sessions()
        state = PartialState()
        self.precision, reason = environment.choose_precision(
            run.precision, state.device, environment.cpu_flags()
        )
        self.accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(self.precision, self.precision),
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=run.accumulate),
            log_with=list(run.trackers) or None,
            project_config=ProjectConfiguration(
                project_dir=run.out, logging_dir=str(self.out / "tensorboard")
            ),
            dataloader_config=DataLoaderConfiguration(
                use_seedable_sampler=True,
                data_seed=seeds.mixed_seed("order", run.seed) % 2**31,  # the epoch is added to it
                non_blocking=True,
            ),
        )
        self.device = self.accelerator.device
        self.rank, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process
        self.console = Console(run.quiet, self.is_main)
        self.checkpoints = Checkpoints(self.out / "checkpoints", run.keep, run.best)
        self.metrics = MetricsFile(self.out / "metrics.jsonl")
        self.history: list[dict[str, Any]] = []  # the rows of all finished epochs, those before a resume too
        self._models: list[nn.Module] = []
        self._optimizers: list[Any] = []
        self._window, self._epoch_means = Meter(), Meter()
        self._finite, self._stop, self._clock = (
            gradients.FiniteWatch(self.device),
            StopRequest(),
            Clock(),
        )
        self._place = Position(processes=self.processes)
        self._group = run.accumulate  # micro-batches in the present accumulation group
        self._rng: dict[str, Any] | None = None  # of the checkpoint, until the loop begins
        self._last_loss: float | None = None
        threads = environment.choose_threads(run.threads, self.device, state.num_processes)
        self._open(reason, threads)
        seeds.seed_all(seeds.mixed_seed("weights", run.seed))  # on every rank the same: weights must be equal

    # -- before the loop -------------------------------------------------------------------------------------

    def _open(self, reason: str, threads: int) -> None:
        """Claim and describe the folder, start the trackers (rank 0 writes)."""
        with self._one_voice(rank_0_only=True):
            folder.claim(self.out, self.run.resume)
        self._checkpoint = self.checkpoints.latest() if self.run.resume else None
        with self._one_voice():
            if self._checkpoint is not None:
                saved = read_state(self._checkpoint)["config"]
                notes = refuse_another(saved, self.config, self.run.new_epochs, self._checkpoint)
        if not self.is_main:
            return
        facts = {
            "precision": f"{self.precision} ({reason})",
            "device": str(self.device),
            "processes": f"{self.processes} ({self.accelerator.distributed_type.value})",
            "threads": f"{threads} per process",
            "batch": f"{self.run.batch_size} clips x {self.run.accumulate} accumulated x {self.processes}",
        }
        folder.describe(self.out, self.config, facts)
        self.console.say(f"run {self.out}: " + ", ".join(f"{name} {fact}" for name, fact in facts.items()))
        done = 0
        if self._checkpoint is not None:
            done = read_position(self._checkpoint).step
            for note in notes:
                self.console.say(f"resumed: {note}")
        self.accelerator.init_trackers(
            "run",
            config=None if done else tracker_config(config_files.flatten(self.config)),
            init_kwargs={"tensorboard": {"purge_step": done + 1}},  # no point doubles after a resume
        )

    @contextlib.contextmanager
    def _one_voice(self, rank_0_only: bool = False) -> Iterator[None]:
        """Let rank 0 alone say a `UserError` that all ranks meet, or that only it can (`rank_0_only`)."""
        problem = [""]
        try:
            yield
        except UserError as error:
            problem[0] = str(error)
        if rank_0_only and self.processes > 1:
            broadcast_object_list(problem)
        if problem[0] and self.is_main:
            raise UserError(problem[0])
        if problem[0]:
            raise SystemExit(2)

    def prepare(self, *objects: Any) -> Any:
        """Hand models, optimisers and loaders to Accelerate: device, wrapper, precision, share of the data.

        Loaders must drop their last incomplete batch. From here on the global random streams (dropout, drop
        path) differ by rank.
        """
        ready = [self._placed(item) if isinstance(item, nn.Module) else item for item in objects]
        prepared = self.accelerator.prepare(*ready)
        everything = prepared if isinstance(prepared, tuple) else (prepared,)
        self._models += [item for item in everything if isinstance(item, nn.Module)]
        self._optimizers += [item for item in everything if isinstance(item, torch.optim.Optimizer)]
        seeds.seed_all(seeds.mixed_seed("training", self.run.seed, self.rank))
        return prepared

    def _placed(self, model: nn.Module) -> nn.Module:
        if self.device.type == "cuda" and self.processes > 1:  # SyncBatchNorm raises on a CPU
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if self.run.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def resume(self) -> bool:
        """With `--run.resume`, load the last checkpoint; True when there was one. Call it after `prepare`.

        Raises `UserError` for a damaged checkpoint, another number of processes, or another model.
        """
        path = self._checkpoint
        if not self.run.resume:
            return False
        if path is None:
            self.console.say(f"--run.resume: {self.out} holds no checkpoint yet; this run starts anew")
        else:
            with self._one_voice():
                self._load(path)
        if self.is_main:
            self.metrics.cut(self._place.epoch, self._place.step)
        self.accelerator.wait_for_everyone()
        self.history = [row for row in self.metrics.rows() if row["kind"] == "epoch"]
        place = self._place
        if path is not None:
            self.console.say(
                f"resumed {path}: epoch {place.epoch + 1}, batch {place.batch}, optimiser step {place.step}"
            )
        return path is not None

    def _load(self, path: Path) -> None:
        place, state = read_position(path), read_state(path)
        if place.processes != self.processes:
            raise UserError(
                f"--run.resume: {path} was written by {place.processes} process(es) and now there are "
                f"{self.processes}; launch with --num_processes {place.processes}."
            )
        try:
            for model, weights in zip(self._models, state["models"], strict=True):
                self.unwrap(model).load_state_dict(weights)
            for optimizer, values in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(values)
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"--run.resume: {path} does not fit the model of this recipe ({str(error).splitlines()[0]}); "
                "resume with the code that wrote it, or name another --run.out."
            ) from error
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self._window.load_state_dict(state["window"], self.device)
        self._epoch_means.load_state_dict(state["epoch_means"], self.device)
        self._rng, self._place, self._clock.before_s = state["rng"][self.rank], place, place.seconds

    # -- the loop --------------------------------------------------------------------------------------------

    def steps_per_epoch(self, loader: Any) -> int:
        """Optimiser steps of an epoch; a last group of fewer micro-batches is a step as well."""
        return math.ceil(len(loader) / self.run.accumulate)

    def total_steps(self, loader: Any) -> int:
        """Optimiser steps of the whole run, known beforehand: schedules are functions of step and total."""
        return self.run.epochs * self.steps_per_epoch(loader)

    def epochs(self) -> Iterator[int]:
        """The epochs that are still to do.

        In here SIGTERM and SIGINT mean: finish the step, write a checkpoint, exit with 143 or 130; a second
        signal stops at once.
        """
        self._stop.install()
        try:
            yield from range(self._place.epoch, self.run.epochs)
        finally:
            self._stop.remove()

    def steps(self, loader: Any, epoch: int) -> Iterator[tuple[Step, Any]]:
        """The micro-batches of an epoch that are still to do, each with its place and its generator.

        Raises `UserError` when the loader is empty or not as long as it was at the checkpoint, when a loss is
        not finite, and when the disk is full.
        """
        length, done = self._checked_length(loader), self._place.batch if epoch == self._place.epoch else 0
        every, per_epoch = self.run.accumulate, self.steps_per_epoch(loader)
        self.accelerator.step = 0  # checkpoints lie between optimiser steps, so every part begins a group
        if done in (0, length):
            self._restore_rng()
        self._clock.start_epoch()
        self.console.start(epoch, self.run.epochs, done, length)
        try:
            batches = self._batches(loader, epoch, done)
            for position in range(done, length):
                batch = self._clock.next(batches)
                self._restore_rng()  # behind the loader's own draws: the streams go on as if never stopped
                self._group = min(every, length - position // every * every)
                generator = seeds.step_generator(self.run.seed, epoch, position, self.rank)
                index = epoch * per_epoch + position // every
                yield Step(index, epoch, position, generator), batch
                self._clock.clips += (find_batch_size(batch) or 0) * self.processes
                self.console.advance(epoch, position + 1, length, self._last_loss)
                if (position + 1) % every == 0 or position + 1 == length:
                    self._place = Position(epoch, position + 1, index + 1, length, self.processes)
                    self._between_steps()
            next(batches, None)  # Accelerate's loader closes its books behind the last batch
        finally:
            self.console.stop()
            self._clock.stop_epoch()

    def _batches(self, loader: Any, epoch: int, done: int) -> Iterator[Any]:
        loader.set_epoch(epoch)
        if done == len(loader):
            return iter(())
        return iter(skip_first_batches(loader, done) if done else loader)

    def _restore_rng(self) -> None:
        if self._rng is not None:
            seeds.restore_rng(self._rng)
            self._rng = None

    def _checked_length(self, loader: Any) -> int:
        length = len(loader)
        if not getattr(loader, "_drop_last", True):
            raise ValueError("a training loader must drop its last incomplete batch (drop_last=True)")
        with self._one_voice():
            if length == 0:
                raise UserError(
                    f"--run.batch_size {self.run.batch_size} in {self.processes} process(es) is more than "
                    "there are training clips, so that no batch is full; lower it."
                )
            if self._place.batches_per_epoch not in (0, length):
                raise UserError(
                    f"--run.resume: an epoch had {self._place.batches_per_epoch} batches at the checkpoint "
                    f"and has {length} now; resume with the same training clips."
                )
        return length

    def accumulate(self, method: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """Context of one micro-batch: ranks exchange gradients, and the optimiser moves, at a group's end."""
        return self.accelerator.accumulate(method)

    @property
    def synced(self) -> bool:
        """True in the micro-batch that completes an optimiser step."""
        return self.accelerator.sync_gradients

    def backward(self, loss: Tensor) -> None:
        """Gradients of the mean loss over the accumulation group, a smaller last one included."""
        self._finite.look(loss, self._place.step + 1)
        if self._group != self.run.accumulate:  # Accelerate divides by `accumulate`
            loss = loss * (self.run.accumulate / self._group)
        self.accelerator.backward(loss)

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
        self._window.add(logs)
        self._epoch_means.add(logs)
        if self.synced and (step.index + 1) % self.run.log_steps == 0:
            self._stop_if_not_finite()
            means = self._mean_of_ranks(self._window)
            self._window.clear()
            self._last_loss = means.get("loss")
            self._write({"kind": "step", "epoch": step.epoch, "step": step.index + 1, **means, **self._lr()})

    # -- between steps and epochs ----------------------------------------------------------------------------

    def _mean_of_ranks(self, meter: Meter) -> dict[str, float]:
        means = meter.mean()
        if self.processes > 1 and means:
            values = torch.tensor(list(means.values()), device=self.device)
            means = dict(zip(means, self.accelerator.reduce(values, "mean").tolist(), strict=True))
        return means

    def _lr(self) -> dict[str, float]:
        return {"lr": float(self._optimizers[0].param_groups[0]["lr"])} if self._optimizers else {}

    def _write(self, row: dict[str, Any]) -> None:
        """One line of metrics.jsonl, and the same numbers to the trackers."""
        with self._one_voice(rank_0_only=True):
            if not self.is_main:
                return
            self.metrics.append(row)
            group = "train" if row["kind"] == "step" else "epoch"
            numbers = {f"{group}/{name}": value for name, value in row.items() if isinstance(value, float)}
            self.accelerator.log(numbers, step=row["step"])

    def _agreed(self, number: int) -> int:
        """The largest of all ranks' numbers; the ranks wait for each other."""
        if self.processes == 1:
            return number
        return int(self.accelerator.gather(torch.tensor([number], device=self.device)).max())

    def _between_steps(self) -> None:
        """A checkpoint when its time has come; the end when somebody asked for it."""
        at_end = self._place.batch == self._place.batches_per_epoch  # `end_epoch` writes one anyway
        if self.processes > 1 and self.device.type != "cpu" and self._place.step % self.run.log_steps:
            return  # to agree, ranks wait for their devices: not at every step
        due = not at_end and self._clock.checkpoint_age_s() >= 60 * self.run.checkpoint_minutes
        wish = self._agreed(1000 * (due and self.is_main) + self._stop.signal)
        if wish:
            path = self._save({})
            if wish % 1000:
                self._leave(wish % 1000, path)

    def _leave(self, stop: int, path: Path) -> None:
        self.console.stop()
        self.console.warn(f"stopped by signal {stop} after writing {path}; go on with --run.resume")
        self.finish()
        raise SystemExit(128 + stop)

    def _save(self, monitors: dict[str, float]) -> Path:
        """Write a checkpoint of this place (rank 0), with the random states of all ranks."""
        self._finite.look_at_weights(self._models, self._place.step)
        self._stop_if_not_finite()
        place = dataclasses.replace(self._place, seconds=self._clock.seconds(), monitors=monitors)
        rng = gather_object([seeds.rng_state()])
        path = self.checkpoints.folder
        with self._one_voice(rank_0_only=True):
            if self.is_main:
                path = self.checkpoints.save(self._state(rng), place)
        self._clock.checkpointed()
        return path

    def _state(self, rng: list[Any]) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "config": config_files.to_dict(self.config),
            "models": [self.unwrap(model).state_dict() for model in self._models],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "scaler": scaler.state_dict() if scaler is not None else {},
            "window": self._window.state_dict(),
            "epoch_means": self._epoch_means.state_dict(),
            "rng": rng,
        }

    def _stop_if_not_finite(self) -> None:
        step = self._agreed(int(self._finite.first_bad))
        if step < 0:
            return
        last = self.checkpoints.latest()
        kept = f"the last good checkpoint is {last}" if last else "no checkpoint was written before"
        lower = "--run.precision fp32 or " if self.precision != "fp32" else ""
        with self._one_voice():
            raise UserError(
                f"the loss or a weight is not finite since optimiser step {step}: try {lower}a lower "
                f"learning rate; {kept}."
            )

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
        self._stop_if_not_finite()
        means = self._mean_of_ranks(self._epoch_means)
        self._epoch_means.clear()
        row = {"kind": "epoch", "epoch": epoch, "step": self._place.step, **means, **self._lr(), **scores}
        row |= self._clock.row(self.device)
        self._write(row)
        self.history.append(row)
        self.console.row({**row, "epoch": f"{epoch + 1}/{self.run.epochs}"})
        if warning := verdict(self.history):
            self.console.warn(f"warning: {warning}")
        self._place = dataclasses.replace(self._place, epoch=epoch + 1, batch=0)
        path = self._save(scores)
        stop = self._agreed(self._stop.signal)
        if stop and epoch + 1 < self.run.epochs:
            self._leave(stop, path)

    def finish(self) -> None:
        """Close the trackers and wait for all ranks; the folder is then complete."""
        self.console.stop()
        self._stop.remove()
        self.accelerator.wait_for_everyone()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.trackers = []


def _forget_earlier_sessions() -> None:
    """Let one program hold several runs one after the other: Accelerate keeps precision and accumulation."""
    AcceleratorState._reset_state()
    GradientState._reset_state()
