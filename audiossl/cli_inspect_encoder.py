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
from audiossl.explain.attention_config import AttentionConfig
from audiossl.explain.correspondence_config import CorrespondenceConfig, KnownChange

if TYPE_CHECKING:
    from audiossl.data import CachedClips
    from audiossl.encoder import AudioEncoder
    from audiossl.explain.attention_entropy import Entropies
    from audiossl.explain.measured_correspondence import Measured
    from audiossl.explain.sound import Sound

MEASURED = ("--data.", "--json", "--csv", "--pickle", "--config")  # flags that ask for a data set, not for a page
ATTENTION_USAGE = """\
usage: audiossl inspect attention CLIP --encoder FOLDER [-o FILE.html]
       audiossl inspect attention --encoder FOLDER --data.root DIR [--json FILE] [--section.name VALUE ...]

With a CLIP: a page of where each block and head of a Swin or ViT looks: maps over the spectrogram, with its sound.

  -o, --output FILE.html            where to write the page [attention.html]
  --start_s S                       begin here in the recording [0]
  --duration_s S                    show so much [as long as the clips that the encoder was trained on]
  --second S, --hz HZ               of the first query, in the recording [of its loudest place]
  --pictures DIR                    PNGs of all heads of every block from that query, as well
  --encoder FOLDER                  as below

Without: measure over a data set how wide every block and head looks, as the mean entropy of its attention in bits,
beside random weights; a table is printed. Defaults stand in brackets.
"""
ATTENTION_EXAMPLE = """\
examples:
  audiossl inspect attention rooster.wav --encoder runs/first/encoder -o rooster.html
  audiossl inspect attention field.flac --encoder runs/first/encoder --start_s 3605 --hz 2500 --pictures heads/
  audiossl inspect attention --data.root my_sounds/ --encoder runs/first/encoder --json entropy.json

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
  --encoder, --stage, --change.*    as below

Without: measure over a data set how many regions are found again in such a second view, beside random weights, the
picture's own points and chance; a change is drawn for each clip, up to what --change.* says, and a table is printed.
Defaults stand in brackets.
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
    """Write the page of what every block and head looks at in one clip, or measure over a data set."""
    if "--help" in arguments or "-h" in arguments or not arguments:
        print(_help(AttentionConfig, "inspect_attention", ATTENTION_USAGE, ATTENTION_EXAMPLE))
        return 0
    if any(argument.startswith(MEASURED) for argument in arguments):
        return _measure_attention(parse(AttentionConfig, "inspect_attention", arguments))
    parser = _page_parser("attention", "attention.html")
    parser.add_argument("clip", metavar="CLIP")
    parser.add_argument("--second", type=float)
    parser.add_argument("--hz", type=float)
    parser.add_argument("--pictures")
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
        print(_help(CorrespondenceConfig, "inspect_correspondence", CORRESPONDENCE_USAGE, CORRESPONDENCE_EXAMPLE))
        return 0
    if any(argument.startswith(MEASURED) for argument in arguments):
        return _measure_correspondence(parse(CorrespondenceConfig, "inspect_correspondence", arguments))
    parser = _page_parser("correspondence", "correspondence.html")
    parser.add_argument("clips", metavar="CLIP", nargs="+")
    parser.add_argument("--stage", type=int)
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
        shown = examine_two_clips(encoder, given.encoder, sounds[0], sounds[1], given.stage)
    else:
        shown = examine_two_views(encoder, given.encoder, sounds[0], change, given.stage)
    write_correspondence_page(path, shown)
    print(f"{path}: {len(shown.found.matches)} regions matched; open it in a browser")
    return 0


def _measure_attention(config: AttentionConfig) -> int:
    _refuse_files(config)
    from audiossl.explain.attention_entropy import measure_entropy

    encoder, clips = _open_data(config)
    _conclude(measure_entropy(encoder, clips, config, _say), config)
    return 0


def _measure_correspondence(config: CorrespondenceConfig) -> int:
    _refuse_files(config)
    from audiossl.explain.measured_correspondence import measure

    encoder, clips = _open_data(config)
    _conclude(measure(encoder, clips, config, _say), config)
    return 0


def _refuse_files(config: AttentionConfig | CorrespondenceConfig) -> None:
    """Refuse what cannot be written before anything is measured."""
    for flag, name in (("--json", config.json), ("--csv", config.csv), ("--pickle", config.pickle)):
        if name is not None:
            if not Path(name).parent.is_dir():
                raise UserError(f"{flag} {name}: there is no folder {Path(name).parent}; make it first.")
            refuse_existing(name, config.overwrite)


def _open_data(config: AttentionConfig | CorrespondenceConfig) -> tuple[AudioEncoder, CachedClips]:
    """The encoder on its device, and the clips that are measured."""
    from audiossl.cli_probe import as_encoder
    from audiossl.data.cache import cache_clips
    from audiossl.data.open import open_clips
    from audiossl.encoder import load_model
    from audiossl.featurize import check_device, default_device

    encoder = load_model(config.encoder)
    device = default_device() if config.device is None else check_device(config.device)
    data = as_encoder(config.data, encoder)
    clips = cache_clips(open_clips(data), data)
    held_out = clips.split("validation")
    return encoder.to(device), held_out if len(held_out) else clips


def _say(text: str) -> None:
    print(f"inspect: {text}", file=sys.stderr, flush=True)


def _conclude(found: Entropies | Measured, config: AttentionConfig | CorrespondenceConfig) -> None:
    """Print the table and write the files that were asked for."""
    print(found.markdown())
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


def _help(config_type: type, name: str, usage: str, example: str) -> str:
    from audiossl.config_help import help_text

    # The help of a recipe, without what is said there of presets: this command has none.
    flags = help_text(config_type, name, []).partition("settings of the recipe\n")[2]
    return f"{usage}\n{flags}\n\n{example}"
