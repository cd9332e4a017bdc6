"""Where settings are written: YAML files with their lines, flags of a command line; and types in words."""

from __future__ import annotations

import dataclasses
import difflib
import io
import os
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from audiossl.errors import UserError
from audiossl.reading import check_yaml, yaml_text


@dataclasses.dataclass(frozen=True)
class Setting:
    """One value that somebody wrote: its key `a.b`, the raw value, and where it stands."""

    key: str
    value: Any
    source: str  # "--a.b" or "file.yaml line 3"


def nearest(key: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean ...?` for a misspelt name, or where to find all of them when no name is near.

    >>> nearest("run.epoch", ["run.epochs", "run.seed"], "--")
    '; did you mean --run.epochs?'
    >>> nearest("epochs", ["run.epochs", "run.seed"])
    '; did you mean run.epochs?'
    """
    names = list(known)
    by_last_word = {name.rsplit(".", 1)[-1]: name for name in reversed(names)}
    last_word = key.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.75)
    if not close and last_word in by_last_word:  # the right word in the wrong section, or the section left out
        close = [by_last_word[last_word]]
    close = close or difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    close = close or [by_last_word[word] for word in difflib.get_close_matches(last_word, by_last_word, n=1)]
    return f"; did you mean {prefix}{close[0]}?" if close else "; --help lists all of them."


def read_yaml(path: str | os.PathLike[str]) -> list[Setting]:
    """The settings of a YAML file, each with its line.

    Raises `UserError` for a missing file, one that is not YAML or no mapping, and a key that stands twice.
    """
    try:
        text = yaml_text(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        if isinstance(error, UnicodeDecodeError):
            reason = "it is not UTF-8 text"
        raise UserError(f"--config {path} cannot be read ({reason}); give the path of a YAML file.") from None
    try:
        loader = yaml.SafeLoader(io.StringIO(text))
        root = loader.get_single_node()
        check_yaml(root)
        if root is None:
            return []
        if not isinstance(root, yaml.MappingNode):
            raise UserError(f"{path} line 1: keys and values are needed here, such as `run: {{epochs: 10}}`.")
        return list(_settings_of(loader, root, "", str(path)))
    except UserError:
        raise
    except RecursionError:
        raise UserError(f"{path}: this is nested too deeply; correct it.") from None
    # A date such as 2024-99-99 is a ValueError, and a tag on a value of another kind anything.
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise UserError(f"{path}{line}: this is not YAML ({problem}); correct it.") from None


def _settings_of(loader: yaml.SafeLoader, node: yaml.MappingNode, prefix: str, path: str) -> Iterator[Setting]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        source = f"{path} line {key_node.start_mark.line + 1}"
        key = f"{prefix}{key_node.value}"
        if key in seen:
            raise UserError(f"{source}: the key {key} stands twice; keep one.")
        seen.add(key)
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            yield from _settings_of(loader, value_node, f"{key}.", path)
        else:
            yield Setting(key, loader.construct_object(value_node, deep=True), source)


def read_flags(known: dict[str, Any], arguments: list[str]) -> tuple[list[tuple[str, str]], list[Setting]]:
    """Split a command line into files [("preset" or "config", value)] and settings.

    Args:
        known: the settable keys `a.b` and their types.
        arguments: words in the forms `--a.b value`, `--a.b=value`, `--switch`, `--list a b`, `--list a,b`.

    Raises `UserError` for an unknown flag, a flag without its value or with too many.
    """
    files: list[tuple[str, str]] = []
    settings: list[Setting] = []
    position = 0
    while position < len(arguments):
        flag, equals, inline = arguments[position].partition("=")
        if not flag.startswith("--") or flag == "--":
            raise UserError(f"{arguments[position]!r} belongs to no flag; flags look like --run.epochs 10.")
        key = flag[2:]
        position += 1
        values = [inline] if equals else []
        while not equals and position < len(arguments) and not arguments[position].startswith("--"):
            values.append(arguments[position])
            position += 1
        if key in ("preset", "config"):
            if len(values) != 1 or not values[0]:
                what = "the name of a preset" if key == "preset" else "the path of a YAML file"
                raise UserError(f"--{key} takes {what}, found {' '.join(values) or 'nothing'}.")
            files.append((key, values[0]))
        elif key not in known:
            raise UserError(f"--{key}: there is no such flag{nearest(key, [*known, 'preset', 'config'], '--')}")
        else:
            settings.append(Setting(key, _flag_value(key, known[key], values), f"--{key}"))
    return files, settings


def _flag_value(key: str, hint: Any, values: list[str]) -> Any:
    """The raw value of a flag: a bare flag is true, several words are a list, text stays as it was typed."""
    kinds = alternatives(hint)
    if not values:
        if bool in kinds:
            return True
        raise UserError(f"--{key} needs a value ({type_name(hint)}).")
    if any(typing.get_origin(kind) in (list, tuple) for kind in kinds):
        if len(values) == 1 and values[0].lstrip().startswith("["):
            return _yaml_value(values[0])
        words = values[0].split(",") if len(values) == 1 else values
        return [_yaml_value(word) for word in words if word]
    if len(values) > 1:
        raise UserError(f"--{key} takes one value ({type_name(hint)}), found {' '.join(values)}.")
    if any(values[0] in typing.get_args(kind) for kind in kinds if typing.get_origin(kind) is typing.Literal):
        return values[0]  # "none" may be one of the choices
    is_none = values[0] in ("none", "null", "None") and type(None) in kinds
    return values[0] if str in kinds and not is_none else _yaml_value(values[0])


def _yaml_value(text: str) -> Any:
    if text in ("none", "None"):
        return None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the type alone."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def type_name(hint: Any) -> str:
    """A type in words that fit a command line.

    >>> from typing import Literal
    >>> type_name(float | None), type_name(list[str]), type_name(Literal["mel", "stft"])
    ('float or none', 'list of text', 'mel|stft')
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(part) for part in parts)
    if origin is typing.Literal:
        return "|".join(str(part) for part in parts)
    if origin in (list, tuple):
        return "list of " + type_name(parts[0]) if parts else "list"
    names = {bool: "true|false", str: "text", type(None): "none", int: "int", float: "float"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))
