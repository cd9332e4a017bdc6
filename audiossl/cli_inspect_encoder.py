"""`audiossl inspect attention` and `correspondence`: what a trained encoder looks at, and what it takes for the same.

No torch before the flags are read.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from audiossl import __version__
from audiossl.cli import Parser
from audiossl.cli_inspect import check_page
from audiossl.config import parse
from audiossl.embeddings import refuse_existing, written
from audiossl.errors import UserError
from audiossl.explain.correspondence_config import CorrespondenceConfig, KnownChange

if TYPE_CHECKING:
    from audiossl.encoder import AudioEncoder
    from audiossl.explain.measured_correspondence import Measured
    from audiossl.explain.sound import Sound

ATTENTION_EXAMPLE = """\
examples:
  audiossl inspect attention rooster.wav --encoder runs/first/encoder -o rooster.html
  audiossl inspect attention field.flac --encoder runs/first/encoder --start_s 3605 --hz 2500 --pictures heads/

In the page are sliders for block and head, and a click on the spectrogram sets the query. A second of sound makes
0.2 MB with swin_micro and 0.4 MB with swin_tiny. Where the weights come to more than 3 MB, only every second, third
... column of cells is a query, and the page says so.
"""
CORRESPONDENCE_USAGE = """\
usage: audiossl inspect correspondence CLIP [CLIP2] --encoder FOLDER [-o FILE.html]
       audiossl inspect correspondence --encoder FOLDER --data.root DIR [--json FILE] [--section.name VALUE ...]

With a CLIP: a page with lines between the regions that resemble each other, of two recordings, or of one and the same
changed as --change.* says, where it is known which region is which.

  -o, --output FILE.html            where to write the page [correspondence.html]
  --start_s S                       begin here in each recording [0]
  --duration_s S                    show so much [as long as the clips that the encoder was trained on]
  --encoder, --change.*             as below

Without: measure over a data set how many regions are found again in such a second view, beside random weights and
chance; a change is drawn for each clip, up to what --change.* says, and a table is printed. Defaults stand in brackets.
"""
CORRESPONDENCE_EXAMPLE = """\
examples:
  audiossl inspect correspondence rooster.wav --encoder runs/first/encoder -o rooster.html
  audiossl inspect correspondence rooster.wav hen.wav --encoder runs/first/encoder
  audiossl inspect correspondence --data.root my_sounds/ --encoder runs/first/encoder --json found.json --csv found.csv
"""


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=100)


def _page_parser(name: str, output: str) -> Parser:
    """What both pages take."""
    parser = Parser(prog=f"audiossl inspect {name}", formatter_class=_formatter, allow_abbrev=False)
    parser.add_argument("--encoder", required=True, metavar="FOLDER", help="RUN/encoder, or the name of a model")
    parser.add_argument("-o", "--output", metavar="FILE.html", default=output, help="default: %(default)s")
    parser.add_argument("--start_s", type=float, default=0.0, metavar="S", help="begin here; default: %(default)g")
    parser.add_argument(
        "--duration_s", type=float, metavar="S", help="show so much; default: as long as the encoder's training clips"
    )
    return parser


def _open(given: argparse.Namespace, clips: list[str]) -> tuple[AudioEncoder, list[Sound]]:
    """The encoder, and the part of each recording that is shown, at the encoder's rate."""
    from audiossl.encoder import load_model
    from audiossl.explain.sound import read_sound

    encoder = load_model(given.encoder)
    duration_s = encoder.clip_s if given.duration_s is None else given.duration_s
    return encoder, [read_sound(clip, encoder.sample_rate, given.start_s, duration_s) for clip in clips]


def attention(arguments: list[str]) -> int:
    """Write the page of what every block and head looks at in one clip."""
    parser = _page_parser("attention", "attention.html")
    parser.description = "Where each block and head of a Swin or ViT looks: maps over the spectrogram, with its sound."
    parser.epilog = ATTENTION_EXAMPLE
    parser.add_argument("clip", metavar="CLIP", help="a recording of any rate, format and length")
    parser.add_argument("--second", type=float, metavar="S", help="of the first query, in the recording")
    parser.add_argument(
        "--hz", type=float, metavar="HZ", help="of the first query; default: of the loudest place, both"
    )
    parser.add_argument("--pictures", metavar="DIR", help="PNGs of all heads of every block from that query, as well")
    given = parser.parse_args(arguments)
    path = check_page(given.output)
    from audiossl.explain.attention_page import examine_attention, write_attention_page

    encoder, (sound,) = _open(given, [given.clip])
    shown = examine_attention(encoder, given.encoder, sound, given.second, given.hz)
    if given.pictures is not None:
        from audiossl.explain.attention_pictures import write_attention_pictures

        pictures = write_attention_pictures(Path(given.pictures), shown.picture, shown.blocks, shown.query)
        print(f"{given.pictures}: {len(pictures)} pictures")
    write_attention_page(path, shown)
    print(f"{path}: attention of {len(shown.blocks)} blocks; open it in a browser")
    return 0


def correspondence(arguments: list[str]) -> int:
    """Write the page of two clips or views, or measure over a data set."""
    if "--help" in arguments or "-h" in arguments or not arguments:
        print(_correspondence_help())
        return 0
    measured = ("--data.", "--json", "--csv", "--pickle", "--config")
    if any(argument.startswith(measured) for argument in arguments):
        return _measure(parse(CorrespondenceConfig, "inspect_correspondence", arguments))
    parser = _page_parser("correspondence", "correspondence.html")
    parser.add_argument("clips", metavar="CLIP", nargs="+")
    usual = KnownChange()
    for name in vars(usual):
        parser.add_argument(f"--change.{name}", dest=name, type=float, default=getattr(usual, name))
    given = parser.parse_args(arguments)
    if len(given.clips) > 2:
        raise UserError(
            f"inspect correspondence compares one or two clips, found {len(given.clips)}: give at most two."
        )
    path = check_page(given.output)
    change = KnownChange(**{name: getattr(given, name) for name in vars(usual)})
    from audiossl.explain.correspondence_page import examine_two_clips, examine_two_views, write_correspondence_page

    encoder, sounds = _open(given, given.clips)
    if len(sounds) == 2:
        shown = examine_two_clips(encoder, given.encoder, sounds[0], sounds[1])
    else:
        shown = examine_two_views(encoder, given.encoder, sounds[0], change)
    write_correspondence_page(path, shown)
    print(f"{path}: {len(shown.found.matches)} regions matched; open it in a browser")
    return 0


def _measure(config: CorrespondenceConfig) -> int:
    for flag, name in (("--json", config.json), ("--csv", config.csv), ("--pickle", config.pickle)):
        if name is not None:
            if not Path(name).parent.is_dir():
                raise UserError(f"{flag} {name}: there is no folder {Path(name).parent}; make it first.")
            refuse_existing(name, config.overwrite)
    from audiossl.cli_probe import as_encoder
    from audiossl.data.cache import cache_clips
    from audiossl.data.open import open_clips
    from audiossl.encoder import load_model
    from audiossl.explain.measured_correspondence import measure
    from audiossl.featurize import check_device, default_device

    encoder = load_model(config.encoder)
    device = default_device() if config.device is None else check_device(config.device)
    data = as_encoder(config.data, encoder)
    clips = cache_clips(open_clips(data), data)
    held_out = clips.split("validation")
    found = measure(encoder.to(device), held_out if len(held_out) else clips, config, _say)
    print(found.markdown())
    _write(found, config)
    return 0


def _say(text: str) -> None:
    print(f"inspect: {text}", file=sys.stderr, flush=True)


def _write(found: Measured, config: CorrespondenceConfig) -> None:
    if config.json is not None:
        content = {"audiossl": __version__, **found.to_dict()}
        with written(config.json) as part:
            part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if config.csv is not None:
        with written(config.csv) as part:
            part.write_text(found.to_csv(), encoding="utf-8")
    if config.pickle is not None:
        with written(config.pickle) as part:
            part.write_bytes(found.to_pickle())


def _correspondence_help() -> str:
    from audiossl.config_help import help_text

    # The help of a recipe, without what is said there of presets: this command has none.
    flags = help_text(CorrespondenceConfig, "inspect_correspondence", []).partition("settings of the recipe\n")[2]
    return f"{CORRESPONDENCE_USAGE}\n{flags}\n\n{CORRESPONDENCE_EXAMPLE}"
