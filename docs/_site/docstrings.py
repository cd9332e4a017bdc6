"""The house's docstrings as reStructuredText, so that the site shows them as they are meant.

They are written to be read in the source: `x` is code, a star is a product, `name: text` on lines of their own is a
list, what is indented behind a colon stands as it is. Google's sections (Args, Returns, Raises) are left to napoleon.
"""

from __future__ import annotations

import re
from itertools import groupby

# What a paragraph begins with that is a list: name: ..., "value": ..., [0] a source.
ITEM = re.compile(r'^((?:"\w+"(?:, "\w+")*|[\w*]+(?:, [\w*]+)*)(?=:\s|\s+is )|\[\d+\])(.*)$')
SECTIONS = ("Args:", "Returns:", "Raises:", "Yields:", "Attributes:", "Note:")
CODE = re.compile(r"(`[^`]+`)")
OURS = re.compile(r"audiossl(\.\w+)+")


def as_rst(docstring: list[str]) -> list[str]:
    """The lines of a docstring, in reStructuredText.

    >>> as_rst(["Views of B clips.", "", "images: (V B, C, F, T),", "    one a size.", "boxes: see `crop`."])
    ['Views of B clips.', '', '- **images**: (V B, C, F, T), one a size.', '- **boxes**: see ``crop``.']
    >>> as_rst(["A line, hop * rate:", "", "    x = |a|"])
    ['A line, hop \\\\* rate:', '', '::', '', '    x = |a|']
    """
    lines: list[str] = []
    in_section = False
    before = ""
    for is_text, group in groupby(docstring, key=lambda line: bool(line.strip())):
        paragraph = list(group)
        if is_text:
            goes_on = in_section and paragraph[0].startswith(" ")
            in_section = goes_on or paragraph[0].strip() in SECTIONS
            if paragraph[0].strip() == "Example:":
                lines += ["Example::", "", *paragraph[1:]]
            elif before.endswith("::") or paragraph[0].lstrip().startswith(">>>"):
                lines += paragraph
            elif before.endswith(":") and paragraph[0].startswith("  ") and not in_section:
                lines += ["::", "", *paragraph]
            else:
                lines += _list(paragraph) if _is_list(paragraph) and not in_section else map(prose, paragraph)
            before = paragraph[-1]
        else:
            lines += paragraph
    return lines


def prose(line: str) -> str:
    """A line of text: code in double quotes, names of ours as references, and no character with a meaning of its own.

    >>> prose("`x` * 2 of `audiossl.heads`, and min_")
    '``x`` \\\\* 2 of :py:obj:`audiossl.heads`, and min\\\\_'
    """
    return "".join(_code(part) if CODE.fullmatch(part) else _plain(part) for part in CODE.split(line))


def _code(part: str) -> str:
    return f":py:obj:{part}" if OURS.fullmatch(part.strip("`")) else f"`{part}`"


def _plain(text: str) -> str:
    return re.sub(r"_(?!\w)", r"\\_", re.sub(r"([\\*|])", r"\\\1", text))


def _is_list(paragraph: list[str]) -> bool:
    """Whether a paragraph is made of items, each on a line that is not indented."""
    starts = [line for line in paragraph if not line.startswith(" ")]
    return bool(starts) and paragraph[0] == starts[0] and all(ITEM.match(line) for line in starts)


def _list(paragraph: list[str]) -> list[str]:
    items: list[str] = []
    for line in paragraph:
        if match := ITEM.match(line):
            name, text = match.groups()
            head = name if name.startswith("[") else f"**{_plain(name)}**"
            items.append(f"- {head}{prose(text)}")
        else:
            items[-1] += " " + prose(line.strip())
    return items
