"""Put the table of a comparison into a page, between two marks.

    python benchmarks/include_comparison.py compared/methods --into docs/comparison.md --mark methods

The page must hold `<!-- MARK: begin -->` and `<!-- MARK: end -->`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from summarise_runs import show


def main() -> None:
    """Print the table, or put it into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path, help="folder that recipes/compare.py wrote (its --out)")
    parser.add_argument("--into", type=Path, help="page whose marked part is replaced")
    parser.add_argument("--mark", default="compared", help="name of that part")
    given = parser.parse_args()
    show((given.comparison / "comparison.md").read_text("utf-8").rstrip(), given.into, given.mark)


if __name__ == "__main__":
    main()
