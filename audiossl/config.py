"""One schema for flags and files: the nested dataclasses of a recipe, over draccus.

A value comes from the dataclass, then from `--preset NAME` (a file that ships with the recipes), then from
`--config FILE.yaml`, then from flags `--a.b value`; the later one wins. Whatever does not fit is said in one
sentence that names the flag, or the file and its line.

A section may have several types (`--frontend.type cqt`): a dataclass that is a `draccus.ChoiceRegistry`. Its keys are
then those of the chosen type, and what a preset or file says of another type's keys is dropped.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import draccus
import yaml

from audiossl.config_sources import Setting, alternatives, nearest, read_flags, read_yaml, type_name
from audiossl.errors import UserError

T = TypeVar("T")
Chosen = Mapping[str, str]  # key of a section of several types -> name of its type
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

        print(help_text(config_type, recipe, presets(recipe), preset, type_flags(config_type, arguments)))
        raise SystemExit(0)
    files, flags = read_flags(leaves_of_all_types(config_type), arguments)
    flags.sort(key=lambda setting: not setting.key.endswith(".type"))  # first: the other flags are meant for it
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


def type_names(hint: Any) -> tuple[str, ...]:
    """Names of the types of a section that has several; empty for any other field."""
    has_types = isinstance(hint, type) and issubclass(hint, draccus.ChoiceRegistry)
    return tuple(hint.get_known_choices()) if has_types else ()


def section_of(field: dataclasses.Field[Any], hint: Any, place: str, chosen: Chosen) -> type | None:
    """The dataclass that holds the keys below `place`: of several types the chosen one, else the field's default."""
    section = section_type(hint)
    if section is None or not type_names(hint):
        return section
    if place in chosen:
        return hint.get_choice_class(chosen[place])
    assert field.default_factory is not dataclasses.MISSING, "a section of several types needs a default"
    return type(field.default_factory())


def leaves(config_type: type, chosen: Chosen = {}, prefix: str = "") -> dict[str, Any]:  # noqa: B006 (never changed)
    """The settable keys `a.b` of a dataclass and their types."""
    found: dict[str, Any] = {}
    for field, hint in fields_of(config_type):
        place = prefix + field.name
        section = section_of(field, hint, place, chosen)
        if names := type_names(hint):
            found[f"{place}.type"] = typing.Literal[names]
        found |= {place: hint} if section is None else leaves(section, chosen, f"{place}.")
    return found


def sections_of_types(config_type: type, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """The sections that have several types, and the names of these."""
    found: dict[str, tuple[str, ...]] = {}
    for field, hint in fields_of(config_type):
        if names := type_names(hint):
            found[prefix + field.name] = names
        elif section := section_type(hint):
            found |= sections_of_types(section, f"{prefix}{field.name}.")
    return found


def leaves_of_all_types(config_type: type) -> dict[str, Any]:
    """The settable keys whatever types are chosen."""
    found: dict[str, Any] = {}
    for place, names in sections_of_types(config_type).items():
        for name in names:
            found |= leaves(config_type, {place: name})
    return found | leaves(config_type)


def chosen_types(config_type: type, settings: Iterable[Setting]) -> dict[str, str]:
    """The types that settings choose, the last one winning; names that do not exist are left out."""
    known = sections_of_types(config_type)
    pairs = ((setting.key.removesuffix(".type"), setting) for setting in settings if setting.key.endswith(".type"))
    return {place: str(setting.value) for place, setting in pairs if str(setting.value) in known.get(place, ())}


def type_flags(config_type: type, arguments: list[str]) -> list[Setting]:
    """The types that a command line chooses, whatever else stands on it."""
    found = []
    for place in sections_of_types(config_type):
        flag = f"--{place}.type"
        for word, following in zip(arguments, [*arguments[1:], ""], strict=True):
            name, _, inline = word.partition("=")
            if name == flag:
                found.append(Setting(f"{place}.type", inline or following, flag))
    return found


def _without_dropped(config_type: type, settings: list[Setting], known: dict[str, Any]) -> Iterator[Setting]:
    """Leave out what was said of a section's type before another type was chosen, where that has no such key."""
    for number, setting in enumerate(settings):
        before = leaves(config_type, chosen_types(config_type, settings[: number + 1]))
        if setting.key in known or setting.key not in before:
            yield setting


def defaults(config_type: type, chosen: Chosen = {}, prefix: str = "") -> dict[str, Any]:  # noqa: B006
    """Default values as nested plain dictionaries; required fields are left out."""
    tree: dict[str, Any] = {}
    for field, hint in fields_of(config_type):
        place = prefix + field.name
        section = section_of(field, hint, place, chosen)
        if place in chosen and section is not None:
            tree[field.name] = draccus.encode(section(), hint)
        elif field.default is not dataclasses.MISSING:
            tree[field.name] = draccus.encode(field.default, hint)
        elif field.default_factory is not dataclasses.MISSING:
            tree[field.name] = draccus.encode(field.default_factory(), hint)
        elif section is not None:
            tree[field.name] = defaults(section, chosen, f"{place}.")
    return tree


def build(config_type: type[T], settings: Iterable[Setting]) -> T:
    """Put settings over the defaults, the later one winning.

    Each value is checked by itself, so that the `UserError` for a wrong one names its place.
    """
    settings = list(settings)
    chosen = chosen_types(config_type, settings)
    known = leaves(config_type, chosen)
    tree = defaults(config_type, chosen)
    places: dict[str, str] = {}
    for setting in _without_dropped(config_type, settings, known):
        if setting.key not in known:
            raise UserError(_unknown(setting, known, chosen))
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


def _unknown(setting: Setting, known: dict[str, Any], chosen: Chosen) -> str:
    section, _, name = setting.key.rpartition(".")
    if section in chosen:
        keys = [key.rpartition(".")[2] for key in known if key.startswith(f"{section}.")]
        return f"{setting.source}: {section}.type {chosen[section]} has no {name}; it has {', '.join(keys)}."
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
