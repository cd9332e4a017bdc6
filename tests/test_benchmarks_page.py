"""`benchmarks/run.py` puts what benchmarks print into a page and leaves everything else of it alone."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = "| | ms | ratio |\n|---|---:|---:|\n| ours | {} | 1 |"


def write_benchmark(folder: Path, name: str, code: str) -> None:
    (folder / f"bench_{name}.py").write_text(f'"""Sounds of {name}: how fast."""\n{code}\n')


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_benchmark(tmp_path, "one", f"print({TABLE.format('1.50')!r})")
    threads = "import os; print('threads', os.environ['OMP_NUM_THREADS'])"
    write_benchmark(tmp_path, "two", threads)
    return tmp_path


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text("# Speed\n\nBefore.\n\n<!-- one: begin -->\nold\n<!-- one: end -->\n\nAfter: 100 % \\1.\n")
    return path


@pytest.fixture
def timing(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("timing")


def test_a_whole_run_fills_the_parts_and_says_what_it_was_measured_on(folder: Path, page: Path):
    done = run("--folder", folder, "--into", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("# Speed\n\nBefore.\n\n<!-- one: begin -->\n*2")
    assert f" of CPU time.*\n\n{TABLE.format('1.50')}\n<!-- one: end -->\n\nAfter: 100 % \\1.\n" in text
    assert "## Sounds of two\n\n<!-- two: begin -->\n*2" in text  # a part that the page did not have
    assert "\nthreads 1\n<!-- two: end -->" in text
    machine = text.partition("<!-- machine: begin -->")[2].partition("<!-- machine: end -->")[0]
    for name in ("date | 2", "commit | ", "processor | ", "memory | ", "GPU | ", "torch | ", "librosa | "):
        assert f"| {name}" in machine


def test_one_benchmark_alone_replaces_its_own_part(folder: Path, page: Path):
    assert run("--folder", folder, "--into", page).returncode == 0
    before = page.read_text()
    write_benchmark(folder, "one", f"print({TABLE.format('9.75')!r})")
    assert run("one", "--folder", folder, "--into", page).returncode == 0
    took = re.compile(r"took .*")
    assert took.sub("", page.read_text()) == took.sub("", before.replace("1.50", "9.75"))


def test_a_benchmark_that_fails_leaves_its_part_and_the_others_go_on(folder: Path, page: Path):
    write_benchmark(folder, "one", "print('half a table')\nraise SystemExit('out of luck')")
    done = run("--folder", folder, "--into", page)
    assert done.returncode == 1
    assert "out of luck" in done.stderr
    assert "as they were: one" in done.stderr
    assert "<!-- one: begin -->\nold\n<!-- one: end -->" in page.read_text()
    assert "\nthreads 1\n<!-- two: end -->" in page.read_text()


def test_a_page_with_one_mark_alone_is_refused(folder: Path, page: Path):
    page.write_text("<!-- one: begin -->\n")
    assert run("one", "--folder", folder, "--into", page).returncode != 0
    assert page.read_text() == "<!-- one: begin -->\n"


def test_an_unknown_name_is_refused_with_the_known_ones(folder: Path):
    done = run("three", "--folder", folder)
    assert done.returncode == 2
    assert "no benchmark three; there are one, two" in done.stderr


def test_the_page_of_the_project_has_a_part_for_every_benchmark():
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    for path in sorted((ROOT / "benchmarks").glob("bench_*.py")):
        assert f"<!-- {path.stem.removeprefix('bench_')}: begin -->" in text


def test_every_bar_is_printed_with_its_verdict(timing: ModuleType, capsys: pytest.CaptureFixture[str]):
    limits = {("ours", "quick"): 1.0, ("ours", "even"): 0.5, ("ours", "slow"): 1 / 6, ("ours", "missing"): 0.3}
    timing.bars({"ours": 2.0, "quick": 1.0, "even": 4.0, "slow": 16.0}, limits)
    assert capsys.readouterr().out.split("\n\n")[1].splitlines() == [
        "- ours / quick: 2, bar <= 1: missed",
        "- ours / even: 0.5, bar <= 0.5: met",
        "- ours / slow: 0.125, bar <= 0.167: met",
        "- ours / missing: not measured here, bar <= 0.3",
    ]


def test_a_warm_comparison_calls_each_way_again_right_before_it_is_measured(timing: ModuleType):
    called: list[str] = []
    calls = {name: lambda name=name: called.append(name) for name in "ab"}
    timing.compare("", calls, "a", rounds=2, warm=True, quiet=True, device="cpu")
    assert "".join(called) == "ab" + 2 * "aabb"


def test_a_peer_without_gpu_code_says_so_beside_a_gpu(timing: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "DEVICE", "cpu")
    assert timing.on_cpu("pywt") == "pywt"
    monkeypatch.setattr(timing, "DEVICE", "cuda")
    assert timing.on_cpu("pywt") == "pywt (on the CPU)"
