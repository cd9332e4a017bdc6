"""The menu, made from the lists of an index page: each heading a chapter, each link to a page an entry.

So that the lists stand once, where readers without the site see them too. A page that no list names yet joins the
chapter "What was measured" of the first page, or the only chapter of another index.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

HEADING = re.compile(r"^## (.+)$")
ENTRY = re.compile(r"^- \[[^\]]*\]\(([^)#\s]+)\.md\)")
UNLISTED = "What was measured"
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)")
# Files of the repository that are pages of the site under another name.
ELSEWHERE = {"CHANGELOG.md": "changelog", "README.md": "index"}


def chapters(text: str) -> dict[str, list[str]]:
    """The pages that the lists of an index name, by the heading above them; "" for lists above the first.

    >>> chapters("- [A](a.md): first\\n\\n## More\\n\\n- [B](b.md)\\n")
    {'': ['a'], 'More': ['b']}
    """
    found: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if match := HEADING.match(line):
            heading = match[1]
        elif match := ENTRY.match(line):
            found.setdefault(heading, []).append(match[1])
    return found


def menu(text: str, pages: list[str]) -> dict[str, list[str]]:
    """The chapters of an index, those `pages` included that it does not name."""
    named = chapters(text)
    known = {page for entries in named.values() for page in entries}
    if missing := sorted(set(pages) - known):
        home = UNLISTED if UNLISTED in named else next(reversed(named), UNLISTED)
        named[home] = [*named.get(home, []), *missing]
    return named


def with_menu(text: str, pages: list[str]) -> str:
    """The text of an index with its menu behind it, as Sphinx reads it."""
    trees = [
        "\n".join(["```{toctree}", ":hidden:", *([f":caption: {title}"] if title else []), "", *entries, "```"])
        for title, entries in menu(text, pages).items()
    ]
    return "\n\n".join([text.rstrip(), *trees]) + "\n"


def siblings(index: str, docnames: set[str]) -> list[str]:
    """The pages of an index's own folder, by their names in it.

    >>> siblings("api/index", {"index", "a", "api/index", "api/losses"})
    ['losses']
    """
    folder = PurePosixPath(index).parent
    here = (PurePosixPath(name) for name in docnames)
    return sorted(name.name for name in here if name.parent == folder and name.name != "index")


def within(text: str, docname: str) -> str:
    """The text of a page without links into the rest of the repository, of which the site knows nothing.

    >>> within("[how](../benchmarks/bench_map.py), [new](../CHANGELOG.md), [it](../export.md)", "api/map")
    '[how](../benchmarks/bench_map.py), [new](../CHANGELOG.md), [it](../export.md)'
    >>> within("[how](../benchmarks/bench_map.py), [new](../CHANGELOG.md)", "map")
    'how, [new](changelog.md)'
    """
    if PurePosixPath(docname).parent.name:  # of a folder below: one step up is still a page
        return text
    return LINK.sub(_without, text)


def _without(link: re.Match[str]) -> str:
    label, target, place = link.groups()
    page = ELSEWHERE.get(target.removeprefix("../"))
    return f"[{label}]({page}.md{place or ''})" if page else label


def _read(app: Any, docname: str, content: list[str]) -> None:
    content[0] = within(content[0], docname)
    if PurePosixPath(docname).name == "index":
        content[0] = with_menu(content[0], siblings(docname, app.env.found_docs))


def _indices(app: Any, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Read an index again where pages came or went."""
    names = {PurePosixPath(name).parent / "index" for name in added | removed}
    return [str(name) for name in names if (Path(app.srcdir) / f"{name}.md").is_file()]


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("env-get-outdated", _indices)
    return {"parallel_read_safe": True}
