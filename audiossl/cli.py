"""The `audiossl` command. Heavy imports wait until a command runs, so that help and mistakes come at once."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from audiossl import __version__
from audiossl.cli_cleanup import CLEANUP_EXAMPLE, cleanup, cleanup_flags
from audiossl.cli_completion import COMPLETION_EXAMPLE, completion, completion_flags
from audiossl.cli_export import EXPORT_EXAMPLE, export, export_flags
from audiossl.cli_featurize import FEATURIZE_EXAMPLE, featurize, featurize_flags
from audiossl.cli_predict import PREDICT_EXAMPLE, predict, predict_flags
from audiossl.cli_search import SEARCH_EXAMPLE, search, search_flags
from audiossl.errors import UserError, errors_for_people

MAIN_EXAMPLE = """\
examples:
  audiossl featurize my_sounds/ --model runs/first/encoder -o my_sounds.parquet
  audiossl search my_sounds.parquet a_call.wav
  audiossl predict a_call.wav --model runs/calls/classifier
  audiossl probe --encoder runs/first/encoder --data.root speech_commands/ --json scores.json
  audiossl map my_sounds/ --encoder runs/first/encoder
  audiossl inspect frontends a_sound.wav -o frontends.html
  audiossl doctor

`audiossl COMMAND --help` tells all about a command. To pretrain an encoder on your own audio:
  accelerate launch -m audiossl.recipes.esvit_speechcommands --data.root my_sounds/ --run.out runs/first
"""
DOWNLOAD_EXAMPLE = """\
example:
  audiossl download speech_commands --version v0.02 --root data/speech_commands

v0.01 has 30 words in 1.5 GB, v0.02 has 35 words in 2.4 GB (CC BY 4.0). A download that breaks off goes on
where it stopped when the command is given again, and what arrives is checked.
"""
MODELS_EXAMPLE = """\
example:
  audiossl models --json

Of the Hugging Face Hub any encoder that audiossl wrote can be given too, as ORGANISATION/NAME.
"""
DOCTOR_EXAMPLE = """\
example:
  audiossl doctor

The exit code is 1 where something has to be mended.
"""


class Parser(argparse.ArgumentParser):
    """argparse that says mistakes as audiossl does: one sentence, with the nearest flag or command."""

    def error(self, message: str) -> NoReturn:
        """Raise `UserError` in place of printing the usage."""
        raise UserError(f"{message}{self._nearest(message)}; `{self.prog} --help` shows how it is used.")

    def _nearest(self, message: str) -> str:
        _, found, words = message.partition("unrecognized arguments: ")
        flags = [flag for action in self._actions for flag in action.option_strings]
        near = difflib.get_close_matches(words.split(maxsplit=1)[0].split("=")[0], flags, 1) if found else []
        return f" (did you mean {near[0]}?)" if near else ""


@errors_for_people
def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 1 when `doctor` found something to mend.

    A mistake of the user's is one line on stderr and `SystemExit` with code 2.
    """
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        print("audiossl: stopped.", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["probe"]:  # its flags are those of the recipes, and parsed like them
        from audiossl.cli_probe import probe

        return probe(arguments[1:])
    if arguments[:1] == ["inspect"]:  # as above, and it has pages of its own
        from audiossl.cli_inspect import inspect

        return inspect(arguments[1:])
    if arguments[:1] == ["map"]:
        from audiossl.cli_map import map_command

        return map_command(arguments[1:])
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        given.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return given.run(given)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30)


def _parser() -> Parser:
    parser = Parser(
        prog="audiossl",
        description="Embeddings of your own sounds, and what they are worth.",
        epilog=MAIN_EXAMPLE,
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"audiossl {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, text: str, run, example: str = "") -> Parser:
        added = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=example,
            formatter_class=_formatter,
            allow_abbrev=False,
        )
        added.set_defaults(run=run, parser=added)
        return added

    featurize_flags(command("featurize", "embed files, folders, archives or data sets", featurize, FEATURIZE_EXAMPLE))
    predict_flags(command("predict", "name recordings by a classifier", predict, PREDICT_EXAMPLE))
    export_flags(command("export", "a model as one ONNX graph that needs no torch", export, EXPORT_EXAMPLE))
    search_flags(command("search", "find the nearest recordings, or repeats", search, SEARCH_EXAMPLE))
    command("map", "a page to see and hear what an encoder makes of sounds", None)
    command("probe", "score an encoder on labelled clips", None)
    command("inspect", "pages to look at and hear: front ends, views, attention, correspondence", None)
    fetch = command("download", "fetch a public data set", download, DOWNLOAD_EXAMPLE)
    fetch.add_argument("name", choices=["speech_commands"], help="the data set")
    fetch.add_argument("--version", choices=["v0.01", "v0.02"], default="v0.02", help="default: %(default)s")
    fetch.add_argument("--root", metavar="DIR", required=True, help="folder to put it in")
    fetch.add_argument("--quiet", action="store_true", help="no progress bar")
    fetch.add_argument("--json", action="store_true", help="print one line of JSON")
    cleanup_flags(command("cleanup", "remove old checkpoints of runs", cleanup, CLEANUP_EXAMPLE))
    known = command("models", "list the models that can be given by name", models, MODELS_EXAMPLE)
    known.add_argument("--json", action="store_true", help="print one line of JSON for each")
    machine = command("doctor", "examine this installation and machine, and say what to do", doctor, DOCTOR_EXAMPLE)
    machine.add_argument("--json", action="store_true", help="print one line of JSON for each finding")
    completion_flags(
        command("completion", "print what a shell needs to complete commands", completion, COMPLETION_EXAMPLE), _parser
    )
    return parser


def download(given: argparse.Namespace) -> int:
    """Fetch Speech Commands into a folder."""
    from audiossl.data.download import SPEECH_COMMANDS, fetch
    from audiossl.data.speech_commands import looks_like

    root = Path(os.path.expanduser(given.root))
    if root.exists() and not (root.is_dir() and (looks_like(root) or not any(root.iterdir()))):
        raise UserError(f"--root {root} exists and is not Speech Commands: choose a new folder.")
    there = looks_like(root)
    fetch(SPEECH_COMMANDS[given.version], root, progress=not given.quiet)
    if given.json:
        print(json.dumps({"name": given.name, "version": given.version, "root": str(root), "was_there": there}))
        return 0
    print(f"{root} {'already holds' if there else 'now holds'} Speech Commands: use it with --data.root {root}")
    return 0


def models(given: argparse.Namespace) -> int:
    """List the models that come with audiossl."""
    from audiossl.installed import DEFAULT_MODEL, installed_models

    for name, model in installed_models().items():
        facts = {part: model.config[part] for part in ("dim", "clip_s", "sample_rate")}
        if given.json:
            print(json.dumps({"name": name, "default": name == DEFAULT_MODEL, **facts, "card": str(model.card)}))
            continue
        print(f"{name}{' (default)' if name == DEFAULT_MODEL else ''}: {model.about}")
        print(f"  {facts['dim']} numbers a clip of {facts['clip_s']:g} s at {facts['sample_rate']} Hz; {model.card}")
    if not given.json:
        print("Give one by its name as --model. An encoder of your own is the folder encoder/ of a run.")
    return 0


def doctor(given: argparse.Namespace) -> int:
    """Report on this machine."""
    from audiossl.doctor import report

    return report(given.json)


if __name__ == "__main__":
    sys.exit(main())
