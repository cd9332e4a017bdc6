"""API pages from docstrings: a block `{modules}` names modules, and each becomes a section with what is in it.

Settings of a dataclass are explained by the comments at its fields, which `--help` prints; here they become a table.
"""

from __future__ import annotations

import builtins
import dataclasses
import importlib
import re
from typing import Any

from sphinx.addnodes import pending_xref
from sphinx.ext.napoleon import Config, GoogleDocstring

from _site.docstrings import as_rst, prose

BLOCK = re.compile(r"^```\{modules\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GOOGLE = Config(napoleon_numpy_docstring=False)
SECTION = """\
## {name}

```{{eval-rst}}
.. automodule:: {name}
   :members:
```
"""


def modules_of(text: str) -> list[str]:
    """The modules that the blocks of a page name.

    >>> modules_of("# Losses\\n\\n```{modules}\\naudiossl.heads\\naudiossl.optim\\n```\\n")
    ['audiossl.heads', 'audiossl.optim']
    """
    return [name for block in BLOCK.findall(text) for name in block.split()]


def with_sections(text: str) -> str:
    """The text of a page with a section in the place of each name."""
    return BLOCK.sub(lambda block: "\n".join(SECTION.format(name=name) for name in block[1].split()), text)


def settings(config_type: type) -> list[str]:
    """The fields of a dataclass as a table of name, default and comment; nothing where no field has a comment."""
    from audiossl.config_help import field_comments

    comments = field_comments(config_type)
    if not any(comments.values()):
        return []
    lines = [
        ".. list-table::",
        "   :header-rows: 1",
        "   :widths: auto",
        "",
        "   * - setting",
        "     - default",
        "     -",
    ]
    for fields in _rows([field for field in dataclasses.fields(config_type) if field.init], comments):
        names = ", ".join(f"``{field.name}``" for field in fields)
        values = ", ".join(map(_default, fields))
        lines += [f"   * - {names}", f"     - {values}", f"     - {prose(comments.get(fields[0].name, ''))}"]
    return [*lines, ""]


def _rows(fields: list[dataclasses.Field[Any]], comments: dict[str, str]) -> list[list[dataclasses.Field[Any]]]:
    """Fields with those behind them that have no comment of their own: theirs is the one above."""
    rows: list[list[dataclasses.Field[Any]]] = []
    for field in fields:
        if rows and not comments.get(field.name):
            rows[-1].append(field)
        else:
            rows.append([field])
    return rows


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"``{field.default!r}``"
    if field.default_factory is dataclasses.MISSING:
        return "required"
    made = field.default_factory()
    return f"{type(made).__name__}" if dataclasses.is_dataclass(made) else f"``{made!r}``"


def _docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst(lines)
    if what not in ("attribute", "property"):  # of which napoleon takes all before a colon for the type
        lines[:] = GoogleDocstring(lines, GOOGLE, app, what, name, obj, options).lines()
    if what == "class" and dataclasses.is_dataclass(obj) and obj.__module__ == name.rpartition(".")[0]:
        lines += ["", *settings(obj)]


def _signature(app: Any, what: str, name: str, obj: Any, *_: Any) -> tuple[str, None] | None:
    """No signature where the table says the same with a reason beside each number."""
    if what == "class" and dataclasses.is_dataclass(obj) and settings(obj):
        return "", None
    return None


def _read(app: Any, docname: str, content: list[str]) -> None:
    for name in modules_of(content[0]):
        importlib.import_module(name)  # what cannot be imported ends the build here, and not as a gap in a page
    content[0] = with_sections(content[0])


def _built_in(app: Any, doctree: Any) -> None:
    """`type` in a signature is Python's, though a class of ours has a property of that name."""
    for node in list(doctree.findall(pending_xref)):
        if node.get("refdomain") == "py" and hasattr(builtins, node["reftarget"]):
            node.replace_self(node.children)


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    app.connect("doctree-read", _built_in)
    return {"parallel_read_safe": True}
