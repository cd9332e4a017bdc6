"""The folder of an exported model: the graph, what it needs to be used, and a program that uses it without torch."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import audiossl
from audiossl.errors import UserError
from audiossl.export.card import card
from audiossl.export.check import batches, check_close, largest_difference
from audiossl.export.graph import graph_module
from audiossl.export.onnx_file import OPSET, Session, check_opset, follow, quiet, shortest_wave, simplify, write_onnx
from audiossl.export.quantize import compared, quantise
from audiossl.whole_folder import written_whole

FORMAT = 1  # of config.json
CONFIG, CARD, PROGRAM = "config.json", "README.md", "listen.py"
ONNX, INT8, PT2 = "model.onnx", "model.int8.onnx", "model.pt2"
OWN = (CONFIG, CARD, PROGRAM, ONNX, INT8, PT2)


@dataclass
class ExportOptions:
    """What an exported folder holds besides model.onnx, and what it is tried on.

    clips: recordings (S,) at the model's rate, in [-1, 1]: every other one for ranges of int8, which is compared with
        float on the rest.
    answers: the label of each, where it is known.
    """

    int8: bool = False
    pt2: bool = False
    opset: int = OPSET
    clips: Sequence[np.ndarray] = field(default_factory=list)
    answers: Sequence[str] = field(default_factory=list)


def export(model: nn.Module, folder: str | os.PathLike[str], options: ExportOptions | None = None) -> dict[str, Any]:
    """Write a model, waves (batch, samples) -> (batch, size), as a folder for use without torch; return its config.

    model: an `AudioEncoder`, or a module that has one as `encoder` and gives scores (B, K) for its `labels`. The graph
    takes any batch and any length. It is compared with the model on made waves and on `clips`; beyond 1e-4 nothing is
    written. A folder that an export wrote before is replaced.

    Raises UserError for a model that no graph can hold, an opset that lacks an operator, a folder of something else,
    and for missing packages (extra "export").
    """
    options = options or ExportOptions()
    check_installed()
    place = Path(os.path.abspath(folder))
    _check_replaceable(place)
    check_opset(options.opset)
    model = copy.deepcopy(model).cpu().eval()
    facts = describe(model)
    with written_whole(place, OWN) as beside:
        config = _fill(model, facts, beside, options)
        (beside / CARD).write_text(card(config, place.name), encoding="utf-8")
    return config


def check_installed() -> None:
    """Raise UserError when the packages of the extra "export" are missing."""
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} not installed: pip install 'audiossl-toolkit[export]'.")


def _check_replaceable(place: Path) -> None:
    if place.is_dir():
        if any(place.iterdir()) and not (place / ONNX).is_file():
            raise UserError(f"{place} holds files but no {ONNX} of an export: choose another folder.")
    elif place.exists():
        raise UserError(f"{place} is a file: give a folder to export to.")


def describe(model: nn.Module) -> dict[str, Any]:
    """What config.json says of a model before anything is written."""
    encoder: Any = getattr(model, "encoder", model)
    if not hasattr(encoder, "sample_rate") or not hasattr(encoder, "frontend"):
        raise UserError(
            "this model has no front end of audiossl: give an AudioEncoder, or a module with one as encoder."
        )
    labels = [str(label) for label in getattr(model, "labels", [])]
    return {
        "library_name": "audiossl",
        "format": FORMAT,
        "output": "scores" if labels else "embedding",
        "sample_rate": encoder.sample_rate,
        "clip_s": encoder.clip_s,
        "dim": len(labels) or encoder.dim,
        "labels": labels,
        "multi_label": bool(getattr(model, "multi_label", False)),
        "unknown_below": float(getattr(model, "unknown_below", 0.0)),
        "frontend": encoder.config.frontend.to_dict(),
        "backbone": encoder.config.backbone.name,
    }


def _fill(model: nn.Module, facts: dict[str, Any], folder: Path, options: ExportOptions) -> dict[str, Any]:
    """Write all files but the card into `folder`, and return the configuration."""
    rate, n_samples = facts["sample_rate"], round(facts["clip_s"] * facts["sample_rate"])
    clips = [np.ascontiguousarray(clip, dtype=np.float32) for clip in options.clips]
    program = follow(graph_module(model), rate, facts["frontend"]["hop_length"])
    front = write_onnx(program, folder / ONNX, facts["output"], options.opset)
    simplify(folder / ONNX)
    difference = largest_difference(model, Session(folder / ONNX), batches(rate, n_samples, clips))
    check_close(difference, ONNX)
    config = {**facts, "opset": options.opset, "largest_difference": float(f"{difference:.2g}")}
    if options.int8:
        with quiet():
            quantise(folder / ONNX, folder / INT8, front, clips[::2])
        answers = [facts["labels"].index(name) if name in facts["labels"] else -1 for name in options.answers]
        tried = clips[1::2] or clips or [wave[0].numpy() for wave in batches(rate, n_samples, [])]
        config["int8"] = compared(folder / ONNX, folder / INT8, tried, n_samples, answers[1::2] or answers)
    if options.pt2:
        with quiet():
            torch.export.save(program, folder / PT2)
        loaded, shortest = torch.export.load(folder / PT2).module(check_guards=False), shortest_wave(program)
        waves = (wave for wave in batches(rate, n_samples, clips) if wave.shape[1] >= shortest)
        check_close(largest_difference(model, lambda wave: loaded(torch.from_numpy(wave)).numpy(), waves), PT2)
        config["pt2"] = {"shortest_samples": shortest}
    text = resources.files("audiossl.export").joinpath(PROGRAM).read_text(encoding="utf-8")
    (folder / PROGRAM).write_text(text, encoding="utf-8")
    config["versions"] = {"audiossl": audiossl.__version__, "torch": str(torch.__version__)}
    config["sha256"] = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return config


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
