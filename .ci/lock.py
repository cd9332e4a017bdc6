"""Write constraints.txt, one exact version of everything that `.[speech,dev]` installs (`make lock`).

pip resolves the whole set without installing it, so a lock takes half a minute and no disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Chosen, not resolved: the newest three that work together. torchaudio 2.11.0 is the last of its line and
# runs with torch 2.11 to 2.14 (with 2.15 its import fails); torchvision belongs to one torch release.
TORCH_SET = ("torch==2.14.1", "torchvision==0.29.1", "torchaudio==2.11.0")
HEADER = """\
# The locked set: one exact version of all that `.[speech,dev]` installs. Made by `make lock`, not by hand.
# The Makefile installs with it; a plain `pip install .` follows the ranges of setup.cfg instead.
"""


def resolved() -> list[str]:
    """Return the sorted pins `name==version` of what pip would install into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        subprocess.run([*command, "--report", str(report), f"{ROOT}[speech,dev]", *TORCH_SET], check=True)
        installed = json.loads(report.read_text())["install"]
    found = [item["metadata"] for item in installed]
    pins = [f"{item['name']}=={item['version']}" for item in found if item["name"] != "audiossl-toolkit"]
    return sorted(pins, key=str.lower)


def main() -> None:
    """Resolve, then replace constraints.txt in one step."""
    target = ROOT / "constraints.txt"
    beside = target.with_suffix(".txt.new")
    beside.write_text(HEADER + "\n".join(resolved()) + "\n")
    os.replace(beside, target)
    print(f"{target.name}: {len(target.read_text().splitlines()) - 2} pins")


if __name__ == "__main__":
    main()
