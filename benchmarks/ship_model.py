"""Take the encoder of a run among the models that come with audiossl: 16-bit weights, an entry of the registry, a card.

    python benchmarks/ship_model.py RUN/encoder NAME --about "ONE LINE" --command "WHAT MADE IT" --commit "commit HASH"

A card that is there keeps its text between the marks of its scores, which `score_encoder.py DATA NAME --into` fills.
"""

from __future__ import annotations

import argparse
import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from audiossl.encoder import AudioEncoder, load_model
from audiossl.errors import UserError, errors_for_people
from audiossl.installed import DEFAULT_MODEL, REGISTRY
from audiossl.reading import read_json

SHELF = Path(__file__).parents[1] / "pretrained"
TEMPLATE = string.Template(Path(__file__).with_name("shipped_card.md").read_text(encoding="utf-8"))
BEGIN, END = "<!-- scores: begin -->", "<!-- scores: end -->"


def in_16_bits(encoder: AudioEncoder) -> dict[str, Tensor]:
    """The encoder's tensors, those of several dimensions in float16.

    Gains, biases and the running statistics of batch norms, and those of the pictures, are few and stay exact.
    Raises `UserError` for weights that float16 cannot hold.
    """
    found = {}
    for name, tensor in encoder.state_dict().items():
        is_weight = tensor.is_floating_point() and tensor.ndim > 1 and not name.startswith("normalize.")
        found[name] = (tensor.half() if is_weight else tensor).contiguous()
        if not torch.isfinite(found[name]).all():
            raise UserError(f"{name} holds numbers beyond float16: it cannot be kept in 16 bits.")
    return found


def put_into_registry(path: Path, name: str, about: str, config: Mapping[str, Any]) -> None:
    """Add an entry, or take the place of one."""
    entries = read_json(path) if path.is_file() else {}
    entries[name] = {"about": about, "config": dict(config)}
    path.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n", encoding="utf-8")


def scores_of(card: Path) -> str:
    """What stands between a card's marks; nothing without a card."""
    if not card.is_file():
        return ""
    return card.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def card_text(encoder: AudioEncoder, config: Mapping[str, Any], given: argparse.Namespace, n_bytes: int) -> str:
    """The card: what the model is, how it was made, what it is for, its scores."""
    return TEMPLATE.substitute(
        name=given.name,
        about=given.about,
        default=", which `audiossl.load_model()` opens without a name" if given.name == DEFAULT_MODEL else "",
        rate=encoder.sample_rate,
        dim=encoder.dim,
        parameters=f"{sum(p.numel() for p in encoder.parameters()) / 1e6:.2f} M",
        megabytes=f"{n_bytes / 1e6:.1f} MB",
        picture=f"{encoder.image_size[0]} x {encoder.image_size[1]}",
        clip_s=f"{encoder.clip_s:g}",
        second=f"{config['extra']['Length']}, {config['extra']['Precision']}",
        commands="\n    ".join(given.command),
        commit=given.commit,
        scores=scores_of(SHELF / "cards" / f"{given.name}.md"),
    )


@errors_for_people
def main() -> None:
    """Write weights, entry and card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", type=Path, help="RUN/encoder")
    parser.add_argument("name", help="what users give as --model")
    parser.add_argument("--about", required=True, help="one line")
    parser.add_argument("--command", required=True, action="append", help="one of those that made it, the first first")
    parser.add_argument("--commit", required=True, help="at which it was made, such as 'commit 0123456789'")
    given = parser.parse_args()
    encoder = load_model(given.encoder)
    config = read_json(given.encoder / "config.json")
    weights = SHELF / "weights" / f"{given.name}.safetensors"
    weights.parent.mkdir(exist_ok=True)
    (SHELF / "cards").mkdir(exist_ok=True)
    save_file(in_16_bits(encoder), weights, metadata={"format": "pt"})
    card = card_text(encoder, config, given, weights.stat().st_size)
    put_into_registry(SHELF / REGISTRY, given.name, given.about, config)
    (SHELF / "cards" / f"{given.name}.md").write_text(card, encoding="utf-8")
    print(f"{weights}: {weights.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
