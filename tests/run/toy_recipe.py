"""A recipe of a few kilobytes with all that a real one has: dropout, batch statistics, a teacher, workers.

Every micro-batch is recorded (ids, place, draws, loss), so that tests can compare runs; it can kill itself.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from audiossl.config import parse
from audiossl.errors import errors_for_people
from audiossl.run.config import RunConfig
from audiossl.run.session import Session


@dataclass
class Config:
    """A toy."""

    lr: float = 0.05  # of AdamW
    clips: int = 26
    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            epochs=2, batch_size=4, log_steps=2, precision="fp32", checkpoint_minutes=1e-9, trackers=[]
        )
    )


@dataclass
class Trouble:
    """What happens to the run from outside; no part of its configuration."""

    stop_at: int = -1  # micro-batch of the whole run in whose middle a signal comes
    stop_signal: int = int(signal.SIGKILL)
    bad_at: int = -1  # micro-batch of the whole run whose loss is NaN
    bad_from: int = 1_000_000  # ... from which on all losses are NaN
    bad_gradient_at: int = -1  # ... whose loss is finite, and whose gradient is not
    as_on_gpu: bool = False  # losses are not looked at in every step
    left_out: tuple[int, ...] = ()  # micro-batches that the run passes over
    stop_in_write: int = -1  # which call of os.fsync and os.replace the run does not survive, from 0
    file_limit: int = 0  # bytes that a file may grow to, like a disk that gets full
    record: str = ""


class Sample(NamedTuple):
    wave: torch.Tensor
    index: torch.Tensor  # type: ignore[assignment]


class Clips(Dataset[Sample]):
    def __init__(self, n: int) -> None:
        self.ids = [f"clip-{i}" for i in range(n)]
        self.x = torch.randn(n, 3, generator=torch.Generator().manual_seed(7))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.x[index], torch.tensor(index))


class Method(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
        self.register_buffer("teacher", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.student(x) - self.teacher - 1.0).square().mean()

    @torch.no_grad()
    def update_teacher(self) -> None:
        self.teacher.lerp_(self.student[3].bias, 0.1)


def fingerprint(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def die_while_writing(last: int) -> None:
    """SIGKILL before the call number `last` with which checkpoints and rows are made to last."""
    calls = itertools.count()

    def deadly(plain: Callable[..., None]) -> Callable[..., None]:
        def call(*given: Any) -> None:
            if next(calls) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            plain(*given)

        return call

    os.fsync, os.replace = deadly(os.fsync), deadly(os.replace)


def train(config: Config, trouble: Trouble) -> None:
    if trouble.stop_in_write >= 0:
        die_while_writing(trouble.stop_in_write)
    if trouble.file_limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write then fails with EFBIG
        resource.setrlimit(resource.RLIMIT_FSIZE, (trouble.file_limit, trouble.file_limit))
    session = Session(config.run, config)
    method = Method()
    optimizer = torch.optim.AdamW(method.parameters(), lr=config.lr)
    loader = DataLoader(
        Clips(config.clips),
        config.run.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=config.run.workers,
        persistent_workers=config.run.workers > 0,
    )
    method, optimizer, loader = session.prepare(method, optimizer, loader)
    session.resume()
    if trouble.as_on_gpu:
        session._watch.at_each_step = False
    lines = open(trouble.record, "a") if trouble.record else None  # noqa: SIM115 (a kill closes it)
    for epoch in session.epochs():
        for step, (x, ids) in session.steps(loader, epoch):
            noise = torch.randn(x.shape, generator=step.generator)
            for group in optimizer.param_groups:
                group["lr"] = config.lr * (1 - step.index / session.total_steps(loader))
            place = epoch * len(loader) + step.position
            if place in trouble.left_out:
                continue
            with session.accumulate(method):
                loss = method(x + 0.1 * noise)
                if place == trouble.bad_at or place >= trouble.bad_from:
                    loss = loss * float("nan")
                if place == trouble.bad_gradient_at:  # the root's slope at 0 is infinite
                    loss = loss + (0.0 * session.unwrap(method).student[0].weight.sum()).sqrt()
                session.backward(loss)
                if session.synced:
                    session.clip(method.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            if session.synced:
                session.unwrap(method).update_teacher()
            session.log(step, {"loss": loss})
            if lines:
                seen = [epoch, step.position, step.index, ids.tolist(), noise[0, 0].item(), loss.item()]
                lines.write(json.dumps([*seen, random.random(), session.synced]) + "\n")
                lines.flush()
            if place == trouble.stop_at:
                os.kill(os.getpid(), trouble.stop_signal)
        session.end_epoch(epoch, {"knn": 10.0 - epoch})
    session.finish()
    if lines:
        lines.write(json.dumps(fingerprint(session.unwrap(method))) + "\n")


if __name__ == "__main__":
    trouble = Trouble()
    if "ARGV" in globals():  # started by a test in a forked process
        multiprocessing.set_start_method("fork", force=True)  # of the workers: else they inherit "forkserver"
        sys.argv = [__file__, *globals()["ARGV"]]
        sys.stdout = sys.stderr = open(globals()["OUTPUT"], "w", buffering=1)  # noqa: SIM115
        trouble = Trouble(**globals()["TROUBLE"])
    errors_for_people(lambda: train(parse(Config, __file__), trouble))()
