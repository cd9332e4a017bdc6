"""The run around a recipe's loop: Accelerate for device, processes and precision; seeds, logs, checkpoints, exact resume.

The loop itself stays in the recipe; see `Session` for its shape. Rules that Accelerate 1.15 makes necessary, each with a test:
no scheduler is prepared (it would step once per process); the order of clips is seeded by epoch and survives a resume; initial
weights are equal on all ranks while views differ; losses are fetched from the device every `log_steps` optimiser steps only.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, skip_first_batches
from accelerate.utils import ProjectConfiguration, broadcast_object_list, find_batch_size, gather_object
from torch import Tensor, nn

from audiossl import config as config_files
from audiossl.errors import UserError
from audiossl.run import environment, seeds
from audiossl.run.checkpoint import Checkpoints, Position, read_position, read_state, refuse_another
from audiossl.run.config import RunConfig
from audiossl.run.interrupt import StopRequest
from audiossl.run.tracking import Console, Meter, MetricsFile, check_trackers, tracker_config


@dataclass(frozen=True)
class Step:
    """One micro-batch of the loop."""

    index: int  # optimiser step that this micro-batch belongs to, from 0, over all epochs
    epoch: int  # from 0
    position: int  # micro-batch in the epoch, from 0
    total: int  # optimiser steps of the whole run
    generator: (
        torch.Generator
    )  # CPU generator seeded by (seed, epoch, position, rank): views are drawn from it


class Session:
    """Device, processes, precision, logs and checkpoints of one run; the loop stays in the recipe's sight.

    Args:
        run: the run's own settings.
        config: the whole configuration of the recipe (a dataclass); it is written to `config.yaml` and compared on resume.

    Raises `UserError` when the folder already holds a run and `--run.resume` is not given, for a precision that the device does not
    have, and for an unknown tracker.

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
        self.run, self.config = run, config
        self.out = Path(run.out)
        check_trackers(run.trackers)
        device = _default_device()
        self.precision, reason = environment.choose_precision(run.precision, device, environment.cpu_flags())
        if self.precision == "fp16" and device.type == "cpu":
            raise UserError("--run.precision fp16 needs a GPU; on a CPU use bf16, fp32 or auto.")
        self.accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(self.precision, self.precision),
            gradient_accumulation_steps=run.accumulate,
            log_with=list(run.trackers) or None,
            project_config=ProjectConfiguration(
                project_dir=str(self.out), logging_dir=str(self.out / "tensorboard")
            ),
            dataloader_config=DataLoaderConfiguration(
                use_seedable_sampler=True, data_seed=seeds.mixed_seed("order", run.seed), non_blocking=True
            ),
        )
        self.device = self.accelerator.device
        self.rank, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main = self.accelerator.is_main_process
        self.console = Console(silent=run.quiet or not self.is_main)
        self.checkpoints = Checkpoints(self.out / "checkpoints", run.keep, run.best)
        self.metrics = MetricsFile(self.out / "metrics.jsonl")
        self.history: list[dict[str, Any]] = []  # one row per finished epoch, also those before a resume
        self._stop = StopRequest()
        self._place = Position(0, 0, 0, 0, self.processes)
        self._pending_rng: dict[str, Any] | None = None
        self._models: list[nn.Module] = []
        self._optimizers: list[Any] = []
        self._window, self._epoch_means = Meter(), Meter()
        self._bad_step = torch.tensor(-1, device=self.device)
        self._group = run.accumulate  # micro-batches in the current accumulation group
        self._speed = _Speed()
        self._last_loss: float | None = None
        self._open_folder(reason)
        seeds.seed_all(seeds.mixed_seed("weights", run.seed))  # equal on every rank: initial weights must be

    # -- setting up ----------------------------------------------------------------------------------------------------------------

    def _open_folder(self, reason: str) -> None:
        """Refuse a folder in use, then write config.yaml and environment.txt and start the trackers (rank 0)."""
        problem, resumed = [""], None
        if self.is_main:
            problem[0] = self._folder_problem()
        broadcast_object_list(problem)
        if problem[0]:
            raise UserError(problem[0])
        if self.run.resume:
            resumed = self.checkpoints.latest()
            if resumed is not None:
                state_config = read_state(resumed)["config"]
                self._notes = refuse_another(state_config, self.config, self.run.new_epochs, resumed)
        self.accelerator.wait_for_everyone()
        if not self.is_main:
            return
        config_files.save(self.config, self.out / "config.yaml")
        facts = {
            "precision": f"{self.precision} ({reason})",
            "device": str(self.device),
            "processes": f"{self.processes} ({self.accelerator.distributed_type.value})",
            "accumulation": f"{self.run.accumulate} micro-batches of {self.run.batch_size} clips per process",
        }
        (self.out / "environment.txt").write_text(environment.describe(facts), encoding="utf-8")
        self.console.say(
            f"run {self.out}: {facts['processes']} on {self.device}, precision {facts['precision']}"
        )
        start = read_position(resumed).step if resumed else 0
        self.accelerator.init_trackers(
            "run",
            config=None if resumed else tracker_config(config_files.flatten(self.config)),
            init_kwargs={"tensorboard": {"purge_step": start + 1}}
            if "tensorboard" in self.run.trackers
            else {},
        )

    def _folder_problem(self) -> str:
        """Why this folder cannot be used, or an empty string."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / ".writable").touch()
            (self.out / ".writable").unlink()
        except OSError as error:
            return f"--run.out {self.out}: this folder cannot be written ({error.strerror}); name another."
        if any(self.out.iterdir()) and not self.run.resume:
            return f"--run.out {self.out} is not empty: go on with it by --run.resume, or name another folder by --run.out."
        return ""

    def prepare(self, *objects: Any) -> Any:
        """Hand models, optimisers and loaders to Accelerate: device, distributed wrapper, precision, share of the data.

        A loader must drop its last incomplete batch. Afterwards the global random streams (dropout, drop path) differ by rank.
        """
        ready = []
        for item in objects:
            if isinstance(item, nn.Module):
                if self.run.channels_last:
                    item = item.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                if self.device.type == "cuda" and self.processes > 1:  # on a CPU SyncBatchNorm raises
                    item = nn.SyncBatchNorm.convert_sync_batchnorm(item)
            ready.append(item)
        prepared = self.accelerator.prepare(*ready)
        everything = prepared if isinstance(prepared, tuple) else (prepared,)
        self._models += [item for item in everything if isinstance(item, nn.Module)]
        self._optimizers += [item for item in everything if isinstance(item, torch.optim.Optimizer)]
        seeds.seed_all(seeds.mixed_seed("training", self.run.seed, self.rank))
        return prepared

    def resume(self) -> bool:
        """With `--run.resume`, load the last checkpoint; gives True when there was one. Call after `prepare`.

        Raises `UserError` for a damaged checkpoint, or one of another configuration or number of processes.
        """
        path = self.checkpoints.latest() if self.run.resume else None
        if path is None:
            if self.run.resume:
                self.console.say(
                    f"--run.resume: {self.out} holds no checkpoint yet; starting from the beginning"
                )
            return False
        place, state = read_position(path), read_state(path)
        if place.processes != self.processes:
            raise UserError(
                f"--run.resume: {path} was written by {place.processes} processes and there are {self.processes} now; "
                f"launch with --num_processes {place.processes}."
            )
        try:
            for model, weights in zip(self._models, state["models"], strict=True):
                self.unwrap(model).load_state_dict(weights)
            for optimizer, values in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(values)
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"--run.resume: {path} does not fit this model ({str(error).splitlines()[0]})."
            ) from error
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self._window.load_state_dict(state["window"], self.device)
        self._epoch_means.load_state_dict(state["epoch_means"], self.device)
        self._pending_rng = state["rng"][self.rank]
        self._place, self._speed.before = place, place.seconds
        if self.is_main:
            self.metrics.cut(place.epoch, place.step)
        self.accelerator.wait_for_everyone()
        self.history = [row for row in self.metrics.rows() if row["kind"] == "epoch"]
        for note in self._notes:
            self.console.say(f"resumed: {note}")
        self.console.say(
            f"resumed {path}: epoch {place.epoch + 1}, batch {place.batch}, optimiser step {place.step}"
        )
        return True

    # -- the loop ------------------------------------------------------------------------------------------------------------------

    def steps_per_epoch(self, loader: Any) -> int:
        """Optimiser steps of one epoch; a last accumulation group may be smaller than the others and is a step all the same."""
        return math.ceil(len(loader) / self.run.accumulate)

    def total_steps(self, loader: Any) -> int:
        """Optimiser steps of the whole run, known beforehand: what schedules are a function of."""
        return self.run.epochs * self.steps_per_epoch(loader)

    def epochs(self) -> Iterator[int]:
        """The epochs still to do; SIGTERM and SIGINT then mean: finish the step, write a checkpoint, exit with 143 or 130."""
        self._stop.install()
        try:
            yield from range(self._place.epoch, self.run.epochs)
        finally:
            self._stop.remove()

    def steps(self, loader: Any, epoch: int) -> Iterator[tuple[Step, Any]]:
        """The micro-batches of an epoch that are still to do, with their place and their generator.

        Raises `UserError` when the loader is empty or has another length than at the checkpoint, and for a loss that is not finite.
        """
        length, done = self._check_loader(loader), self._place.batch if epoch == self._place.epoch else 0
        self.accelerator.step = (
            0  # the phase of accumulation: checkpoints are written between optimiser steps only
        )
        loader.set_epoch(epoch)
        batches = iter(skip_first_batches(loader, done) if done else loader) if done < length else iter(())
        if done == 0:
            self._restore_rng()
        per_epoch, total = self.steps_per_epoch(loader), self.total_steps(loader)
        self._speed.start()
        self.console.start(epoch, self.run.epochs, done, length)
        for position in range(done, length):
            batch = self._speed.next(batches)
            self._restore_rng()  # after the loader's own draws, so that the streams go on as if never interrupted
            group_start = position - position % self.run.accumulate
            self._group = min(self.run.accumulate, length - group_start)
            index = epoch * per_epoch + position // self.run.accumulate
            generator = seeds.step_generator(self.run.seed, epoch, position, self.rank)
            yield Step(index, epoch, position, total, generator), batch
            self._speed.clips += (find_batch_size(batch) or 0) * self.processes
            self.console.advance(epoch, position + 1, length, self._last_loss)
            if (position + 1) % self.run.accumulate == 0 or position + 1 == length:
                self._place = Position(epoch, position + 1, index + 1, length, self.processes)
                self._between_steps()
        for _ in batches:  # lets Accelerate's loader see its end
            raise RuntimeError("the loader gave more batches than its length")
        self.console.stop()

    def _restore_rng(self) -> None:
        """Once after a resume: put the random streams of this rank back."""
        if self._pending_rng is not None:
            seeds.restore_rng(self._pending_rng)
            self._pending_rng = None

    def _check_loader(self, loader: Any) -> int:
        length = len(loader)
        if length == 0:
            raise UserError(
                f"--run.batch_size {self.run.batch_size}: {self.processes} process(es) times this batch is more than there are training "
                "clips, so that there is no full batch; lower it."
            )
        if not getattr(loader, "_drop_last", True):
            raise ValueError("a training loader must drop its last incomplete batch (drop_last=True)")
        if self._place.batches_per_epoch not in (0, length):
            raise UserError(
                f"--run.resume: the checkpoint counted {self._place.batches_per_epoch} batches per epoch and there are {length} now; "
                "resume with the same training clips."
            )
        return length

    def accumulate(self, method: nn.Module) -> AbstractContextManager[Any]:
        """Context of one micro-batch: gradients are exchanged, and the optimiser moves, only at the end of a group."""
        return self.accelerator.accumulate(method)

    @property
    def synced(self) -> bool:
        """True in the micro-batch that completes an optimiser step."""
        return self.accelerator.sync_gradients

    def backward(self, loss: Tensor) -> None:
        """Gradients of the mean loss over the accumulation group, also of a smaller last group; remembers a loss that is not finite."""
        bad = (self._bad_step < 0) & ~torch.isfinite(loss.detach())
        self._bad_step = torch.where(bad, torch.full_like(self._bad_step, self._place.step), self._bad_step)
        if self._group != self.run.accumulate:  # Accelerate divides by `accumulate`
            loss = loss * (self.run.accumulate / self._group)
        self.accelerator.backward(loss)

    def clip(self, parameters: Any, max_norm: float, per_tensor: bool = False) -> None:
        """Clip gradients to an L2 norm, jointly or each tensor by itself; unscales first under fp16. Never waits for the device."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        self.accelerator.unscale_gradients()
        if not gradients:
            return
        norms = (
            torch.stack(torch._foreach_norm(gradients))
            if per_tensor
            else nn.utils.get_total_norm(gradients).expand(len(gradients))
        )
        factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, list(factors.to(gradients[0].dtype)))

    def unwrap(self, method: nn.Module) -> Any:
        """The method itself, without the distributed wrapper."""
        return self.accelerator.unwrap_model(method)

    def log(self, step: Step, logs: dict[str, Tensor | float]) -> None:
        """Add a micro-batch's values (0-dim tensors or numbers); every `log_steps` optimiser steps their means are written."""
        self._window.add(logs)
        self._epoch_means.add(logs)
        if self.synced and (step.index + 1) % self.run.log_steps == 0:
            self._stop_if_not_finite()
            means = self._means(self._window)
            self._window.clear()
            self._last_loss = means.get("loss")
            self._write(
                {"kind": "step", "epoch": step.epoch, "step": step.index + 1, **means, **self._rates()}
            )

    def _means(self, meter: Meter) -> dict[str, float]:
        """Means over the micro-batches and over all ranks."""
        means = meter.mean()
        if self.processes > 1 and means:
            values = torch.tensor(list(means.values()), device=self.device)
            means = dict(zip(means, self.accelerator.reduce(values, "mean").tolist(), strict=True))
        return means

    def _rates(self) -> dict[str, float]:
        return {"lr": self._optimizers[0].param_groups[0]["lr"]} if self._optimizers else {}

    def _write(self, row: dict[str, Any]) -> None:
        if not self.is_main:
            return
        self.metrics.append(row)
        prefix = "train" if row["kind"] == "step" else "epoch"
        numbers = {f"{prefix}/{name}": value for name, value in row.items() if isinstance(value, float)}
        try:
            self.accelerator.log(numbers, step=row["step"])
        except OSError as error:
            raise UserError(
                f"--run.trackers: {self.out} cannot be written ({error.strerror}); make room and go on with --run.resume."
            ) from error

    # -- checkpoints and the end -----------------------------------------------------------------------------------------------------

    def _between_steps(self) -> None:
        """After an optimiser step: a checkpoint when its time has come, and the end when somebody asked for it."""
        step = self._place.step
        if self.processes > 1 and self.device.type != "cpu" and step % self.run.log_steps:
            return  # ranks must agree, and agreeing makes them wait for their devices: not at every step
        due = (
            self._speed.since_checkpoint() >= 60.0 * self.run.checkpoint_minutes
            and self._place.batch < self._place.batches_per_epoch
        )
        wishes = torch.tensor([int(due and self.is_main), self._stop.signal], device=self.device)
        if self.processes > 1:
            wishes = self.accelerator.gather(wishes[None]).amax(0)
        due_now, stop = wishes.tolist()
        if due_now or stop:
            path = self._checkpoint({})
            if stop:
                self._leave(stop, path)

    def _leave(self, stop: int, path: Path) -> None:
        self.console.stop()
        self.console.say(f"stopped by signal {stop}; {path} is written: go on with --run.resume")
        self._stop.remove()
        self.accelerator.end_training()
        raise SystemExit(128 + stop)

    def _checkpoint(self, monitors: dict[str, float]) -> Path:
        """Write a checkpoint of the present place, on rank 0, with the random states of all ranks."""
        self._stop_if_not_finite(weights=True)
        place = Position(**{**self._place.__dict__, "seconds": self._speed.seconds(), "monitors": monitors})
        states = gather_object([seeds.rng_state()])
        path, problem = self.checkpoints.folder, [""]
        if self.is_main:
            try:
                path = self.checkpoints.save(self._state(states), place, config_files.to_dict(self.config))
            except UserError as error:
                problem[0] = str(error)
        broadcast_object_list(problem)
        if problem[0]:
            raise UserError(problem[0])
        self._speed.checkpointed()
        return path

    def _state(self, rng: list[Any]) -> dict[str, Any]:
        return {
            "models": [self.unwrap(model).state_dict() for model in self._models],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {},
            "window": self._window.state_dict(),
            "epoch_means": self._epoch_means.state_dict(),
            "rng": rng,
        }

    def _stop_if_not_finite(self, weights: bool = False) -> None:
        """Raise `UserError` when a loss (or, before a checkpoint, a weight) is not finite on any rank."""
        bad = self._bad_step
        if weights:
            finite = [
                torch.isfinite(parameter).all() for model in self._models for parameter in model.parameters()
            ]
            broken = (
                ~torch.stack(finite).all()
                if finite
                else torch.zeros((), dtype=torch.bool, device=self.device)
            )
            bad = torch.where((bad < 0) & broken, torch.full_like(bad, max(self._place.step - 1, 0)), bad)
        if self.processes > 1:
            bad = self.accelerator.gather(bad[None]).amax()
        step = int(bad.item())
        if step >= 0:
            last = self.checkpoints.latest()
            kept = f"the last good checkpoint is {last}" if last else "no checkpoint was written yet"
            remedy = (
                "--run.precision fp32 or a lower learning rate"
                if self.precision != "fp32"
                else "a lower learning rate"
            )
            raise UserError(
                f"the loss or a weight is not finite since optimiser step {step + 1}: try {remedy}; {kept}."
            )

    def monitor_due(self, epoch: int) -> bool:
        """True in the epochs that end with monitors: every `monitor_epochs`, and the last."""
        return (epoch + 1) % self.run.monitor_epochs == 0 or epoch + 1 == self.run.epochs

    def end_epoch(self, epoch: int, monitors: dict[str, float] | None = None) -> None:
        """Close an epoch: its row on the console, a line in metrics.jsonl, the trackers, a checkpoint, a warning where one is due."""
        monitors = dict(monitors or {})
        self._stop_if_not_finite()
        means = self._means(self._epoch_means)
        row = {
            "kind": "epoch",
            "epoch": epoch,
            "step": self._place.step,
            **means,
            **self._rates(),
            **monitors,
            **self._speed.row(self.device),
        }
        self._write(row)
        self.history.append(row)
        names = {
            "clips_per_second": "clips/s",
            "data_wait_percent": "wait %",
            "memory_gb": "GB",
            "feature_std": "std",
        }
        self.console.row(
            {
                **{names.get(name, name): value for name, value in row.items()},
                "epoch": f"{epoch + 1}/{self.run.epochs}",
            }
        )
        self._place = Position(epoch + 1, 0, self._place.step, self._place.batches_per_epoch, self.processes)
        self._epoch_means.clear()
        path = self._checkpoint(monitors)
        stop = torch.tensor([self._stop.signal], device=self.device)
        stop_signal = int(self.accelerator.gather(stop).amax()) if self.processes > 1 else self._stop.signal
        if stop_signal and epoch + 1 < self.run.epochs:
            self._leave(stop_signal, path)

    def finish(self) -> None:
        """Close the trackers; the run folder is complete."""
        self.console.stop()
        self._stop.remove()
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()


class _Speed:
    """Clocks of a run: training time over all its parts, clips a second, share of the time spent waiting for data."""

    def __init__(self) -> None:
        self.before = 0.0
        self._begun = self._saved = time.monotonic()
        self.start()

    def start(self) -> None:
        self._epoch_begun, self.clips, self._waited = time.monotonic(), 0, 0.0

    def next(self, batches: Iterator[Any]) -> Any:
        asked = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - asked
        return batch

    def seconds(self) -> float:
        return self.before + time.monotonic() - self._begun

    def since_checkpoint(self) -> float:
        return time.monotonic() - self._saved

    def checkpointed(self) -> None:
        self._saved = time.monotonic()

    def row(self, device: torch.device) -> dict[str, float]:
        took = max(time.monotonic() - self._epoch_begun, 1e-9)
        return {
            "clips_per_second": self.clips / took,
            "data_wait_percent": 100.0 * self._waited / took,
            "memory_gb": _memory_gb(device),
            "seconds": self.seconds(),
        }


def _memory_gb(device: torch.device) -> float:
    """Peak memory: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource  # not on Windows, where nothing of this runs without a GPU

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _default_device() -> torch.device:
    cpu_only = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return torch.device("cuda" if torch.cuda.is_available() and not cpu_only else "cpu")
