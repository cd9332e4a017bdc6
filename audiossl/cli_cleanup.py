"""`audiossl cleanup`: the checkpoints of finished runs, which are large, without their encoders, which are not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from audiossl.errors import UserError

CLEANUP_EXAMPLE = """\
examples:
  audiossl cleanup runs/first                    # says what would go
  audiossl cleanup runs/* --keep 1 --yes         # the last checkpoint and the best one of each run stay

A run can be resumed as long as it has a checkpoint. The encoder, the report and the curves are not touched.
"""


def cleanup_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run")
    parser.add_argument("--keep", type=int, default=1, metavar="N", help="last checkpoints that stay; default: 1")
    parser.add_argument("--yes", "-y", action="store_true", help="remove them; without, only say what would go")
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each run")


def cleanup(given: argparse.Namespace) -> int:
    """Remove checkpoints of runs, or say which would go."""
    from audiossl.run.checkpoint import checkpoints_of_run

    if given.keep < 0:
        raise UserError(f"--keep is {given.keep}: give the number of checkpoints that stay, 0 or more.")
    found = [checkpoints_of_run(run, given.keep) for run in given.runs]
    for run, checkpoints in zip(given.runs, found, strict=True):
        old = checkpoints.superfluous() if given.keep else checkpoints.all()
        n_bytes = sum(file.stat().st_size for path in old for file in path.iterdir())
        for path in old:
            if not given.json:
                print(f"{'removed' if given.yes else 'would remove'} {path}")
            if given.yes:
                checkpoints.remove(path)
        n_left = len(checkpoints.all()) - (0 if given.yes else len(old))
        if given.json:
            names = [str(path) for path in old]
            print(
                json.dumps({"run": run, "removed": given.yes, "checkpoints": names, "bytes": n_bytes, "left": n_left})
            )
            continue
        gain = f"{n_bytes / 1e9:.2f} GB{'' if given.yes else ' to gain'}"
        print(f"{Path(run)}: {len(old)} checkpoints, {gain}; {n_left} stay")
    if not given.yes and not given.json:
        print("Nothing was removed: add --yes.")
    return 0
