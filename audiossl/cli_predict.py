"""`audiossl predict`: what recordings are, by a classifier of a fine-tuning run."""

from __future__ import annotations

import argparse
import sys

from audiossl.errors import UserError

PREDICT_EXAMPLE = """\
examples:
  audiossl predict a_clip.wav more/*.flac --model runs/words/classifier
  audiossl predict a_long_recording.wav --model runs/words/classifier --level window --hop-s 0.5 -o found.csv
  audiossl predict calls/ --model runs/calls/classifier --unknown-below 0.8 --json --top 3

A line has the file, the seconds in it, the likeliest label and its probability. Recordings of any rate and length are
taken; one that is longer than the clips of the training is cut into windows, whose mean is taken at level clip.
"""


def predict_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help='file, folder, "*.wav", manifest, .tar, or hf:NAME:SPLIT')
    add("--model", required=True, help="folder of a classifier (RUN/classifier)")
    add("-o", "--output", metavar="OUT.csv", help="write a table with all probabilities, in place of lines")
    add("--level", choices=("clip", "window"), default="clip", help="one row a clip (default) or a window")
    add("--window-s", type=float, metavar="S", help="length of a window; default: as the classifier was trained")
    add("--hop-s", type=float, metavar="S", help="distance of the windows; default: side by side")
    add("--unknown-below", type=float, metavar="P", help="call it unknown below this probability; default: its own")
    add("--top", type=int, default=1, metavar="N", help="with --json, so many labels a row; default: %(default)s")
    add("--batch-size", type=int, default=64, metavar="N", help="windows at a time; default: %(default)s")
    add("--device", help="cpu, cuda ...; default: a GPU when there is one")
    add("--outside", action="store_true", help="let a manifest name files outside of its own folder")
    add("--overwrite", action="store_true", help="replace the file OUT.csv when it exists")
    add("--json", action="store_true", help="print one line of JSON for each row")


def predict(given: argparse.Namespace) -> int:
    """Print labels, or write them to a file; the code is 1 when nothing could be read."""
    if given.top < 1:
        raise UserError(f"--top is {given.top}: give at least 1.")
    if given.output is not None:
        from audiossl.embeddings import refuse_existing

        if not given.output.endswith(".csv"):
            raise UserError(f"-o {given.output} must end in .csv.")
        refuse_existing(given.output, given.overwrite)
    from audiossl.embed.sources import find_all
    from audiossl.predict import predict as name

    found = name(
        find_all(given.inputs, given.outside),
        given.model,
        level=given.level,
        window_s=given.window_s,
        hop_s=given.hop_s,
        unknown_below=given.unknown_below,
        batch_size=given.batch_size,
        device=given.device,
        progress=True,
    )
    if given.output is not None:
        found.to_csv(given.output)
    if given.json:
        print(found.to_json(given.top))
    elif given.output is None:
        print(found)
    bad = sum(row["label"] is None for row in found.table)
    if given.output is not None and not given.json:
        print(f"{given.output}: {len(found) - bad} rows{f'; {bad} could not be read' if bad else ''}")
    if bad == len(found):
        print("audiossl: none of the recordings could be read.", file=sys.stderr)
        return 1
    return 0
