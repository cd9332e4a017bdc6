"""The flags of `audiossl inspect attention` over a data set. No torch here, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiossl.data.config import DataConfig


@dataclass
class AttentionConfig:
    """Measure how wide every block and head of an encoder looks."""

    encoder: str  # folder of the encoder, such as runs/first/encoder, or the name of a model; a Swin or a ViT
    json: str | None = None  # file for all numbers as JSON
    csv: str | None = None  # file for all numbers as a table
    pickle: str | None = None  # file for the encoder's entropies alone: a list of blocks, each a list of its heads
    overwrite: bool = False  # replace those files when they exist
    random_seeds: list[int] = field(default_factory=lambda: [0])  # of networks with random weights beside it
    device: str | None = None  # cpu, cuda ...; by default a GPU when there is one
    # The validation split is measured, or all clips where there is none. Rate and length are the encoder's, unless
    # flags say otherwise.
    data: DataConfig = field(default_factory=DataConfig)
