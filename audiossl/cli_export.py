"""`audiossl export`: a model as one ONNX graph, front end included, in a folder that is used without torch."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiossl.errors import UserError

if TYPE_CHECKING:
    import numpy as np

MOST_CLIPS = 256  # that int8 is calibrated and compared on, evenly over the folder

EXPORT_EXAMPLE = """\
examples:
  audiossl export --model runs/first/encoder -o exported/
  audiossl export --model runs/words/classifier -o exported/ --int8 --calibrate my_sounds/ --pt2
  python exported/listen.py recording.flac

The graph takes waves (batch, samples) of any batch and length and holds the front end, its compression and statistics,
and the network. It is compared with the model, and nothing is written where they differ by more than 1e-4. The folder
has model.onnx, config.json, a card, and listen.py, which needs onnxruntime and soundfile but no torch.
"""


def export_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    add = parser.add_argument
    add("--model", required=True, help="folder of a classifier (RUN/classifier) or an encoder (RUN/encoder), or a name")
    add("-o", "--output", metavar="FOLDER", required=True, help="folder to write; one of an older export is replaced")
    add("--int8", action="store_true", help="a file in eight bits as well, a quarter of the size")
    add("--calibrate", metavar="FOLDER", help="recordings like those to come, for --int8 and for comparing")
    add("--pt2", action="store_true", help="the program of torch.export as well")
    add("--opset", type=int, metavar="N", help="version of ONNX's operators; default: 20")
    add("--json", action="store_true", help="print what was done as one line of JSON")


def export(given: argparse.Namespace) -> int:
    """Write the folder, and say what it holds."""
    from audiossl.classifier import load_classifier
    from audiossl.classifier_files import HEAD
    from audiossl.encoder import load_model
    from audiossl.export.folder import ExportOptions, check_installed
    from audiossl.export.folder import export as write
    from audiossl.export.onnx_file import OPSET, check_opset

    check_installed()
    opset = OPSET if given.opset is None else given.opset
    check_opset(opset)
    model = load_classifier(given.model) if (Path(given.model) / HEAD).is_file() else load_model(given.model)
    clips, answers = _clips(given.calibrate, model.sample_rate, 2 * model.clip_s) if given.calibrate else ([], [])
    config = write(model, given.output, ExportOptions(given.int8, given.pt2, opset, clips, answers))
    if given.json:
        print(json.dumps({"output": given.output, **config}))
        return 0
    print(_summary(Path(given.output), config))
    return 0


def _clips(folder: str, sample_rate: int, most_s: float) -> tuple[list[np.ndarray], list[str]]:
    """Waves of recordings below a folder, their first `most_s` seconds, and the names of the folders they lie in."""
    from audiossl import audio

    place = Path(os.path.expanduser(folder))
    files = audio.find_audio(place) if place.is_dir() else []
    if not files:
        raise UserError(f"--calibrate {place} holds no recordings: give a folder of recordings like those to come.")
    clips, answers, problems = [], [], []
    for path in files[:: -(-len(files) // MOST_CLIPS)]:
        try:
            clips.append(audio.load(path, sample_rate, duration_s=most_s)[0])
            answers.append(path.parent.name)
        except audio.AudioError as error:
            problems.append(str(error))
    if not clips:
        raise UserError(f"--calibrate {place}: none of its recordings can be read, such as {problems[0]}")
    if problems:
        print(f"audiossl: not read: {len(problems)} recordings, such as {problems[0]}", file=sys.stderr)
    return clips, answers


def _summary(folder: Path, config: dict[str, Any]) -> str:
    size = (folder / "model.onnx").stat().st_size / 1e6
    lines = [
        f"{folder / 'model.onnx'}: {size:.1f} MB, wave (batch, samples) at {config['sample_rate']} Hz -> "
        f"{config['output']} (batch, {config['dim']}); {config['largest_difference']:.1e} from PyTorch at most"
    ]
    if "int8" in config:
        found = config["int8"]
        lines.append(
            f"{folder / 'model.int8.onnx'}: {found['bytes_int8'] / 1e6:.1f} MB, {found['ms_int8']:.2f} ms a clip for "
            f"{found['ms_float']:.2f} ms, cosine to float {found['cosine_mean']:.4f}"
        )
        if "accuracy_int8" in found:
            before, after = 100 * found["accuracy_float"], 100 * found["accuracy_int8"]
            lines[-1] += f", accuracy {after:.1f} % for {before:.1f} %"
    if "model.pt2" in config["sha256"]:
        lines.append(f"{folder / 'model.pt2'}: {(folder / 'model.pt2').stat().st_size / 1e6:.1f} MB")
    return "\n".join([*lines, f"use it without torch: python {folder / 'listen.py'} RECORDING"])
