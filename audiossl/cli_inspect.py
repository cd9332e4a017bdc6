"""`audiossl inspect`: pages that show what a learner sees and makes of it. No torch before the flags are read."""

from __future__ import annotations

import argparse
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audiossl.cli import Parser
from audiossl.config import parse, presets, type_flags
from audiossl.config_sources import nearest
from audiossl.data.config import DataConfig
from audiossl.errors import UserError
from audiossl.run.config import RunConfig
from audiossl.transforms import FrontEndConfig, MelConfig
from audiossl.transforms.view_config import MultiCropConfig, PatchesConfig, TwoViewsConfig
from audiossl.transforms.wave_config import WaveAugmentConfig

PRESET = "small"  # of the recipes whose views `inspect views` shows
N_CLIPS = 4  # on the page of views
# Settings that several types of front end share, offered for all of them at once.
SHARED = {
    "n_bins": (int, "rows of the picture"),
    "hop_length": (int, "samples from one frame to the next"),
    "f_min": (float, "lower end of the band, in Hz"),
    "f_max": (float, "upper end of the band, in Hz"),
}
# By this a page is known that may be replaced.
MADE_HERE = '<p class="over">audiossl inspect '

EXAMPLE = """\
examples:
  audiossl inspect frontends rooster.wav -o rooster.html
  audiossl inspect views --data.root my_sounds/ --views.n_locals 4
  audiossl inspect attention rooster.wav --encoder runs/first/encoder
  audiossl inspect correspondence rooster.wav hen.wav --encoder runs/first/encoder

`audiossl inspect PAGE --help` tells all about a page.
"""
FRONTENDS_EXAMPLE = """\
examples:
  audiossl inspect frontends rooster.wav -o rooster.html
  audiossl inspect frontends field.flac --start_s 3605 --duration_s 3 --types mel,cqt --sample_rate 32000 --f_max 15000

The page has everything in it: the pictures with their axes in Hz and seconds, the sound, settings and costs.
"""
VIEWS_USAGE = """\
usage: audiossl inspect views [-o FILE.html] [--kind KIND] [--config FILE.yaml] [--section.name VALUE ...]

A page with a few clips, the boxes of their views, the views cut from them, and the sound. It takes the flags of the
recipe of that kind of views, its presets (without this flag and --config: small) and the config.yaml of its runs.
Without --data.root it shows the synthetic words. Defaults stand in brackets; a preset replaces some of them.

  -o, --output FILE.html            where to write the page [views.html]
  --kind KIND                       multi_crop (EsViT), two_views (BYOL) or patches (EMP-SSL) [multi_crop]
  --preset NAME                     settings that ship with the recipe:
{}
  --config FILE.yaml                settings from a file, such as the config.yaml of a run
  --run.seed int                    another seed draws other views [0]
"""
VIEWS_EXAMPLE = """\
examples:
  audiossl inspect views --data.root my_sounds/ --views.n_locals 4 --frontend.type stft
  audiossl inspect views --config runs/first/config.yaml -o first.html
  audiossl inspect views --wave.gain_db 6 --wave.reverb 0.5   # plays how the clips are changed
  audiossl inspect views --kind patches --data.root my_sounds/ --views.n_patches 12
  audiossl inspect views --kind two_views --config runs/byol/config.yaml
"""


def inspect(arguments: list[str]) -> int:
    """Write the page that was asked for, and say where it is."""
    if arguments[:1] == ["views"]:  # its flags are those of the recipe, and parsed like them
        return views(arguments[1:])
    if arguments[:1] in (["attention"], ["correspondence"]):
        from audiossl import cli_inspect_encoder  # imports this module

        page = cli_inspect_encoder.attention if arguments[0] == "attention" else cli_inspect_encoder.correspondence
        return page(arguments[1:])
    if arguments[:1] == ["neighbours"]:
        from audiossl.cli_map import neighbours

        return neighbours(arguments[1:])
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 0
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        given.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return frontends(given)


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=100)


def _parser() -> Parser:
    parser = Parser(
        prog="audiossl inspect",
        description="Pages that show what a learner sees and what it makes of it.",
        epilog=EXAMPLE,
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    pages = parser.add_subparsers(title="pages", metavar="PAGE", required=True)
    shown = pages.add_parser(
        "frontends",
        help="one clip through every front end",
        description="One clip through every front end, side by side: pictures, sound, settings and costs.",
        epilog=FRONTENDS_EXAMPLE,
        formatter_class=_formatter,
        allow_abbrev=False,
    )
    shown.set_defaults(parser=shown)
    pages.add_parser("views", help="the views that are cut from a few clips", add_help=False)
    pages.add_parser("neighbours", help="the map of a data set, opened at a recording", add_help=False)
    pages.add_parser("attention", help="where an encoder's blocks and heads look in a clip", add_help=False)
    pages.add_parser("correspondence", help="regions an encoder takes for the same, shown or measured", add_help=False)
    known = ", ".join(FrontEndConfig.get_known_choices())
    shown.add_argument("clip", metavar="CLIP", help="a recording of any rate, format and length")
    shown.add_argument("-o", "--output", metavar="FILE.html", default="frontends.html", help="default: %(default)s")
    shown.add_argument("--types", metavar="A,B", help=f"only these of: {known}")
    shown.add_argument("--start_s", type=float, default=0.0, metavar="S", help="begin here; default: %(default)g")
    shown.add_argument(
        "--duration_s", type=float, default=5.0, metavar="S", help="show so much; default: at most %(default)g"
    )
    usual = FrontEndConfig.sample_rate
    shown.add_argument("--sample_rate", type=int, default=usual, metavar="HZ", help="resample to; default: %(default)s")
    for name, (kind, text) in SHARED.items():
        shown.add_argument(f"--{name}", type=kind, metavar="N", help=f"{text}, of every type that has this setting")
    return parser


def frontends(given: argparse.Namespace) -> int:
    """Write the page of one clip through all front ends."""
    path = check_page(given.output)
    kinds = _kinds(given.types)
    from audiossl.explain.frontend_page import write_frontend_page
    from audiossl.explain.frontends import look_at_all
    from audiossl.explain.sound import read_sound

    sound = read_sound(given.clip, given.sample_rate, given.start_s, given.duration_s)
    settings = {name: getattr(given, name) for name in SHARED if getattr(given, name) is not None}
    looks = look_at_all(sound, kinds, {"sample_rate": given.sample_rate, **settings}, _say)
    write_frontend_page(path, sound, looks)
    for look in looks:
        if look.problem:
            print(f"audiossl: no picture of {look.kind}: {look.problem}", file=sys.stderr)
    print(f"{path}: {sum(not look.problem for look in looks)} front ends; open it in a browser")
    return 0


def _say(kind: str) -> None:
    print(f"inspect: {kind}", file=sys.stderr, flush=True)


def _kinds(types: str | None) -> list[str]:
    known = list(FrontEndConfig.get_known_choices())
    if types is None:
        return known
    kinds = [kind.strip() for kind in types.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in known:
            near = nearest(kind, known)
            raise UserError(f"--types: there is no front end {kind!r}{near if 'mean' in near else ''}; known: {known}.")
    if not kinds:
        raise UserError("--types names no front end: give some, such as mel,stft.")
    return list(dict.fromkeys(kinds))


@dataclass
class PictureFlags:
    """The sections of a recipe's settings that decide its pictures."""

    data: DataConfig = field(default_factory=DataConfig)
    wave: WaveAugmentConfig = field(default_factory=WaveAugmentConfig)
    frontend: FrontEndConfig = field(default_factory=MelConfig)


@dataclass
class MultiCropFlags(PictureFlags):
    """Those that decide EsViT's views."""

    views: MultiCropConfig = field(default_factory=MultiCropConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass
class TwoViewsFlags(PictureFlags):
    """Those that decide BYOL's views."""

    views: TwoViewsConfig = field(default_factory=TwoViewsConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass
class PatchesFlags(PictureFlags):
    """Those that decide EMP-SSL's patches."""

    views: PatchesConfig = field(default_factory=PatchesConfig)
    run: RunConfig = field(default_factory=RunConfig)


# Of each kind of views the recipe, and the part of its settings that the help names without importing it.
KINDS: dict[str, tuple[str, type[PictureFlags]]] = {
    "multi_crop": ("esvit_speechcommands", MultiCropFlags),
    "two_views": ("byol_speechcommands", TwoViewsFlags),
    "patches": ("emp_ssl_speechcommands", PatchesFlags),
}


def views(arguments: list[str]) -> int:
    """Write the page of views that a run with these flags would draw."""
    own = Parser(prog="audiossl inspect views", add_help=False, allow_abbrev=False)
    own.add_argument("-o", "--output", default="views.html")
    own.add_argument("--kind", choices=list(KINDS), default="multi_crop")
    given, flags = own.parse_known_args(arguments)
    if "--help" in flags or "-h" in flags:
        print(_views_help(*KINDS[given.kind], flags))
        return 0
    path = check_page(given.output)
    config = _views_config(given.kind, flags)
    from audiossl.explain.view_page import examine, write_view_page

    shown = examine(config.data, config.frontend, config.views, config.run.seed, N_CLIPS, config.wave)
    write_view_page(path, shown)
    print(f"{path}: views of {shown.n_clips} clips; open it in a browser")
    return 0


def _views_config(kind: str, flags: list[str]) -> Any:
    from audiossl.recipes import byol_speechcommands, emp_ssl_speechcommands, esvit_speechcommands

    of_kind: dict[str, type] = {
        "multi_crop": esvit_speechcommands.Config,
        "two_views": byol_speechcommands.Config,
        "patches": emp_ssl_speechcommands.Config,
    }
    return parse(of_kind[kind], KINDS[kind][0], flags, preset=PRESET)


def _views_help(recipe: str, flags_type: type, arguments: list[str]) -> str:
    from audiossl.config_help import help_text

    # The help of a recipe from its first section on; what comes before is said otherwise here.
    flags = help_text(flags_type, recipe, [], None, type_flags(flags_type, arguments)).partition("\ndata: ")[2]
    flags = flags.partition("\nrun: ")[0].rstrip()
    names = textwrap.fill(", ".join(presets(recipe)), width=80, initial_indent=" " * 36, subsequent_indent=" " * 36)
    return f"{VIEWS_USAGE.format(names)}\ndata: {flags}\n\n{VIEWS_EXAMPLE}"


def check_page(name: str) -> Path:
    """The path of a page to write; raises `UserError` for one that is none, or that holds something else."""
    path = Path(name)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"-o {name}: choose a name that ends in .html.")
    if not path.parent.is_dir():
        raise UserError(f"-o {name}: there is no folder {path.parent}; make it first.")
    if path.exists() and not (path.is_file() and MADE_HERE in path.read_text("utf-8", errors="replace")):
        raise UserError(f"-o {name} exists and is no page of `audiossl inspect`: choose another name.")
    return path
