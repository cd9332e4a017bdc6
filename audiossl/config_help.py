"""The text of `--help`: every flag of a recipe by section, with its default and the comment beside its field."""

from __future__ import annotations

import inspect
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

from draccus.wrappers.docstring import get_attribute_docstring, get_preferred_help_text

from audiossl import config as config_files


def help_text(config_type: type, recipe: str, presets: list[str]) -> str:
    """What a recipe prints for `--help`: usage, the recipe in a sentence, where values come from, all flags by section."""
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    about = (inspect.getdoc(config_type) or "").strip()
    lines = [f"usage: {recipe}.py [--preset NAME] [--config FILE.yaml] [--section.name VALUE ...]", ""]
    lines += (
        [*textwrap.wrap(about, width), ""]
        if about and not about.startswith(f"{config_type.__name__}(")
        else []
    )
    named = ", ".join(presets) or "none for this recipe"
    files = [
        ("--preset NAME", f"settings that ship with the recipe: {named}"),
        ("--config FILE.yaml", "settings from a file, such as the config.yaml of an earlier run"),
        ("--help", "this text"),
    ]
    lines += ["Later ones win: default, preset, file, flag. A flag alone means true; lists: --name a,b."]
    lines += _table(files, width)
    for title, rows in _sections(config_type):
        lines += ["", title, *_table(rows, width)]
    return "\n".join(lines)


def _sections(config_type: type, prefix: str = "") -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(title, rows) of a dataclass's own fields, then of each section in it."""
    defaults = config_files.defaults(config_type)
    yield from _walk(config_type, defaults, prefix, "settings of the recipe")


def _walk(
    config_type: type, defaults: Any, prefix: str, title: str
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    rows, inner = [], []
    for field, hint in config_files.fields_of(config_type):
        section = config_files.section_type(hint)
        if section is not None:
            inner.append((field.name, section))
            continue
        kind = config_files.type_name(hint)
        comment = get_preferred_help_text(get_attribute_docstring(config_type, field.name)) or ""
        default = f"[{_shown(defaults[field.name])}]" if field.name in defaults else "(required)"
        rows.append((f"--{prefix}{field.name} {kind}", f"{comment} {default}".strip()))
    if rows:
        yield title, rows
    for name, section in inner:
        about = (inspect.getdoc(section) or "").strip().splitlines()
        sentence = about[0] if about and not about[0].startswith(f"{section.__name__}(") else ""
        heading = f"{prefix}{name}: {sentence}" if sentence else f"{prefix}{name}:"
        yield from _walk(section, defaults.get(name, {}), f"{prefix}{name}.", heading)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: list[tuple[str, str]], width: int) -> list[str]:
    """Two columns; a flag that is too long for its column gets a line of its own."""
    column = 34
    lines = []
    for flag, text in rows:
        wrapped = textwrap.wrap(text, width - column) or [""]
        if len(flag) + 3 > column:
            lines.append(f"  {flag}")
            flag = ""
        lines += [f"  {flag}".ljust(column) + wrapped[0], *(" " * column + line for line in wrapped[1:])]
    return lines
