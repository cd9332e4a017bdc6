"""Methods, front ends and networks side by side on your sounds, under one budget, several seeds each.

Every cell is a run of its recipe, by `accelerate launch` in a process of its own; all are probed in the same way,
beside random weights and statistics of log-mel pictures and MFCCs. Given again, the comparison goes on where it was:
cells that are done are read, one that was interrupted goes on, and one that failed is tried again.

    python recipes/compare.py --data.root FOLDER --minutes 5 --out compared/methods
    python recipes/compare.py --data.root FOLDER --methods byol --epochs 15 --out compared/pictures \\
        --frontends mel,stft,cqt,cwt,wigner_ville,matching_pursuit,emd             # which time-frequency picture?
    python recipes/compare.py --data.root FOLDER --folds speaker --epochs 10       # every speaker tested once
    python recipes/compare.py --data.root FOLDER --minutes 60 --launch="--multi_gpu --num_processes 8"

In --out: comparison.md, comparison.csv, comparison.html, written anew after every cell, and map.html at the end. What
came out on the data sets that we have: docs/comparison.md.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from audiossl.compare.cells import all_cells
from audiossl.compare.config import CompareConfig
from audiossl.compare.measure import Floors, measured_cell, refuse_other_clips
from audiossl.compare.result import Results
from audiossl.compare.run import CellFailed, Runner, refuse_several_processes
from audiossl.config import parse
from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.data.folds import fold_lists
from audiossl.errors import UserError, errors_for_people
from audiossl.map.of_run import of_encoders
from audiossl.run import files

# What a cell may fail of, also when its encoder is probed: wrong flags and clips, memory, a full disk.
FAILURES = (CellFailed, RuntimeError, ValueError, OSError)


def main(config: CompareConfig) -> int:
    """Run what is not done yet, and write the tables; returns how many cells failed."""
    refuse_several_processes()
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    clip_set = open_clips(config.data)
    folds = fold_lists(clip_set, config.folds, out / "folds") if config.folds else []
    cells = all_cells(config, folds)
    clips = {fold: cache_clips(open_clips(data), data) for fold, data in _data_of_folds(config, folds).items()}
    refuse_other_clips(out, clips)
    runner = Runner(config, min(len(part.split("training")) for part in clips.values()), print)
    floors = Floors(out, config.random_seeds, config.device, print)
    results = Results(config, cells, clips, floors)
    for cell in cells:
        try:
            folder = runner.run(cell)
            results.add(measured_cell(folder, cell, clips[cell.fold], config.device))
        except FAILURES as error:
            print(f"failed: {error}", file=sys.stderr)
            results.failed(cell, str(error))
        results.write(out)
    if config.map:
        draw_map(results, out)
    print(f"\n{(out / 'comparison.md').read_text('utf-8')}\n{(out / 'comparison.html').resolve()}")
    return len(results.failures)


def draw_map(results: Results, out: Path) -> None:
    """Write map.html, and name it in comparison.html."""
    encoders, clips = results.encoders()
    try:
        of_encoders(
            out / files.MAP, encoders, clips, f"{clips.name}, by {len(encoders)} encoders and random weights", print
        )
    except (UserError, RuntimeError) as error:  # pictures of another rate, say: the tables stand all the same
        print(f"no map: {error}", file=sys.stderr)
    results.write(out)


def _data_of_folds(config: CompareConfig, folds: list[Path]) -> dict[Path | None, DataConfig]:
    if not folds:
        return {None: config.data}
    return {fold: replace(config.data, lists=str(fold)) for fold in folds}


@errors_for_people
def run() -> None:
    """Read the command line and run."""
    failed = main(parse(CompareConfig, __file__))
    if failed:
        raise UserError(f"{failed} cells failed, and the table says why: mend the cause and give the command again.")


if __name__ == "__main__":
    run()
