"""One schema for flags and files: the nested dataclasses of a recipe, over draccus.

A value comes from the dataclass, then from `--preset NAME` (a file that ships with the recipes), then from
`--config FILE.yaml`, then from flags `--a.b value`; the later one wins. Whatever does not fit is said in one
sentence that names the flag, or the file and its line.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import typing
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import draccus
import yaml

from audiossl.config_sources import Setting, alternatives, nearest, read_flags, read_yaml, type_name
from audiossl.errors import UserError

T = TypeVar("T")
TRUE_WORDS, FALSE_WORDS = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def parse(config_type: type[T], recipe: str, argv: Sequence[str] | None = None, preset: str | None = None) -> T:
    """Read a recipe's configuration from the command line.

    Args:
        config_type: the recipe's dataclass; its fields may be dataclasses again.
        recipe: name of the recipe, or its `__file__`; presets are `recipes/configs/<recipe>_<NAME>.yaml`.
        argv: the arguments without the program's name; `sys.argv[1:]` by default.
        preset: the preset that is taken when neither `--preset` nor `--config` is given.

    Raises `UserError` for a wrong flag, key or value, a missing file, or an unknown preset; `--help` prints
    and exits with code 0.
    """
    recipe = Path(recipe).stem
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--help" in arguments or "-h" in arguments:
        from audiossl.config_help import help_text  # imports this module

        print(help_text(config_type, recipe, presets(recipe), preset))
        raise SystemExit(0)
    files, flags = read_flags(leaves(config_type), arguments)
    if preset and not files:
        files = [("preset", preset)]
    settings = [setting for kind, name in files if kind == "preset" for setting in read_preset(recipe, name)]
    settings += [setting for kind, path in files if kind == "config" for setting in read_yaml(path)]
    return build(config_type, [*settings, *flags])


def load(config_type: type[T], path: str | os.PathLike[str]) -> T:
    """Read a configuration file; keys that it leaves out keep their defaults.

    Raises `UserError` naming the file and the line of what does not fit.
    """
    return build(config_type, read_yaml(path))


def save(config: Any, path: str | os.PathLike[str]) -> None:
    """Write a configuration as YAML; `load` (or `--config`) gives an equal one back.

    The file appears whole or not at all.
    """
    path = Path(path)
    beside = path.with_name(path.name + ".part")
    beside.write_text(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True), encoding="utf-8")
    os.replace(beside, path)


def to_dict(config: Any) -> dict[str, Any]:
    """Nested dictionaries of plain values (numbers, strings, lists, None).

    >>> from audiossl.run.config import RunConfig
    >>> to_dict(RunConfig())["precision"]
    'auto'
    """
    return draccus.encode(config)


def flatten(config: Any) -> dict[str, Any]:
    """One dictionary `{"a.b": value}` of plain values, in the order of the fields.

    >>> flatten({"lr": 0.1, "run": {"seed": 0, "trackers": []}})
    {'lr': 0.1, 'run.seed': 0, 'run.trackers': []}
    """

    def walk(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in tree.items():
            if isinstance(value, dict) and value:
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    return dict(walk(config if isinstance(config, dict) else to_dict(config), ""))


def presets(recipe: str) -> list[str]:
    """Names of the presets that ship with a recipe."""
    folder = resources.files("audiossl.recipes") / "configs"
    if not folder.is_dir():
        return []
    names = [file.name for file in folder.iterdir()]
    ours = [name for name in names if name.startswith(f"{recipe}_") and name.endswith(".yaml")]
    return sorted(name[len(recipe) + 1 : -len(".yaml")] for name in ours)


def read_preset(recipe: str, name: str) -> list[Setting]:
    """The settings of a preset; raises `UserError` naming the known ones when there is none of this name."""
    known = presets(recipe)
    if name not in known:
        listed = f"it has {', '.join(known)}" if known else "it has none"
        raise UserError(f"--preset {name}: the recipe {recipe} has no such preset; {listed}.")
    return read_yaml(str(resources.files("audiossl.recipes") / "configs" / f"{recipe}_{name}.yaml"))


def fields_of(config_type: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    """Fields of a dataclass with their resolved types."""
    hints = typing.get_type_hints(config_type)
    return [(field, hints[field.name]) for field in dataclasses.fields(config_type) if field.init]


def section_type(hint: Any) -> type | None:
    """The dataclass behind a field's type, if it is one."""
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def leaves(config_type: type) -> dict[str, Any]:
    """The settable keys `a.b` of a dataclass and their types."""
    found: dict[str, Any] = {}
    for field, hint in fields_of(config_type):
        section = section_type(hint)
        inner = {"": hint} if section is None else {f".{key}": leaf for key, leaf in leaves(section).items()}
        found |= {field.name + key: leaf for key, leaf in inner.items()}
    return found


def defaults(config_type: type) -> dict[str, Any]:
    """Default values as nested plain dictionaries; required fields are left out."""
    tree: dict[str, Any] = {}
    for field, hint in fields_of(config_type):
        if field.default is not dataclasses.MISSING:
            tree[field.name] = draccus.encode(field.default, hint)
        elif field.default_factory is not dataclasses.MISSING:
            tree[field.name] = draccus.encode(field.default_factory(), hint)
        elif section := section_type(hint):
            tree[field.name] = defaults(section)
    return tree


def build(config_type: type[T], settings: Iterable[Setting]) -> T:
    """Put settings over the defaults, the later one winning.

    Each value is checked by itself, so that the `UserError` for a wrong one names its place.
    """
    known = leaves(config_type)
    tree = defaults(config_type)
    places: dict[str, str] = {}
    for setting in settings:
        if setting.key not in known:
            raise UserError(_unknown(setting, known))
        places[setting.key] = setting.source
        *sections, name = setting.key.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        branch[name] = _decoded(known[setting.key], setting)
    given = flatten(tree)
    missing = [key for key in known if not any(name == key or name.startswith(f"{key}.") for name in given)]
    if missing:
        raise UserError(f"--{missing[0]} is required ({type_name(known[missing[0]])}) and was not given.")
    try:
        return draccus.decode(config_type, tree)
    except Exception as error:  # draccus wraps what a dataclass's own check says; people want that sentence
        raise UserError(_own_check(error, places)) from None


def _unknown(setting: Setting, known: dict[str, Any]) -> str:
    inner = [key for key in known if key.startswith(f"{setting.key}.")]
    if inner:
        return f"{setting.source}: {setting.key} is a section; give values to its keys, such as {inner[0]}."
    return f"{setting.source}: there is no key {setting.key}{nearest(setting.key, known)}"


def _decoded(hint: Any, setting: Setting) -> Any:
    """One value in the plain form of its type; raises `UserError` when it is not of that type."""
    kinds, value = alternatives(hint), setting.value
    problem = f"{setting.source}: {setting.key} must be {type_name(hint)}, found "
    if value is None and type(None) not in kinds and Any not in kinds:
        raise UserError(f"{problem}none.")
    if bool in kinds and isinstance(value, str | int) and str(value).lower() in TRUE_WORDS + FALSE_WORDS:
        value = str(value).lower() in TRUE_WORDS
    if isinstance(value, bool) and not {bool, str, Any} & set(kinds):  # int(True) is 1: not what was meant
        raise UserError(f"{problem}{value!r}.")
    if isinstance(value, dict | list) and kinds[0] in (str, int, float, bool):  # str([1]) would pass as text
        raise UserError(f"{problem}{value!r}.")
    try:
        return draccus.encode(draccus.decode(hint, value), hint)
    except Exception:  # draccus raises several kinds for a value that does not fit, bare Exception too
        choices = [str(choice) for choice in typing.get_args(hint)]
        near = nearest(str(value), choices) if typing.get_origin(hint) is typing.Literal else "."
        raise UserError(f"{problem}{value!r}{near if 'did you mean' in near else '.'}") from None


def _own_check(error: BaseException, places: dict[str, str]) -> str:
    """The sentence of a dataclass's `__post_init__`, with the file and line of the key that it names."""
    while error.__cause__ is not None:
        error = error.__cause__
    in_files = [place for key, place in places.items() if not place.startswith("--") and key in str(error)]
    return f"{in_files[0]}: {error}" if in_files else str(error)
