"""`audiossl map` and `audiossl inspect neighbours`: a page to see and hear what encoders make of sounds.

No torch before the flags are read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiossl.config import parse
from audiossl.data.config import DataConfig
from audiossl.errors import UserError
from audiossl.map.config import MapConfig

if TYPE_CHECKING:
    from audiossl.encoder import AudioEncoder
    from audiossl.map.build import Result

MADE_HERE = '<meta name="generator" content="audiossl map">'  # by this a page is known that --overwrite may replace
MAP_USAGE = """\
usage: audiossl map DATA --encoder FOLDER [--encoder FOLDER ...] [-o PLACE] [--section.name VALUE ...]
       audiossl map DATA --run RUN [-o PLACE] [--section.name VALUE ...]
       audiossl map EMBEDDINGS [EMBEDDINGS ...] [-o PLACE] [--section.name VALUE ...]

A page on which every clip is a point: near each other what an encoder finds alike. It shows and plays what is under the
pointer, filters, searches, and walks from neighbour to neighbour. It needs no server and no network.

  DATA                              a folder of audio, a .csv manifest; or flags --data.*
  EMBEDDINGS                        what `audiossl featurize -o` wrote (.npz, .parquet, folders): one plot each
  -e, --encoder [NAME=]FOLDER       RUN/encoder, or the name of a model; given several times, plots side by side
  --run RUN                         a slider through the checkpoints of a pretraining run (keep more: --run.keep 20)
  -o, --output PLACE                NAME.html is one page; a name without an ending a folder, for many points [map.html]

Defaults stand in brackets.
"""
MAP_EXAMPLE = """\
examples:
  audiossl map my_sounds/ --encoder runs/first/encoder
  audiossl map speech_commands/ -e pretrained=runs/first/encoder -e supervised=runs/sup/encoder --split validation
  audiossl map my_sounds.parquet --table labels.csv -o my_sounds.html
  audiossl map birds/ --encoder runs/birds/encoder -o birds_map --parquet birds.parquet
"""
NEIGHBOURS_USAGE = """\
usage: audiossl inspect neighbours CLIP --encoder FOLDER [DATA] [-o PLACE] [--section.name VALUE ...]

The map of a data set with CLIP among it, opened at CLIP and its nearest neighbours. It takes the flags of
`audiossl map`.

  CLIP                              a recording; of a longer one than the data set's clips, its beginning
  DATA                              a folder of audio, a .csv manifest; or flags --data.*
  -e, --encoder [NAME=]FOLDER       as of `audiossl map`
  -o, --output PLACE                as of `audiossl map` [neighbours.html]

Defaults stand in brackets.
"""
NEIGHBOURS_EXAMPLE = """\
example:
  audiossl inspect neighbours a_call.wav my_sounds/ --encoder runs/first/encoder
"""


def map_command(arguments: list[str]) -> int:
    """Write the map that was asked for, and say where it is."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(_help(MAP_USAGE, MAP_EXAMPLE))
        return 0
    given, flags = _given("map", arguments, "map.html")
    embeddings = [name for name in given.inputs if _holds_embeddings(Path(name))]
    config = _config("map", flags, [name for name in given.inputs if name not in embeddings])
    path = _place(given.output, config)
    if embeddings:
        if len(embeddings) < len(given.inputs) or given.encoder or given.run:
            raise UserError("embeddings know their encoder: give them alone, or a data set with --encoder.")
        result = _of_embeddings(embeddings, config, path)
    else:
        result = _of_data(given, config, path)
    _conclude(result)
    return 0


def neighbours(arguments: list[str]) -> int:
    """Write the map of a data set, opened at a clip."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        print(_help(NEIGHBOURS_USAGE, NEIGHBOURS_EXAMPLE))
        return 0
    given, flags = _given("inspect neighbours", arguments, "neighbours.html")
    if not given.inputs or given.run:
        raise UserError("inspect neighbours takes a CLIP, a data set and --encoder: name the recording first.")
    config = _config("inspect neighbours", flags, given.inputs[1:])
    path = _place(given.output, config)
    from audiossl.map.neighbourhood import of_clip

    _conclude(of_clip(given.inputs[0], _encoders(given.encoder, config), config, path, _say))
    return 0


def _given(command: str, arguments: list[str], output: str) -> tuple[Any, list[str]]:
    from audiossl.cli import Parser

    own = Parser(prog=f"audiossl {command}", add_help=False, allow_abbrev=False)
    own.add_argument("-o", "--output", default=output)
    own.add_argument("-e", "--encoder", action="append", default=[])
    own.add_argument("--run")
    given, rest = own.parse_known_args(arguments)
    given.inputs = []
    while rest and not rest[0].startswith("-"):
        given.inputs.append(rest.pop(0))
    return given, rest


def _config(command: str, flags: list[str], roots: list[str]) -> MapConfig:
    if len(roots) > 1:
        missing = next((root for root in roots if not os.path.lexists(root)), roots[1])
        raise UserError(f"audiossl {command} takes one data set, found also {missing}: give one folder or manifest.")
    if roots:
        flags = ["--data.root", roots[0], *flags]
    return parse(MapConfig, command.replace(" ", "_"), flags)


def _holds_embeddings(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("embeddings-*.parquet"))
    return path.suffix.lower() in (".npz", ".parquet")


def _place(name: str, config: MapConfig) -> Path:
    """Where to write: NAME.html, or a folder; raises UserError for what holds something else."""
    path = Path(name)
    if path.suffix and path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"-o {name}: choose a name that ends in .html, or a folder's.")
    for flag, place in (("-o", path), ("--parquet", Path(config.parquet) if config.parquet else None)):
        if place is None:
            continue
        if not place.parent.is_dir():
            raise UserError(f"{flag} {place}: there is no folder {place.parent}; make it first.")
        if os.path.lexists(place) and not config.overwrite:
            raise UserError(f"{flag} {place} exists: give --overwrite to replace it, or another name.")
    page = path if path.suffix else path / "index.html"
    if os.path.lexists(path) and not (page.is_file() and MADE_HERE in page.read_text("utf-8", errors="replace")):
        raise UserError(f"-o {name} exists and is no map: choose another name.")
    return path


def _of_embeddings(names: list[str], config: MapConfig, path: Path) -> Result:
    from audiossl.embeddings import load_embeddings
    from audiossl.map.build import of_rows
    from audiossl.map.panels import names_of

    if config.data != DataConfig():
        raise UserError("--data.* flags belong to a data set: embeddings name their files themselves.")
    return of_rows({name: load_embeddings(part) for name, part in names_of(names).items()}, config, path, _say)


def _of_data(given: Any, config: MapConfig, path: Path) -> Result:
    from audiossl.map.build import of_encoders

    if given.run:
        from audiossl.map.checkpoints import encoders_of_run

        frames = _on_device(encoders_of_run(Path(given.run), config.seed), config)
        panels = {Path(given.run).name: frames, **_encoders(given.encoder, config, needed=False)}
    else:
        panels = _encoders(given.encoder, config)
    return of_encoders(panels, config, path, _say)


def _encoders(paths: list[str], config: MapConfig, needed: bool = True) -> dict[str, dict[str, AudioEncoder]]:
    """A panel with one frame for each."""
    if not paths:
        if needed:
            raise UserError("--encoder is missing: name one, such as runs/first/encoder, or give embeddings.")
        return {}
    from audiossl.encoder import load_model
    from audiossl.map.panels import names_of

    return {name: _on_device({name: load_model(path)}, config) for name, path in names_of(paths).items()}


def _on_device(encoders: dict[str, AudioEncoder], config: MapConfig) -> dict[str, AudioEncoder]:
    from audiossl.featurize import check_device, default_device

    device = default_device() if config.device is None else check_device(config.device)
    return {name: encoder.to(device) for name, encoder in encoders.items()}


def _say(text: str) -> None:
    print(f"map: {text}", file=sys.stderr, flush=True)


def _conclude(result: Result) -> None:
    if result.left_out:
        print(f"audiossl: {result.left_out} rows have no embedding and are left out", file=sys.stderr)
    if result.silent:
        print(
            f"audiossl: the sound of {result.silent} points could not be read: they are shown without", file=sys.stderr
        )
    page = result.path if result.path.suffix else result.path / "index.html"
    print(f"{page}: {result.points} points, {page.stat().st_size / 1e6:.1f} MB; open it in a browser")


def _help(usage: str, example: str) -> str:
    from audiossl.config_help import help_text

    # The help of a recipe, without what is said there of presets: this command has none.
    flags = help_text(MapConfig, "map", []).partition("settings of the recipe\n")[2]
    return f"{usage}\n{flags}\n\n{example}"
