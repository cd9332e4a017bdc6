"""Do the tests notice when a module is wrong? Plant one mistake after the other, and list those that no test fails for.

    python .ci/mutation.py losses transforms --sample 300 --out build/mutation.jsonl

Each mutant is tried in a copy of the checkout (the checkout itself is not touched): first the example of its docstring
and its own test file, then all files of tests that name the module or one that imports it. A process that has imported
torch and the rest forks for each mutant, so that a trial takes as long as its tests and no longer. A mutant is killed
by a test that fails, by an import that does, by tests that take five times as long as they should, or by running out of
memory; the others survive and are listed. Tests marked slow, gpu or distributed are left out unless --distributed
says otherwise. Called again with the same --out, it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[1]
# Package name -> its folder in the checkout, and that of its tests.
FOLDERS = {"losses": ("audiossl/losses", "tests/losses"), "transforms": ("transforms", "tests/transforms")}
MAPPED = ("transforms", "recipes", "pretrained")
PRELOADED = "torch torchaudio nnAudio.features librosa scipy.signal sklearn timm pytest hypothesis soundfile pywt"
MEMORY_BYTES = 24 * 2**30  # of address space: torch alone takes several GB of it


@dataclass(frozen=True)
class Module:
    """A module under test: its file in the tree, and the two rounds of arguments for pytest."""

    place: str
    rounds: tuple[list[str], list[str]]


def modules(package: str) -> list[Module]:
    """Return the modules of a package with the tests that guard them."""
    folder, tests = FOLDERS[package]
    name_of = {path: path.stem for path in sorted((ROOT / folder).glob("*.py"))}
    text_of = {path: path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    found = []
    for path, name in name_of.items():
        importers = {other.stem for other in name_of if f".{name} import" in other.read_text()}
        own = ROOT / tests / f"test_{name}.py"
        first = [f"tests/test_docs.py::test_examples_of_docstrings[audiossl.{package}.{name}]"]
        first = (first if ">>> " in path.read_text() else []) + ([str(own.relative_to(ROOT))] if own.exists() else [])
        wanted = {f"{package}.{one} import" for one in {name, *importers}}
        second = [str(test.relative_to(ROOT)) for test, text in text_of.items() if any(one in text for one in wanted)]
        found.append(Module(f"{folder}/{path.name}", (first, [test for test in second if test not in first])))
    return found


def copy_tree(tree: Path) -> None:
    """Copy what the tests need; the mapped packages are linked where plain Python finds them."""
    shutil.rmtree(tree, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", ".*", "build", "dist", "runs", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=ignored)
    for package in MAPPED:
        (tree / "audiossl" / package).symlink_to(Path("..") / package)
    shared = ROOT.parent / "shared"
    if shared.exists() and not (tree.parent / "shared").exists():
        (tree.parent / "shared").symlink_to(shared)


def failed(tests: list[str], limit_s: float, marks: str) -> str | None:
    """Run pytest in a fork; say why it failed, or None when all went well."""
    child = os.fork()
    if child == 0:
        _become_pytest(["-x", "-q", "-p", "no:cacheprovider", "-m", marks, *tests])
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return None if code in (0, 5) else "a test failed" if code == 1 else f"pytest ended with {code}"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "too slow"


def _become_pytest(arguments: list[str]) -> None:
    code = 70
    try:
        os.setsid()  # so that what a test started ends with it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        log = os.open("pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        import pytest

        code = int(pytest.main(arguments))
    finally:
        os._exit(code)


class Trial:
    """Mutants of one module, tried in the tree that is the working directory."""

    def __init__(self, module: Module, marks: str) -> None:
        self.module, self.marks = module, marks
        self.original = Path(module.place).read_text()
        self.limits_s = [self._limit_s(tests) for tests in module.rounds]

    def _limit_s(self, tests: list[str]) -> float:
        begun = time.monotonic()
        if tests and (why := failed(tests, 1800.0, self.marks)):
            log = Path("pytest.log").read_text()
            raise SystemExit(f"{self.module.place}: without a mutant, {why}:\n{log[-3000:]}")
        return 30.0 + 5 * (time.monotonic() - begun)

    def killer(self, mutant: Mutant) -> str | None:
        """Why the mutant was noticed, or None for a survivor."""
        Path(self.module.place).write_text(mutant.text)
        try:
            for tests, limit_s in zip(self.module.rounds, self.limits_s, strict=True):
                if tests and (why := failed(tests, limit_s, self.marks)):
                    return why
            return None
        finally:
            Path(self.module.place).write_text(self.original)


def chosen(packages: Iterable[str], sample: int | None, seed: int, only: str) -> list[tuple[Module, Mutant]]:
    """All mutants of the packages, or so many drawn from each, in the order of files and lines."""
    found: list[tuple[Module, Mutant]] = []
    for package in packages:
        every = [(one, m) for one in modules(package) for m in mutants((ROOT / one.place).read_text())]
        if sample is not None and sample < len(every):
            kept = sorted(random.Random(seed).sample(range(len(every)), sample))
            every = [every[i] for i in kept]
        found += [(one, mutant) for one, mutant in every if only in one.place]
    return found


def summary(out: Path) -> str:
    """Score and survivors of what was tried so far."""
    tried = [json.loads(line) for line in out.read_text().splitlines()]
    alive = [one for one in tried if one["killed_by"] is None]
    lines = [f"survives  {one['file']}:{one['mutant']}" for one in alive]
    for folder in sorted({one["file"].rpartition("/")[0] for one in tried}):
        here = [one["killed_by"] for one in tried if one["file"].startswith(folder)]
        n_killed = len(here) - here.count(None)
        lines.append(f"{folder}: {n_killed} of {len(here)} mutants killed, {100 * n_killed / len(here):.1f} %")
    return "\n".join(lines)


def main() -> None:
    """Try the mutants that the flags choose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="+", choices=sorted(FOLDERS))
    parser.add_argument("--sample", type=int, help="so many mutants of each package, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="NAME", help="of files with this in their path")
    parser.add_argument("--distributed", action="store_true", help="also run tests that start several processes")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutation.jsonl", help="one line a mutant")
    parser.add_argument("--tree", type=Path, default=ROOT / "build" / "mutation" / "tree", help="the copy to work in")
    flags = parser.parse_args()
    work = chosen(flags.packages, flags.sample, flags.seed, flags.only)
    copy_tree(flags.tree)
    flags.out = flags.out.resolve()
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    flags.out.touch()
    known = {(one["file"], one["mutant"]) for one in map(json.loads, flags.out.read_text().splitlines())}
    os.chdir(flags.tree)
    sys.path[0] = os.environ["PYTHONPATH"] = str(flags.tree.resolve())
    sys.dont_write_bytecode = True
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    for name in PRELOADED.split():
        importlib.import_module(name)
    marks = "not slow and not gpu" + ("" if flags.distributed else " and not distributed")
    trial: Trial | None = None
    for module, mutant in work:
        if (module.place, str(mutant)) in known:
            continue
        if trial is None or trial.module is not module:
            trial = Trial(module, marks)
        killer = trial.killer(mutant)
        with open(flags.out, "a") as file:
            file.write(json.dumps({"file": module.place, "mutant": str(mutant), "killed_by": killer}) + "\n")
    print(summary(flags.out))


if __name__ == "__main__":
    main()
