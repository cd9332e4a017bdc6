"""All six recipes at a size of seconds, and what a finished run must have in common with another of the same seed."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("recorded_recipe.py")
RATE = 8000
PICTURE = {
    "data.sample_rate": RATE,
    "data.clip_s": 0.5,
    "frontend.sample_rate": RATE,
    "frontend.n_fft": 256,
    "frontend.win_length": 256,
    "frontend.hop_length": 129,
    "frontend.n_bins": 32,
    "frontend.f_max": 3800,
    "backbone.stages": 2,
}
CROPS = {"views.global_s": 0.5, "views.local_s": 0.25}
TWO = {"views.view_s": 0.5, "views.memory": 24, "method.hidden_dim": 16, "method.projection_dim": 8}
# What each recipe needs beside the picture: narrow heads, a memory that turns, something random in every part.
OWN: dict[str, dict[str, Any]] = {
    "esvit_speechcommands": {
        **CROPS,
        "views.n_locals": 1,
        "method.n_prototypes": 16,
        "method.hidden_dim": 16,
        "method.bottleneck_dim": 8,
        "method.centring": "centre",
        "wave.gain_db": 6,
    },
    "byol_speechcommands": {**TWO, "method.predictor_dim": 16},
    "contrastive_speechcommands": {**TWO, "run.accumulate": 2},
    "emp_ssl_speechcommands": {
        "views.n_patches": 4,
        "views.patch_s": 0.25,
        "bag.n_patches": 4,
        "bag.feature_dim": 16,
        "bag.projection_dim": 16,
    },
    "supervised_speechcommands": {**CROPS, "views.n_locals": 0, "method.dropout": 0.3},
    "finetune": {"method.dropout": 0.3, "data.clip_s": 0.5},
}
RUN = {
    "run.precision": "fp32",
    "run.threads": 1,
    "run.batch_size": 8,
    "run.epochs": 2,
    "run.log_steps": 1,
    "run.checkpoint_minutes": 1e-9,  # one after every step
    "run.trackers": "[]",
}
PROBE = {"probe.skip": True}  # what is probed twice is compared in tests/run/test_stages.py
# Of a row of metrics.jsonl: what the clock says.
TIMES = {"clips_per_second", "clips_per_cpu_second", "data_wait_percent", "memory_gb", "seconds"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Try a test that asks for a recipe with all of them."""
    if "recipe" in metafunc.fixturenames:
        metafunc.parametrize("recipe", tuple(OWN))


@pytest.fixture(scope="session")
def recipes() -> tuple[str, ...]:
    """The names of all recipes."""
    return tuple(OWN)


@pytest.fixture(scope="session")
def words(tones) -> Callable[..., list[str]]:
    """The flags of a recipe with small settings, by its name and changes."""

    def of(recipe: str, **changes: object) -> list[str]:
        probe = {} if recipe == "finetune" else PROBE
        named = {name.replace("__", "."): value for name, value in changes.items()}
        settings = {"data.root": tones, **PICTURE, **probe, **RUN, **OWN[recipe], **named}
        return [str(word) for key, value in settings.items() for word in (f"--{key}", value)]

    return of


@dataclass
class Running:
    """A recipe at work in a process of its own."""

    process: BaseProcess
    out: Path
    record: Path
    output: Path

    def ended(self) -> int:
        """Wait for its end; the exit code, negative: killed by that signal."""
        self.process.join(580)
        assert self.process.exitcode is not None, f"the recipe hangs: {self.output.read_text()[-2000:]}"
        return self.process.exitcode


@pytest.fixture(scope="session")
def start(words) -> Callable[..., Running]:
    """Start a recipe with small settings; a fork server imports torch only once."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    context = multiprocessing.get_context("forkserver")
    modules = ("audiossl.recipes.esvit_speechcommands", "audiossl.recipes.finetune", "sklearn.linear_model")
    context.set_forkserver_preload([*modules, "torch._dynamo", "runpy", "matplotlib.pyplot"])

    def begin(recipe: str, out: Path, *flags: object, alone: bool = False) -> Running:
        argv = [] if alone else [*words(recipe), "--run.out", str(out)]  # alone: the flags are the whole command
        running = Running(None, out, out.with_suffix(".record"), out.with_suffix(".output"))  # type: ignore[arg-type]
        given = {
            "RECIPE": str(ROOT / "recipes" / f"{recipe}.py"),
            "ARGV": [*argv, *map(str, flags)],
            "OUTPUT": str(running.output),
            "RECORD": str(running.record),
        }
        running.process = context.Process(target=runpy.run_path, args=(str(SCRIPT), given, "__main__"))
        running.process.start()
        return running

    return begin


@pytest.fixture(scope="session")
def whole(start, tmp_path_factory) -> Callable[[str], Path]:
    """The folder of an undisturbed run of a recipe, made when it is first asked for."""
    known: dict[str, Path] = {}

    def get(recipe: str) -> Path:
        if recipe not in known:
            out = tmp_path_factory.mktemp("whole") / recipe
            running = start(recipe, out)
            assert running.ended() == 0, running.output.read_text()[-3000:]
            known[recipe] = out
        return known[recipe]

    return get


def places(record: Path) -> dict[tuple[int, int], list[Any]]:
    """What was seen at each micro-batch, by epoch and position; one that was done twice must have been the same."""
    seen: dict[tuple[int, int], list[Any]] = {}
    for line in record.read_text().splitlines():
        try:
            epoch, position, *rest = json.loads(line)
        except ValueError:  # a kill broke it off
            continue
        assert seen.setdefault((epoch, position), rest) == rest, "the same place, other clips or draws"
    return seen


def rows(out: Path) -> list[dict[str, Any]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def kept(out: Path) -> dict[str, bytes]:
    """The files of the encoder or classifier, and the scores, by name."""
    paths = [path for name in ("encoder", "classifier") for path in (out / name).rglob("*") if path.is_file()]
    paths += [out / name for name in ("scores.json", "classification.json") if (out / name).exists()]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def assert_equal_state(one: Any, other: Any, where: str = "state") -> None:
    """Compare what checkpoints hold, number by number."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal_state(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal_state(*pair, f"{where}[{number}]")
    else:
        assert one == other, where


@pytest.fixture(scope="session")
def assert_same_run() -> Callable[[Path, Path], None]:
    """Compare two run folders: clips and draws of every step, metrics, checkpoints, what is kept, scores."""

    def compare(out: Path, expected: Path) -> None:
        assert places(out.with_suffix(".record")) == places(expected.with_suffix(".record"))
        assert rows(out) == rows(expected)
        names = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (out, expected)]
        assert names[0] == names[1]
        states = [
            torch.load(max((folder / "checkpoints").glob("epoch-*")) / "state.pt", weights_only=True)
            for folder in (out, expected)
        ]
        for key in ("models", "optimizers", "scaler", "rng", "own", "recorder"):
            assert_equal_state(states[0][key], states[1][key], key)
        found, wanted = kept(out), kept(expected)
        assert found.keys() == wanted.keys()
        assert [name for name in wanted if found[name] != wanted[name]] == []
        assert not list(out.rglob("*.part"))

    return compare
