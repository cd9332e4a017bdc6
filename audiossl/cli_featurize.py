"""`audiossl featurize`: embeddings of anything audible, into one file, or by many processes into a folder."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiossl.embed.config import CHOICES, EmbedConfig
from audiossl.errors import UserError
from audiossl.installed import DEFAULT_MODEL

if TYPE_CHECKING:
    from audiossl.embeddings import FeaturizeResult

LISTED = 10  # files that could not be read, by name; the rest is counted

FEATURIZE_EXAMPLE = """\
examples:
  audiossl featurize clip.wav -o clip.csv
  audiossl featurize my_sounds/ --model runs/first/encoder -o my_sounds.parquet
  audiossl featurize a.wav b.mp3 "calls/*.flac" --model runs/first/encoder -o calls.csv --level window
  audiossl featurize list.csv "shards/*.tar" hf:google/speech_commands:test --model runs/first/encoder -o out.parquet

Into a folder: shards of Parquet, written as they come. Given again after it was killed, the command goes on.
  audiossl featurize corpus/ --model runs/first/encoder -o corpus_embeddings/
  accelerate launch --multi_gpu --num_processes 8 -m audiossl featurize corpus/ --model ENCODER -o corpus_embeddings/

Files of any rate and length are taken and resampled. A row has the columns file, channel, start_s, end_s, valid_s,
sample_rate_in, peak_db, status and message, and the embedding. A file that cannot be read has a row with the reason.
"""


def featurize_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help='file, folder, "*.wav", manifest, .tar, or hf:NAME:SPLIT')
    add("--model", default=DEFAULT_MODEL, help="folder of an encoder (RUN/encoder), or a model's name; default: words")
    add("-o", "--output", metavar="OUT", required=True, help="a name that ends in .npz, .csv or .parquet, or a folder")
    add("--level", choices=CHOICES["level"], default="clip", help="one row a clip (default), a window or a frame")
    add("--window-s", type=float, metavar="S", help="length of a window; default: as the model was trained")
    add("--hop-s", type=float, metavar="S", help="distance of the windows; default: side by side")
    add("--pool", choices=CHOICES["pool"], default="mean", help="how a clip's windows become one row; default: mean")
    add("--layers", metavar="N,N", default="", help="blocks of the network, as --layers=-2,-1; default: its embedding")
    add("--channels", choices=CHOICES["channels"], default="mix", help="default: mix, their mean")
    add("--normalize", choices=CHOICES["normalize"], default="model", help="whose statistics; default: the model's")
    add("--batch-size", type=int, default=64, metavar="N", help="windows at a time; default: %(default)s")
    add("--workers", type=int, default=0, metavar="N", help="threads that decode; default: two a core")
    add("--device", help="cpu, cuda ...; default: a GPU when there is one")
    bad = "a file that cannot be read: keep a row with the reason (default), leave it out, or stop"
    add("--errors", choices=CHOICES["errors"], default="record", help=bad)
    add("--outside", action="store_true", help="let a manifest name files outside of its own folder")
    add("--overwrite", action="store_true", help="replace the file OUT when it exists")
    add("--json", action="store_true", help="print what was done as one line of JSON")
    add("--quiet", action="store_true", help="no progress bar, no summary")


def featurize(given: argparse.Namespace) -> int:
    """Write embeddings to one file, or to the shards of a folder."""
    config = EmbedConfig(
        given.level,
        given.window_s,
        given.hop_s,
        given.pool,
        _layers(given.layers),
        given.channels,
        given.normalize,
        given.batch_size,
        given.workers,
        given.errors,
        given.outside,
    )
    out = Path(given.output)
    is_folder = out.is_dir() or not out.suffix or given.output.endswith(os.sep)
    done = _into_folder(given, config, out) if is_folder else _into_file(given, config)
    if done and given.json:
        print(json.dumps({"output": given.output, **done}))
    return 0


def _layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise UserError(f"--layers is {text!r}: give numbers of blocks, as --layers=-2,-1.") from None


def _into_file(given: argparse.Namespace, config: EmbedConfig) -> dict[str, Any]:
    from audiossl.embeddings import check_output, refuse_existing

    check_output(given.output)
    refuse_existing(given.output, given.overwrite)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"several processes cannot write one file, {given.output}: give a folder as -o.")
    from audiossl.embed.sources import find_all
    from audiossl.featurize import featurize as embed

    # Each input by itself: a name typed wrongly is a mistake here, not one bad file among many.
    items = find_all(given.inputs, config.outside)
    settings = {name: getattr(config, name) for name in config.__dataclass_fields__}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        result = embed(items, given.model, device=given.device, progress=not given.quiet, **settings)
    n_read = len({row["file"] for row in result.table if row["status"] != "error"})
    if result.skipped and not n_read:
        count = f", and none of the {len(result.skipped)} files can be read" if len(result.skipped) > 1 else ""
        raise UserError(f"{result.skipped[0][1].rstrip('.')}{count}: {given.output} is not written.")
    result.save(given.output)
    if not given.quiet:
        for text in {str(warning.message) for warning in said if "these recordings" in str(warning.message)}:
            print(f"audiossl: warning: {text}", file=sys.stderr)
        _summary(result, given)
    return {"files": n_read, "rows": len(result), "not_read": len(result.skipped), "dim": result.embeddings.shape[1]}


def _summary(result: FeaturizeResult, given: argparse.Namespace) -> None:
    for _, reason in result.skipped[:LISTED]:
        print(f"audiossl: not read: {reason}", file=sys.stderr)
    if len(result.skipped) > LISTED:
        print(f"audiossl: not read: {len(result.skipped) - LISTED} more", file=sys.stderr)
    n_good = sum(status != "error" for status in result.column("status"))
    bad = f"; {len(result.skipped)} files could not be read" if result.skipped else ""
    if not given.json:
        print(f"{given.output}: {n_good} embeddings of {result.embeddings.shape[1]} numbers{bad}")


def _into_folder(given: argparse.Namespace, config: EmbedConfig, out: Path) -> dict[str, Any]:
    from audiossl.embed.corpus import featurize_corpus

    summary = featurize_corpus(given.inputs, given.model, out, config, given.device, progress=not given.quiet)
    if summary is None:
        return {}
    if not given.quiet:
        if summary.warning:
            print(f"audiossl: warning: {summary.warning}", file=sys.stderr)
        before = f", {summary.files_before} were there before" if summary.files_before else ""
        why = ", and their rows say why" if config.errors == "record" else ""
        bad = f"; {summary.not_read} could not be read{why}" if summary.not_read else ""
        text = (
            f"{out}: {summary.rows} rows of {summary.files} files{before}{bad}; {summary.files_per_second:.0f} files a "
            f"second, {summary.wait_percent:.0f} % of the time waiting for sound"
        )
        if not given.json:
            print(text)
    return summary._asdict()
