"""Tables of measures, as Markdown that can be read as it stands."""

from __future__ import annotations


def text_table(head: list[str], rows: list[list[str]]) -> str:
    """A table with columns of equal width: the first one's words to the left, all others' numbers to the right.

    >>> print(text_table(["network", "exact"], [["encoder", "12.5"], ["random", "3.1"]]))
    | network | exact |
    | ---     |  ---: |
    | encoder |  12.5 |
    | random  |   3.1 |
    """
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    pad = [str.ljust, *[str.rjust] * (len(head) - 1)]
    return "\n".join(
        "| " + " | ".join(f(cell, n) for f, cell, n in zip(pad, line, widths, strict=True)) + " |" for line in lines
    )
