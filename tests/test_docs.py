"""The documentation keeps its word: examples in docstrings and marked blocks of the pages run, links lead on.

A block of README.md or docs/*.md runs when the line before its fence is `<!-- runs -->`: ```python blocks of one page
share their names, as a reader would type them; ```bash blocks run in a shell, of ```console blocks the lines that begin
with `$ `. In a ```bash block after `<!-- runs with: FLAGS -->` recipes get these flags beside their own, so that a
training is short; two processes of a CPU stand in for eight GPUs, and nothing is installed. All happen in a folder with
two kinds of short tones under the names that the pages use, and an encoder in `runs/mine/encoder`.
"""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl.encoder import AudioEncoder, EncoderConfig

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = {"audiossl": "audiossl", "transforms": "audiossl.transforms", "recipes": "audiossl.recipes"}
BLOCK = re.compile(r"^<!-- runs(?: with: ([^\n]+))? -->\n+```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def modules_with_examples() -> list[str]:
    """Return the modules that have `>>>` in them, by the names under which they are imported."""
    found = []
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            if ">>> " in path.read_text():
                names = path.relative_to(ROOT / folder).with_suffix("").parts
                found.append(".".join([package, *(name for name in names if name != "__init__")]))
    return found


def runnable_blocks(text: str) -> list[tuple[str, str, str]]:
    """Return (flags, language, content) of each marked block of a page."""
    return BLOCK.findall(text)


def with_flags(script: str, flags: str) -> list[str]:
    """Return the lines of a script, recipes with flags beside their own, for this machine and this environment."""
    lines = [line.partition("  #")[0].rstrip() for line in script.replace("\\\n", " ").splitlines()]
    lines = [f"{line} {flags}" if "recipes/" in line else line for line in lines if not line.startswith("pip install")]
    eight_gpus = "accelerate launch --multi_gpu --num_processes 8"
    two_cpus = "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2"
    return [line.replace(eight_gpus, two_cpus) for line in lines]


@pytest.fixture
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of two folders of tones, under the names that the pages give to a reader's own."""
    time_s = np.arange(16000) / 16000
    for label, frequency in (("low", 220.0), ("high", 1760.0)):
        (tmp_path / "MY_SOUNDS" / label).mkdir(parents=True)
        for take in range(8):
            tone = 0.3 * np.sin(2 * np.pi * frequency * (1 + 0.02 * take) * time_s)
            soundfile.write(tmp_path / "MY_SOUNDS" / label / f"{take}.wav", tone, 16000)
            name = f"{take}_nohash_0.wav"
            for folder in ("LABELLED", "SPEECH_COMMANDS"):
                (tmp_path / folder / label).mkdir(parents=True, exist_ok=True)
                (tmp_path / folder / label / name).symlink_to(tmp_path / "MY_SOUNDS" / label / f"{take}.wav")
    for name in ("a_sound.wav", "a_long_recording.wav", "a.wav", "b.wav"):
        (tmp_path / name).symlink_to(tmp_path / "MY_SOUNDS" / "low" / "0.wav")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", modules_with_examples())
def test_examples_of_docstrings(module: str, users_folder: Path):
    outcome = doctest.testmod(
        importlib.import_module(module), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert outcome.attempted > 0, f"{module} has `>>>` where doctest finds no example"
    assert outcome.failed == 0, "see the captured output"


def test_only_marked_blocks_run():
    page = """
```python
not_this
```

<!-- runs -->
```python
1 + 1
```

<!-- runs -->

```console
$ audiossl --help
usage: ...
```
"""
    assert runnable_blocks(page) == [("", "python", "1 + 1\n"), ("", "console", "$ audiossl --help\nusage: ...\n")]


@pytest.mark.timeout(1800)  # README has a dozen trainings
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_marked_blocks_run(page: Path, users_folder: Path):
    text = page.read_text()
    blocks = runnable_blocks(text)
    marks = re.findall("^<!-- runs(?: -->| with: )", text, re.MULTILINE)  # not those of tables, "runs: begin"
    assert len(blocks) == len(marks), "a mark without a block below it"
    if blocks and "--run.out runs/mine\n" not in "".join(content for _, _, content in blocks):  # it makes one itself
        AudioEncoder.build(EncoderConfig()).save_pretrained("runs/mine/encoder")
    names: dict[str, object] = {}
    for flags, language, content in blocks:
        if language == "python":
            exec(compile(content, str(page), "exec"), names)
        elif language == "bash":
            for script in with_flags(content, flags) if flags else [content]:
                run_in_shell(script)
        else:
            assert language == "console", f"{language} blocks cannot run"
            commands = [line.removeprefix("$ ") for line in content.splitlines() if line.startswith("$ ")]
            assert commands, f"no line of this block begins with '$ ':\n{content}"
            run_in_shell("\n".join(commands))


def run_in_shell(script: str) -> None:
    """Run the lines as a user's shell would, with the programs of this environment first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, f"{script}\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_that_are_there(page: Path):
    targets = [target.partition("#")[0] for target in LINK.findall(page.read_text())]
    here = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    missing = [target for target in here if not (page.parent / target).exists()]
    assert not missing
