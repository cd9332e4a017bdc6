"""Print the lowest versions that setup.cfg allows, as constraints for pip: `python .ci/lowest.py EXTRA ... > FILE`.

Only what setup.cfg names is pinned; what those packages need in turn is left to pip. A requirement without a lower
bound, such as a tool for developers, is left alone: there, any version is believed to do.
"""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def lowest_pins(setup_cfg: str, extras: tuple[str, ...]) -> list[str]:
    """Return `name==version` for each requirement that has a lower bound, with those of the extras, sorted."""
    parser = configparser.ConfigParser()
    parser.read_string(setup_cfg)
    lines = parser["options"]["install_requires"].splitlines()
    for extra in extras:
        lines += parser["options.extras_require"][extra].splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pins = {
        f"{requirement.name}=={bound.version}"
        for requirement in requirements
        for bound in requirement.specifier
        if bound.operator == ">="
    }
    return sorted(pins, key=str.lower)


if __name__ == "__main__":
    print(*lowest_pins((ROOT / "setup.cfg").read_text(), tuple(sys.argv[1:])), sep="\n")
