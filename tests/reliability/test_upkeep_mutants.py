"""The mistakes that the mutation run plants: each is one, is a program, and is noticed by the tests that guard it."""

import ast
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MUTANTS = runpy.run_path(str(ROOT / ".ci" / "mutants.py"))["mutants"]
EXAMPLE = '''
"""2 documents."""
__all__ = ["f"]


def f(x: int = 3) -> float:
    """3 documents."""
    assert x > 0
    if x < 4 and not x:
        raise ValueError(f"{x + 1} is 5 too many")
    x.sort(key=len)
    return x.sum(dim=1) * 2.0
'''


def test_every_operator_constant_condition_call_and_result_is_changed_once():
    assert [str(mutant).partition(": ")[2] for mutant in MUTANTS(EXAMPLE)] == [
        "3  ->  4",
        "if x < 4 and (not x)  ->  if not (x < 4 and (not x))",
        "x < 4 and (not x)  ->  x < 4 or not x",
        "x < 4  ->  x <= 4",
        "4  ->  5",
        "not x  ->  x",
        "x.sort(key=len)  ->  pass",
        "x.sort(key=len)  ->  x.sort()",
        "return x.sum(dim=1) * 2.0  ->  return None",
        "x.sum(dim=1) * 2.0  ->  x.sum(dim=1) / 2.0",
        "x.sum(dim=1)  ->  x.sum()",
        "x.sum(dim=1)  ->  x.mean(dim=1)",
        "1  ->  2",
        "2.0  ->  4.0",
    ]


@pytest.mark.parametrize("place", ["audiossl/losses/koleo.py", "transforms/crop.py"])
def test_mutants_of_a_module_are_programs_that_differ(place):
    text = (ROOT / place).read_text()
    found = [mutant.text for mutant in MUTANTS(text)]
    assert len(found) > 20
    assert len({ast.dump(ast.parse(one)) for one in [*found, text]}) == len(found) + 1


@pytest.mark.slow
def test_the_run_kills_most_mutants_of_a_loss_and_goes_on_where_it_was_stopped(tmp_path):
    out = tmp_path / "tried.jsonl"
    command = [sys.executable, ROOT / ".ci" / "mutation.py", "losses", "--only", "cosine", "--out", out]
    command += ["--tree", tmp_path / "tree"]
    for _ in range(2):
        said = subprocess.run(command, capture_output=True, text=True)
        assert said.returncode == 0, said.stdout[-2000:] + said.stderr[-2000:]
        tried = [json.loads(line) for line in out.read_text().splitlines()]
        assert len(tried) == len(MUTANTS((ROOT / "audiossl/losses/cosine.py").read_text()))
        assert sum(one["killed_by"] is not None for one in tried) >= 0.8 * len(tried)
        out.write_text("\n".join(out.read_text().splitlines()[:-2]) + "\n")
