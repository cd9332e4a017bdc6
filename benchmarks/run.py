"""Run benchmarks and put what they print into a page, each between marks of its own.

    python benchmarks/run.py --into docs/benchmarks.md            # all of them: what `make bench` does
    python benchmarks/run.py mel views --into docs/benchmarks.md  # these alone; the other parts stay as they were
    python benchmarks/run.py --list

Every benchmark is a process of its own, with one thread unless it says otherwise. The page is written after each, so
that an interrupted run keeps what it has measured; one that fails leaves its part as it was, and the exit code is 1.
`CLIPS=100000` in the environment adds the rows of a hundred thousand clips, which take half an hour more.
"""

from __future__ import annotations

import argparse
import ast
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import machine
import page

HERE = Path(__file__).resolve().parent
MACHINE = "machine"  # the part that says what all was measured on


def benchmarks(folder: Path) -> dict[str, Path]:
    """Every `bench_NAME.py` of a folder by its name."""
    return {path.stem.removeprefix("bench_"): path for path in sorted(folder.glob("bench_*.py"))}


def heading(path: Path) -> str:
    """The first sentence of a benchmark's docstring, up to a colon, for a part that the page does not have yet."""
    first = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or path.stem).partition("\n")[0]
    return first.partition(":")[0].rstrip(".")


def output(path: Path, into: Path | None) -> str:
    """What a benchmark prints; it is told the page (BENCH_PAGE), beside which its pictures lie.

    Raises CalledProcessError when it fails, its error output having been shown.
    """
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if into is not None:
        env["BENCH_PAGE"] = str(into.absolute())
    done = subprocess.run([sys.executable, str(path)], env=env, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def cpu_s() -> float:
    """CPU time of all benchmarks that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(name: str, path: Path, into: Path | None) -> None:
    """Run one benchmark; print it, or put it into the page with the line that says when and on what."""
    start, cpu_before = time.monotonic(), cpu_s()
    text = output(path, into)
    took = f"took {time.monotonic() - start:.0f} s, {cpu_s() - cpu_before:.0f} s of CPU time"
    told = f"*{machine.line()}; {took}.*"
    if into is None:
        print(f"\n## {name}\n\n{told}\n{text}", flush=True)
    else:
        page.put(into, name, f"{told}\n\n{text.strip()}", heading(path))


def main() -> None:
    """Run what was named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks, without bench_ and .py; all by default")
    parser.add_argument("--into", type=Path, help="page whose parts are replaced; printed without it")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the benchmarks are")
    parser.add_argument("--list", action="store_true", help="print the names, measure nothing")
    given = parser.parse_args()
    known = benchmarks(given.folder)
    if given.list:
        print("\n".join(known))
        return
    if unknown := sorted(set(given.names) - set(known)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    if given.into and not given.names:
        page.put(given.into, MACHINE, machine.table(), "Measured on")
    failed = []
    for name in given.names or known:
        start = time.monotonic()
        try:
            measure(name, known[name], given.into)
        except subprocess.CalledProcessError as error:
            failed.append(name)
            print(f"{name}: FAILED with code {error.returncode}", file=sys.stderr, flush=True)
        else:
            print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"these failed, and their parts are as they were: {', '.join(failed)}")


if __name__ == "__main__":
    main()
