"""Fuzz by hand: python -m fuzzing FOLDER INPUTS FIRST [TARGET ...]."""

from __future__ import annotations

import sys
from pathlib import Path

from .driver import tried
from .targets import TARGETS

folder, inputs, first, names = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] or TARGETS
for name in names:
    print(tried({name: inputs}, folder / name.replace(" ", "-"), first), flush=True)
