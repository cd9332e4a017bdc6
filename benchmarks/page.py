"""A page of benchmarks: prose that stays, and parts between marks that are made anew.

A part is what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`, as in the other pages of docs/.
"""

from __future__ import annotations

import os
from pathlib import Path

TITLE = "# Benchmarks\n"


def parts(text: str) -> list[str]:
    """Names of the parts of a page, in their order."""
    return [line[5 : -len(": begin -->")] for line in text.splitlines() if _is_begin(line)]


def _is_begin(line: str) -> bool:
    return line.startswith("<!-- ") and line.endswith(": begin -->")


def replaced(text: str, name: str, content: str, heading: str) -> str:
    """The page with another content in one of its parts; a part that it lacks is put at its end, under a heading.

    Raises ValueError when only one of the two marks is there, or one of them twice.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    block = f"{begin}\n{content.strip()}\n{end}"
    counts = text.count(begin), text.count(end)
    if counts == (0, 0):
        return f"{text.rstrip()}\n\n## {heading}\n\n{block}\n"
    if counts != (1, 1) or text.index(begin) > text.index(end):
        raise ValueError(f"the marks {begin} and {end} must each be there once, in this order")
    return text[: text.index(begin)] + block + text[text.index(end) + len(end) :]


def put(page: Path, name: str, content: str, heading: str) -> None:
    """Write a part into the page, which appears whole or not at all; a page that is not there is begun."""
    text = page.read_text("utf-8") if page.exists() else TITLE
    beside = page.with_name(page.name + ".part")
    beside.write_text(replaced(text, name, content, heading), "utf-8")
    os.replace(beside, page)
