"""The text of `--help`: every flag of a recipe by section, with its default and the comment at its field."""

from __future__ import annotations

import ast
import inspect
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from audiossl import config as config_files
from audiossl.config_sources import Setting, type_name

Rows = list[tuple[str, str]]


def help_text(
    config_type: type,
    recipe: str,
    presets: list[str],
    preset: str | None = None,
    types: Sequence[Setting] = (),
) -> str:
    """What a recipe prints for `--help`: usage, where values come from, all flags by section, of the chosen `types`."""
    taken = f"; without this flag and --config: {preset}" if preset else ""
    width = max(60, min(shutil.get_terminal_size().columns, 110))
    about = _about(config_type)
    files = [
        ("--preset NAME", f"settings that ship with the recipe: {', '.join(presets) or 'it has none'}{taken}"),
        ("--config FILE.yaml", "settings from a file, such as the config.yaml of an earlier run"),
        ("--help", "this text"),
    ]
    lines = [
        f"usage: {recipe}.py [--preset NAME] [--config FILE.yaml] [--section.name VALUE ...]",
        *(["", *textwrap.wrap(about, width)] if about else []),
        "",
        *textwrap.wrap(
            "The later one wins: default, preset, file, flag. A true|false flag alone means true; "
            "a list is given as a,b or as words. Defaults stand in brackets.",
            width,
        ),
        *_table(files, width),
    ]
    chosen = config_files.chosen_types(config_type, types)
    shown = config_files.defaults(config_type, chosen)
    if preset:
        filled: Any = config_files.build(config_type, [*config_files.read_preset(recipe, preset), *types])
        shown = config_files.to_dict(filled)
    sections = _sections(config_type, shown, chosen, "", "settings of the recipe")
    for title, rows in sections:
        lines += ["", title, *_table(rows, width)]
    return "\n".join(lines)


def _sections(
    config_type: type, defaults: dict[str, Any], chosen: config_files.Chosen, prefix: str, title: str
) -> Iterator[tuple[str, Rows]]:
    """A dataclass's own fields, then each section in it: (title, rows)."""
    comments = field_comments(config_type)
    rows, inner = [], []
    if names := config_files.type_names(config_type):
        text = (
            f"One of {', '.join(names)}. The keys below are those of this type; `--{prefix}type NAME --help` shows "
            f"another's. [{defaults['type']}]"
        )
        rows.append((f"--{prefix}type NAME", text))
    for field, hint in config_files.fields_of(config_type):
        section = config_files.section_of(field, hint, prefix + field.name, chosen)
        if section is not None:
            inner.append((field.name, section))
            continue
        default = f"[{_shown(defaults[field.name])}]" if field.name in defaults else "(required)"
        text = f"{comments.get(field.name, '')} {default}".strip()
        rows.append((f"--{prefix}{field.name} {type_name(hint)}", text))
    if rows:
        yield title, rows
    for name, section in inner:
        about = _about(section)
        heading = f"{prefix}{name}: {about}" if about else f"{prefix}{name}:"
        yield from _sections(section, defaults.get(name, {}), chosen, f"{prefix}{name}.", heading)


def field_comments(config_type: type) -> dict[str, str]:
    """The comment of each field: behind it on its line, else on the lines right above it."""
    found: dict[str, str] = {}
    for owner in reversed(config_type.__mro__[:-1]):
        try:
            lines = textwrap.dedent(inspect.getsource(owner)).splitlines()
            body = ast.parse("\n".join(lines)).body[0]
        except (OSError, TypeError, SyntaxError):  # a class made at run time has no source
            continue
        for node in body.body if isinstance(body, ast.ClassDef) else []:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                last = node.end_lineno or node.lineno
                behind = lines[last - 1].encode()[node.end_col_offset :].decode().strip()
                comment = behind.lstrip("# ") if behind.startswith("#") else _above(lines, node.lineno - 1)
                found[node.target.id] = comment
    return found


def _above(lines: list[str], index: int) -> str:
    block: list[str] = []
    while index > 0 and lines[index - 1].strip().startswith("#"):
        index -= 1
        block.insert(0, lines[index].strip().lstrip("# "))
    return " ".join(block)


def _about(config_type: type) -> str:
    """First sentence of a dataclass's own docstring; not the one that dataclasses makes up."""
    text = (inspect.getdoc(config_type) or "").strip().partition("\n\n")[0].replace("\n", " ")
    return "" if text.startswith(f"{config_type.__name__}(") else text


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _table(rows: Rows, width: int) -> list[str]:
    """Two columns; a flag that is too long for its column gets a line of its own."""
    column = 36
    lines = []
    for flag, text in rows:
        wrapped = textwrap.wrap(text, width - column) or [""]
        if len(flag) + 4 > column:
            lines.append(f"  {flag}")
            flag = ""
        lines.append(f"  {flag}".ljust(column) + wrapped[0])
        lines += [" " * column + line for line in wrapped[1:]]
    return lines
