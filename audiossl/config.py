"""One schema for flags and files: the nested dataclasses of a recipe, over draccus.

A value comes from the dataclass, then from `--preset NAME` (a file that ships with the recipes), then from `--config FILE.yaml`, then from
flags `--a.b value`; the later one wins. Whatever does not fit is said in one sentence that names the flag, or the file and its line.
"""

from __future__ import annotations

import dataclasses
import difflib
import io
import os
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import draccus
import yaml

from audiossl.errors import UserError

T = TypeVar("T")
TRUE_WORDS, FALSE_WORDS = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One value that somebody wrote: its key `a.b`, the raw value, and where it stands."""

    key: str
    value: Any
    source: str


def parse(config_type: type[T], recipe: str, argv: Sequence[str] | None = None) -> T:
    """Read a recipe's configuration from the command line.

    Args:
        config_type: the recipe's dataclass; fields may be dataclasses again.
        recipe: name of the recipe, or its `__file__`; presets are looked up as `configs/<recipe>_<NAME>.yaml`.
        argv: the arguments without the program's name; `sys.argv[1:]` by default.

    Raises `UserError` for a wrong flag, key or value, a missing file, or an unknown preset; `--help` prints and exits with code 0.
    """
    recipe = Path(recipe).stem
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument in ("--help", "-h") for argument in arguments):
        from audiossl.config_help import help_text

        print(help_text(config_type, recipe, presets(recipe)))
        raise SystemExit(0)
    files, flags = _read_flags(config_type, arguments)
    settings: list[Setting] = []
    for kind, value in sorted(
        files, key=lambda file: file[0] != "preset"
    ):  # presets first, whatever the order of the flags
        settings += read_yaml(_preset_path(recipe, value) if kind == "preset" else value)
    return build(config_type, [*settings, *flags])


def load(config_type: type[T], path: str | os.PathLike[str]) -> T:
    """Read a configuration file; keys that it leaves out keep their defaults. Raises `UserError` naming file and line."""
    return build(config_type, read_yaml(path))


def save(config: Any, path: str | os.PathLike[str]) -> None:
    """Write a configuration as YAML, so that `load` (or `--config`) gives an equal one back; the file appears whole or not at all."""
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
    """One dictionary `{"a.b": value}` of plain values, in the order of the fields."""

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
    prefix = f"{recipe}_"
    names = [file.name for file in folder.iterdir() if file.name.endswith(".yaml")]
    return sorted(name[len(prefix) : -len(".yaml")] for name in names if name.startswith(prefix))


def leaves(config_type: type) -> dict[str, Any]:
    """The settable keys `a.b` of a dataclass and their types."""
    found: dict[str, Any] = {}
    for field, hint in fields_of(config_type):
        section = section_type(hint)
        if section is None:
            found[field.name] = hint
        else:
            found |= {f"{field.name}.{key}": leaf for key, leaf in leaves(section).items()}
    return found


def fields_of(config_type: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    """Fields of a dataclass with their resolved types."""
    hints = typing.get_type_hints(config_type)
    return [(field, hints[field.name]) for field in dataclasses.fields(config_type) if field.init]


def section_type(hint: Any) -> type | None:
    """The dataclass behind a field's type, if it is one."""
    return hint if isinstance(hint, type) and dataclasses.is_dataclass(hint) else None


def build(config_type: type[T], settings: Iterable[Setting]) -> T:
    """Put settings over the defaults and decode; each value is checked alone, so that the error names its place."""
    known = leaves(config_type)
    tree = defaults(config_type)
    written: dict[str, Setting] = {}
    for setting in settings:
        if setting.key not in known:
            raise UserError(
                f"{setting.source}: there is no {_what(setting)} {setting.key!r}{nearest(setting.key, known)}."
            )
        written[setting.key] = setting
        _put(tree, setting.key, _decoded(known[setting.key], setting))
    missing = [key for key in known if not _has(tree, key)]
    if missing:
        raise UserError(f"--{missing[0]} is required: give it as a flag or in the file of --config.")
    try:
        return draccus.decode(config_type, tree)
    except (
        Exception
    ) as error:  # draccus wraps what a dataclass's own check raises; the person wants that sentence
        raise UserError(_checked(error, written)) from None


def nearest(key: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for a misspelt name, or nothing when no known name is near."""
    names = list(known)
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    if not close:  # the right word in the wrong section, or a section left out
        last = key.rsplit(".", 1)[-1]
        close = [name for name in names if name.rsplit(".", 1)[-1] == last]
        tails = {name.rsplit(".", 1)[-1]: name for name in names}
        close = close or [tails[tail] for tail in difflib.get_close_matches(last, tails, n=1, cutoff=0.75)]
    return f"; did you mean {close[0]!r}?" if close else "; --help lists all of them"


def read_yaml(path: str | os.PathLike[str]) -> list[Setting]:
    """The settings of a YAML file with the line of each; raises `UserError` for a missing or malformed file or a doubled key."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"--config {path}: the file cannot be read ({reason}); give the path of a YAML file."
        ) from None
    try:
        loader = yaml.SafeLoader(io.StringIO(text))
        root = loader.get_single_node()
        if root is None:
            return []
        if not isinstance(root, yaml.MappingNode):
            raise UserError(
                f"{path} line 1: a mapping of keys to values is needed, such as `run: {{epochs: 10}}`."
            )
        return list(_settings_of(loader, root, "", str(path)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}{line}: this is not YAML ({getattr(error, 'problem', None) or error})."
        ) from None


def _settings_of(
    loader: yaml.SafeLoader, node: yaml.MappingNode, prefix: str, path: str
) -> Iterator[Setting]:
    seen: set[str] = set()
    for key_node, value_node in node.value:
        source = f"{path} line {key_node.start_mark.line + 1}"
        key = f"{prefix}{key_node.value}"
        if key in seen:
            raise UserError(f"{source}: the key {key!r} stands twice; keep one.")
        seen.add(key)
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            yield from _settings_of(loader, value_node, f"{key}.", path)
        else:
            yield Setting(key, loader.construct_object(value_node, deep=True), source)


def _preset_path(recipe: str, name: str) -> Path:
    if name not in presets(recipe):
        known = presets(recipe)
        listed = f"it has {', '.join(known)}" if known else "it has none"
        raise UserError(f"--preset {name}: recipe {recipe} has no such preset; {listed}.")
    return Path(str(resources.files("audiossl.recipes") / "configs" / f"{recipe}_{name}.yaml"))


def _read_flags(config_type: type, arguments: list[str]) -> tuple[list[tuple[str, str]], list[Setting]]:
    """Split the command line into files [(preset|config, value)] and settings."""
    known = leaves(config_type)
    files: list[tuple[str, str]] = []
    settings: list[Setting] = []
    position = 0
    while position < len(arguments):
        flag, equals, inline = arguments[position].partition("=")
        if not flag.startswith("--") or flag == "--":
            raise UserError(
                f"{arguments[position]!r} on the command line belongs to no flag; flags have the form --run.epochs 10."
            )
        key = flag[2:]
        position += 1
        values = [inline] if equals else []
        while not equals and position < len(arguments) and not arguments[position].startswith("--"):
            values.append(arguments[position])
            position += 1
        if key in ("preset", "config"):
            if len(values) != 1:
                raise UserError(
                    f"--{key} takes one {'name' if key == 'preset' else 'file'}, found {len(values)}."
                )
            files.append((key, values[0]))
        elif key not in known:
            raise UserError(
                f"--{key}: there is no such flag{nearest(key, [*known, 'preset', 'config'])}.".replace(
                    "mean '", "mean '--"
                )
            )
        else:
            settings.append(Setting(key, _flag_value(key, known[key], values), f"--{key}"))
    return files, settings


def _flag_value(key: str, hint: Any, values: list[str]) -> Any:
    """The raw value of a flag: a bare flag is true, several words are a list."""
    kinds = _kinds(hint)
    if not values:
        if bool in kinds:
            return True
        raise UserError(f"--{key} needs a value ({type_name(hint)}).")
    if any(typing.get_origin(kind) in (list, tuple) for kind in kinds):
        if len(values) == 1 and not values[0].lstrip().startswith(("[", "(")):
            values = [word for word in values[0].split(",") if word]
        elif len(values) == 1:
            return _yaml_value(key, values[0])
        return [_yaml_value(key, value) for value in values]
    if len(values) > 1:
        raise UserError(
            f"--{key} takes one value ({type_name(hint)}), found {len(values)}: {' '.join(values)}."
        )
    return (
        values[0]
        if str in kinds and values[0] not in ("null", "none", "None")
        else _yaml_value(key, values[0])
    )


def _yaml_value(key: str, text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return None if text in ("none", "None") else value


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the type alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def type_name(hint: Any) -> str:
    """A type in words that fit a command line: `int`, `auto|fp32`, `list of float`.

    >>> type_name(float | None), type_name(list[str]), type_name(typing.Literal["mel", "stft"])
    ('float or none', 'list of str', 'mel|stft')
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(part) for part in parts)
    if origin is typing.Literal:
        return "|".join(str(part) for part in parts)
    if origin in (list, tuple):
        return "list of " + type_name(parts[0]) if parts else "list"
    if hint is bool:
        return "true|false"
    return "none" if hint is type(None) else getattr(hint, "__name__", str(hint))


def _decoded(hint: Any, setting: Setting) -> Any:
    """Check one value against its type; gives the encoded form back."""
    kinds, value = _kinds(hint), setting.value
    if value is None and type(None) not in kinds and Any not in kinds:
        raise UserError(f"{setting.source}: {setting.key} needs a value ({type_name(hint)}), found none.")
    if bool in kinds and isinstance(value, str | int) and str(value).lower() in TRUE_WORDS + FALSE_WORDS:
        value = str(value).lower() in TRUE_WORDS
    if isinstance(value, bool) and not {bool, str, Any} & set(kinds):
        raise UserError(f"{setting.source}: {setting.key} must be {type_name(hint)}, found {value!r}.")
    try:
        return draccus.encode(draccus.decode(hint, value), hint)
    except UserError:
        raise
    except Exception:  # draccus raises several kinds for a value that does not fit, bare Exception among them
        near = (
            nearest(str(value), map(str, typing.get_args(hint)))
            if typing.get_origin(hint) is typing.Literal
            else ""
        )
        near = near if "did you mean" in near else ""
        raise UserError(
            f"{setting.source}: {setting.key} must be {type_name(hint)}, found {value!r}{near}."
        ) from None


def _what(setting: Setting) -> str:
    return "setting" if setting.source.startswith("--") else "key"


def defaults(config_type: type) -> dict[str, Any]:
    """Encoded default values; fields without one are left out."""
    tree: dict[str, Any] = {}
    for field, hint in fields_of(config_type):
        if field.default is not dataclasses.MISSING:
            tree[field.name] = draccus.encode(field.default, hint)
        elif field.default_factory is not dataclasses.MISSING:
            tree[field.name] = draccus.encode(field.default_factory(), hint)
        elif section := section_type(hint):
            tree[field.name] = defaults(section)
    return tree


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        tree = tree[section]
    tree[name] = value


def _has(tree: Any, key: str) -> bool:
    for name in key.split("."):
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True


def _checked(error: BaseException, written: dict[str, Setting]) -> str:
    """The sentence of a dataclass's own check (`__post_init__`), with the place of the key it names."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    sentence = str(cause)
    places = [
        setting.source
        for key, setting in written.items()
        if not setting.source.startswith("--") and key in sentence
    ]
    return f"{places[0]}: {sentence}" if places else sentence
