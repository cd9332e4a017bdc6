"""The lowest versions that setup.cfg allows: what is pinned for trying them, and that there is something to pin."""

import configparser
import runpy
import subprocess
from pathlib import Path

from packaging.requirements import Requirement

CI = Path(__file__).parents[2] / ".ci"
LOWEST = runpy.run_path(str(CI / "lowest.py"))
EXAMPLE = """
[options]
install_requires =
    torch>=2.11,<2.15,!=2.13.0
    numpy>=1.26
[options.extras_require]
# why
dev =
    Build>=1
    pytest
rare =
    never>=9
"""


def test_the_lower_bound_of_each_requirement_is_pinned_and_the_others_are_free():
    assert LOWEST["lowest_pins"](EXAMPLE, ("dev",)) == ["Build==1", "numpy==1.26", "torch==2.11"]
    assert LOWEST["lowest_pins"](EXAMPLE, ()) == ["numpy==1.26", "torch==2.11"]


def test_whatever_users_install_has_a_lower_bound():
    parser = configparser.ConfigParser()
    parser.read(CI.parent / "setup.cfg")
    lines = parser["options"]["install_requires"].splitlines()
    for extra, more in parser["options.extras_require"].items():
        lines += more.splitlines() if extra != "dev" else []
    unbounded = [line for line in lines if line and not any(s.operator == ">=" for s in Requirement(line).specifier)]
    assert not unbounded


def test_other_words_are_refused_before_anything_is_made():
    given = subprocess.run(["bash", CI / "bounds.sh", "oldest"], capture_output=True, text=True)
    assert (given.returncode, given.stderr[:6]) == (2, "usage:")
    assert not (CI.parent / ".venv-oldest").exists()
