"""A recipe taken apart: its own building blocks with its small preset, one step in stages that can be timed.

What `recipes/*_speechcommands.py` do in their loops, in the same order and with the same calls; the backbone's part of
a step is measured beside it, on the same views, since forward and backward go through backbone and heads alike.
"""

from __future__ import annotations

import importlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from audiossl.transforms.views import Views
from torch import Tensor

from audiossl.config import parse
from audiossl.data import cache_clips, open_augment, open_clips, training_loader
from audiossl.optim import build_optimizer, rates, set_rates
from audiossl.run.session import Session

METHODS = ("esvit", "emp_ssl", "byol")
ALL_METHODS = (*METHODS, "contrastive", "supervised")
STAGES = ("data", "front end", "views", "backbone", "heads and losses", "optimiser")
RATE = 16000


def write_clips(folder: Path, n: int, seconds: float = 1.0, rate: int = RATE) -> None:
    """`n` WAV files of made sounds in the layout of Speech Commands, a thousand a label."""
    generator = np.random.default_rng(0)
    sounds = (3000 * generator.normal(size=(50, round(seconds * rate)))).astype(np.int16)
    for i in range(n):
        place = folder / f"label{i // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"speaker{i % 97:02d}_nohash_{i:06d}.wav", np.roll(sounds[i % 50], i), rate)


def now() -> float:
    """CPU seconds of this process, or on a GPU wall time when its work is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class Pretraining:
    """A recipe, opened.

    Args:
        method: one of `ALL_METHODS`.
        clips: folder of recordings.
        scratch: folder for the cache and for the run, which is never finished.
        flags: what is to differ from the small preset.
    """

    def __init__(self, method: str, clips: Path, scratch: Path, flags: list[str]):
        recipe: Any = importlib.import_module(f"audiossl.recipes.{method}_speechcommands")
        places = ["--data.root", str(clips), "--data.cache", str(scratch / "cache"), "--run.out", str(scratch / "run")]
        quiet = ["--run.quiet", "true", "--run.trackers", "[]", "--run.threads", "1"]
        self.config = parse(recipe.Config, recipe.__file__, [*places, *quiet, *flags], preset="small")
        self.name, run = method, self.config.run
        self.session = Session(run, self.config)
        training = cache_clips(open_clips(self.config.data), self.config.data, progress=False)
        loader = training_loader(training, run.batch_size, run.workers)
        taught = (training,) if method == "supervised" else ()
        self.encoder, self.views, learner = recipe.build(self.config, training, *taught)
        self.labels = torch.from_numpy(training.label_ids).to(self.session.device)
        optimizer = build_optimizer(learner, self.config.optim)
        self.encoder.to(self.session.device)
        self.views.to(self.session.device)
        self.augment = open_augment(self.config.wave, training.sample_rate).to(self.session.device)
        self.method, self.optimizer, self.loader = self.session.prepare(learner, optimizer, loader)
        self.learner = self.session.unwrap(self.method)
        self.method.train()

    def steps(self, n: int) -> list[dict[str, float]]:
        """Seconds of each stage in n steps, after a first one that does not count."""
        found: list[dict[str, float]] = []
        epoch = 0
        while len(found) <= n:
            start = now()
            for step, batch in self.session.steps(self.loader, epoch):
                seconds = {"data": now() - start}
                views = self.step(step, batch, seconds)
                seconds["backbone"] = self.backbone_alone(views)
                seconds["heads and losses"] -= seconds["backbone"]
                found.append(seconds)
                if len(found) > n:
                    break
                start = now()
            epoch += 1
        return found[1:]

    def step(self, step: Any, batch: Any, seconds: dict[str, float]) -> Views:
        """The learning step of the recipes; notes the seconds of its stages."""
        config, session, learner = self.config, self.session, self.learner
        marks = [now()]
        set_rates(self.optimizer, rates(config.optim, step.index, 1000, 30, config.run.batch_size))
        with session.accumulate(self.method):
            if self.name == "emp_ssl":
                pictures: Any = self.encoder.image(self.augment(batch.wave, step.generator))
            else:
                pictures = [self.encoder.image(wave) for wave in self.augment.copies(batch.wave, 2, step.generator)]
            marks.append(now())
            views = self.views(pictures, step.generator)
            marks.append(now())
            out = self.method(views, *self._told(batch))
            session.backward(out.loss)
            marks.append(now())
            if config.optim.clip_grad:
                session.clip(learner.parameters(), config.optim.clip_grad, config.optim.clip_each)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if hasattr(learner, "update_teacher"):
            learner.update_teacher(0.99)
        session.log(step, out.logs)
        marks.append(now())
        names = ("front end", "views", "heads and losses", "optimiser")
        seconds |= {name: end - begin for name, begin, end in zip(names, marks, marks[1:], strict=False)}
        return views

    def _told(self, batch: Any) -> tuple[Any, ...]:
        """What a method is told besides the views."""
        if self.name == "esvit":
            return (self.config.method.teacher_temperature,)
        return (self.labels[batch.index],) if self.name == "supervised" else ()

    def backbone_alone(self, views: Views) -> float:
        """Seconds of what the student's and the teacher's backbones do in a step, forward and backward."""
        start = now()
        student, teacher = self._backbones()
        with self.session.accelerator.autocast():
            for image in views.images:
                _backward(student(image))
            if teacher is not None:
                with torch.no_grad():
                    teacher(views.images[0])
        seconds = now() - start
        self.optimizer.zero_grad()
        return seconds

    def _backbones(self) -> tuple[Any, Any]:
        if self.name == "emp_ssl":
            return self.learner.bag.network, None
        if not hasattr(self.learner, "teacher"):
            return self.learner.backbone, None
        return self.learner.student.backbone, self.learner.teacher.backbone


def _backward(output: Any) -> None:
    """From gradients of ones at the features, which need the regions' too."""
    features: Tensor = output.features
    features.backward(torch.ones_like(features))


def peak_mb() -> float:
    """Peak memory of this process, or on a GPU of what torch allocated."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def in_a_process(*words: object) -> dict[str, Any]:
    """What a script prints last, as JSON: the calling benchmark's own, in a process of its own."""
    command = [sys.executable, sys.argv[0], *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])
