"""A process that opens damaged files one after the other, and may die of it; see `fuzzing.driver`, which starts it.

    python -m fuzzing.child FOLDER '[["TARGET", FIRST, END], ...]'

One line of JSON an input goes to stdout. The kernel ends the process when an input takes too long (SIGPROF by the
processor's time, so that a busy machine changes nothing; SIGALRM where it waits for what never comes), and refuses
memory beyond a limit, also to C libraries.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import traceback
import warnings
from pathlib import Path
from random import Random

from audiossl.errors import UserError

from .target import Target
from .targets import TARGETS

MEMORY_BYTES = 1 << 30  # above what the process has after it opened the valid files
PROCESSOR_S, WALL_S = 10.0, 3600.0  # the second for what waits and computes nothing, as a stopped process does, too
LONGEST_MESSAGE = 3000


def outcome(target: Target, path: Path) -> tuple[str, str]:
    """What comes of opening a file: "opened", "refused" with a sentence, or what must not be."""
    try:
        target.open(path)
    except UserError as error:
        said = str(error)
        clear = len(said) < LONGEST_MESSAGE and "\n" not in said
        return ("refused" if clear else "unclear"), said[:LONGEST_MESSAGE]
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return type(error).__name__, f"{str(error)[:300]} ({last.filename}:{last.lineno})"
    return "opened", ""


def limit_memory(limited: bool = True) -> None:
    """Refuse more address space than there is now and `MEMORY_BYTES`, or allow it again."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES if limited else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def fuzz(target: Target, folder: Path, first: int, end: int) -> None:
    """Open damaged files number `first` to `end` of a target, and say what came of each."""
    name = target.name
    folder.mkdir()
    paths = list(target.make(folder))
    valid = {path: path.read_bytes() for path in paths}
    for path in paths:  # also imports what is imported late, before memory is limited
        if (found := outcome(target, path))[0] != "opened":
            raise SystemExit(f"{name}: the valid {path.name} is not opened: {found}")
    limit_memory()
    for number in range(first, end):
        random = Random(f"{name} {number}")
        path = random.choice(paths)
        path.write_bytes(target.mutate(valid[path], random))
        print(json.dumps({"target": name, "begun": number, "path": str(path)}), flush=True)
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR_S)
        signal.setitimer(signal.ITIMER_REAL, WALL_S)
        found, said = outcome(target, path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps({"target": name, "number": number, "outcome": found, "said": said}), flush=True)
        if found not in ("opened", "refused"):
            (folder.parent / f"{name}-{number}-{path.name}").write_bytes(path.read_bytes())
        path.write_bytes(valid[path])
    limit_memory(False)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name, first, end in json.loads(sys.argv[2]):
        fuzz(TARGETS[name], Path(sys.argv[1]) / "work", first, end)
        shutil.rmtree(Path(sys.argv[1]) / "work")
