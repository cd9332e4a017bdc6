"""Run the cells of a comparison one after the other, each by `accelerate launch` in a process of its own.

A cell that has run is not run again, one that was interrupted goes on where it was, and one that fails says why and
leaves the others alone.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audiossl.compare.cells import Cell
from audiossl.compare.config import CompareConfig
from audiossl.errors import UserError
from audiossl.reading import read_json
from audiossl.run import files
from audiossl.run.page_file import replace
from audiossl.run.tracking import read_history

# One process, without the launcher's advice on flags that were left out.
ONE_PROCESS = "-q --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no"
QUIET = ("--probe.skip", "true", "--run.trackers", "[]")
TIMED_CLIPS, TIMED_STEPS = 1024, 8  # of a timing run, whichever is more
MONITORS = 10  # looks at validation clips a run: their time is not the method's
LOG = "log.txt"
OWN_ERROR = "audiossl: error: "  # see `errors_for_people`


class CellFailed(Exception):
    """A cell's program ended with an error, whose last line this is."""


class Runner:
    """Turn the budget into epochs, and cells into folders of runs.

    Args:
        config: of the comparison.
        n_training: training clips of a fold.
        say: told what is done.
    """

    def __init__(self, config: CompareConfig, n_training: int, say: Callable[[str], None]) -> None:
        self.config, self.n_training, self.say = config, n_training, say
        self.out = Path(config.out)

    def run(self, cell: Cell) -> Path:
        """Train a cell where that was not done, and return its folder; raises CellFailed."""
        epochs = self.epochs(cell)
        folder = cell.folder(self.out, epochs)
        if (folder / files.ENCODER / "config.json").is_file() and (folder / files.REPORT).is_file():
            return folder
        self.say(f"training {folder.name}: {epochs} epoch{'s' * (epochs != 1)}")
        every = str(max(1, epochs // MONITORS))
        length = ["--run.epochs", str(epochs), "--run.monitor_epochs", every, "--run.resume", "true"]
        self._call(cell, folder, length)
        return folder

    def epochs(self, cell: Cell) -> int:
        """How many epochs the budget allows; the last step of a budget of steps may lie within one."""
        if self.config.epochs:
            return self.config.epochs
        if self.config.steps:
            return max(1, round(self.config.steps / max(1, self.n_training // self._clips_a_step(cell))))
        return max(1, int(60 * self.config.minutes * self.clips_per_second(cell) / self.n_training))

    def _clips_a_step(self, cell: Cell) -> int:
        run = cell.settings().run
        return run.batch_size * run.accumulate * self.config.processes

    def clips_per_second(self, cell: Cell) -> float:
        """Speed of a setting in a short run, measured once and kept."""
        known = self.out / "timing.json"
        processes = self.config.processes
        key = cell.setting() + (f"-{processes}processes" if processes > 1 else "")
        speeds = kept(known) or {}
        if not isinstance(speeds.get(key), (int, float)):
            self.say(f"timing {key}")
            folder = self.out / "timing" / key
            n_clips = max(TIMED_CLIPS, TIMED_STEPS * self._clips_a_step(cell))
            self._call(cell, folder, ["--run.epochs", "1", "--data.limit", str(n_clips), "--run.resume", "true"])
            speeds[key] = speed(epoch_rows(folder)[-1])
            replace(known, json.dumps(speeds, indent=1))
        return float(speeds[key])

    def _call(self, cell: Cell, folder: Path, flags: list[str]) -> None:
        launch = shlex.split(self.config.launch or ONE_PROCESS)
        program = [sys.executable, "-m", "accelerate.commands.launch", *launch, str(cell.recipe)]
        command = [*program, *cell.flags, *QUIET, *flags, "--run.out", str(folder)]
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = folder.parent / f"{folder.name}.{LOG}"
        with log.open("w", encoding="utf-8") as sink:
            print(shlex.join(command), file=sink, flush=True)
            # A session of its own: a signal then reaches the launcher and what it started, and never one alone.
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sink, stderr=sink, start_new_session=True)
            with child, _passing_signals_on(child) as stopped:
                code = child.wait()
                if stopped:
                    _wait_for_all(child)
        if stopped:
            raise SystemExit(128 + stopped[0])
        if code:
            raise CellFailed(_last_words(log, code))


@contextmanager
def _passing_signals_on(child: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """While a cell runs, SIGINT and SIGTERM are its own: it writes a checkpoint, and this program ends after it.

    Yields the signals that came.
    """
    came: list[int] = []

    def stop(number: int, frame: object) -> None:
        came.append(number)
        os.killpg(child.pid, number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_for_all(child: subprocess.Popen[bytes]) -> None:
    """Wait for what the launcher started: at a signal it ends at once, while the recipe still writes a checkpoint.

    All of them hold the other end of the launcher's stdin, and a poll without wishes returns when the last one let go.
    """
    assert child.stdin is not None
    poll = select.poll()
    poll.register(child.stdin, 0)
    poll.poll()


def _last_words(log: Path, code: int) -> str:
    """The sentence with which a program ended: its own, else the last line that reads as an error."""
    lines = [line.strip() for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    own = [line.partition(OWN_ERROR)[2] for line in lines if OWN_ERROR in line]
    errors = [line for line in lines if "error: " in line.lower() or line.startswith("MemoryError")]
    ended = f"ended by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{(own or errors or lines or [''])[-1]} ({ended}; see {log})"


def kept(path: Path) -> dict[str, Any] | None:
    """What was measured and kept before, None where there is no such file, or a damaged one: it is measured again."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def epoch_rows(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's epochs."""
    return [row for row in read_history(folder / files.METRICS) if row.get("kind") == "epoch"]


def speed(row: dict[str, float]) -> float:
    """Clips a second of an epoch: on CPUs by the CPU's clock, which what else the machine computes leaves alone."""
    return row.get("clips_per_cpu_second", row["clips_per_second"])


def refuse_several_processes() -> None:
    """Raise UserError when this program itself was launched in several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "a comparison is one process that launches its cells: start it by python, and give what accelerate launch "
            'is to be told as --launch="--multi_gpu --num_processes 8".'
        )
