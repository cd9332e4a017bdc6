"""Start the processes that open damaged files, begin again behind an input that killed one, and count what came out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GOOD = ("opened", "refused")
HANGS = (-signal.SIGPROF, -signal.SIGALRM)


@dataclass
class Tried:
    """What came of the inputs: how often each outcome by target, and each bad one with its input's place."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)

    @property
    def n_inputs(self) -> int:
        """How many inputs were opened, in vain or not."""
        return sum(counts.total() for counts in self.outcomes.values())

    def add(self, target: str, number: int, outcome: str, said: str) -> None:
        """Count an outcome."""
        self.outcomes.setdefault(target, Counter())[outcome] += 1
        if outcome not in GOOD:
            self.bad.append(f"{target} {number}: {outcome}: {said}")

    def __str__(self) -> str:
        """A line a target, and one for each bad outcome."""
        lines = [
            f"{name}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
            for name, counts in self.outcomes.items()
        ]
        return "\n".join([*lines, f"{self.n_inputs} inputs, {len(self.bad)} bad outcomes", *self.bad])


def tried(inputs: Mapping[str, int], folder: Path, first: int = 0) -> Tried:
    """Open so many damaged files of each target, from number `first` on; inputs of bad outcomes stay in `folder`."""
    found, left = Tried(), [[name, first, first + n_inputs] for name, n_inputs in inputs.items()]
    while left:
        shutil.rmtree(folder / "work", ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fuzzing.child", str(folder), json.dumps(left)]
        process = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
        lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith('{"target"')]
        for line in lines:
            if "outcome" in line:
                found.add(line["target"], line["number"], line["outcome"], line["said"])
        if process.returncode == 0:
            break
        if not lines or "begun" not in lines[-1]:
            raise RuntimeError(f"no input was opened: {process.stderr[-3000:]}")
        target, number, path = lines[-1]["target"], lines[-1]["begun"], Path(lines[-1]["path"])
        kept = shutil.copy(path, folder / f"{target}-{number}-{path.name}")
        kind = "hang" if process.returncode in HANGS else "crash"
        found.add(target, number, kind, f"{process.returncode}, {kept}: {process.stderr[-2000:]}")
        while left[0][0] != target:
            left.pop(0)
        left[0][1] = number + 1
    return found


def _environment() -> dict[str, str]:
    # One arena: each thread's own would count as memory, though nothing is in it.
    own = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    return {**os.environ, **own, "PYTHONFAULTHANDLER": "1"}
