"""How wide every block and head looks over a data set: mean entropy of its attention, in bits.

EsViT's analysis writes the mean entropy of the heads of twelve layers, over the 49 queries of one window; here all
queries of all windows count, each over the cells that it can look at. A head that looks at n cells alike has log2(n)
bits, one that looks at a single cell has none. Blocks differ in how much they can look at, so that the most that
is possible stands beside, and so do random weights.
"""

from __future__ import annotations

import csv
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from audiossl.data import CachedClips
from audiossl.encoder import AudioEncoder
from audiossl.explain.attention import BlockAttention, attention_of_blocks, block_name
from audiossl.explain.attention_config import AttentionConfig
from audiossl.explain.text_table import text_table

BATCH = 64  # clips read at a time; they are looked at one by one


@dataclass(frozen=True)
class BlockEntropy:
    """Mean entropy of one block's heads in bits, and the most that is possible: the mean log2 of what can be seen."""

    name: str
    heads: tuple[float, ...]
    most: float


@dataclass(frozen=True)
class Entropies:
    """Blocks of the encoder and of networks with random weights, by name, and what they were measured on."""

    rows: dict[str, tuple[BlockEntropy, ...]]
    about: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"about": self.about, "rows": {name: [asdict(b) for b in row] for name, row in self.rows.items()}}

    def to_csv(self) -> str:
        """One line for each network, block and head."""
        file = io.StringIO()
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["network", "block", "head", "entropy_bits", "most_bits"])
        for name, row in self.rows.items():
            for block in row:
                table.writerows([name, block.name, n, bits, block.most] for n, bits in enumerate(block.heads, 1))
        return file.getvalue()

    def to_pickle(self) -> bytes:
        """The encoder's entropies alone, in bits: a list of blocks, each a list of its heads."""
        return pickle.dumps([list(block.heads) for block in next(iter(self.rows.values()))])

    def markdown(self) -> str:
        """The table, readable in a terminal as it stands: mean over the heads, narrowest and widest of them."""
        networks = list(self.rows)
        head = ["block", *networks, "narrowest head", "widest head", "most possible"]
        rows = []
        for blocks in zip(*self.rows.values(), strict=True):
            first = blocks[0]
            bits = [float(np.mean(block.heads)) for block in blocks]
            bits += [min(first.heads), max(first.heads), first.most]
            rows.append([first.name, *(f"{value:.2f}" for value in bits)])
        return f"{text_table(head, rows)}\n\n{self.about['protocol']}"


def measure_entropy(
    encoder: AudioEncoder,
    clips: CachedClips,
    config: AttentionConfig,
    say: Callable[[str], None] = lambda _: None,
) -> Entropies:
    """Mean entropy of every block and head of an encoder over all clips, and of random weights.

    Raises UserError for a backbone without attention that can be shown.
    """
    networks = {"encoder": encoder}
    networks |= {f"random weights, seed {seed}": encoder.randomised(seed) for seed in config.random_seeds}
    rows = {}
    for name, network in networks.items():
        say(name)
        found = [_look(network, wave) for batch in clips.batches(BATCH) for wave in batch.wave]
        rows[name] = tuple(_mean(block) for block in zip(*found, strict=True))
    about = {
        "encoder": config.encoder,
        "data": clips.describe(),
        "protocol": f"bits, mean over all queries of {len(clips)} clips of {clips.name}; of the encoder's heads also "
        "the one that looks narrowest and the one that looks widest",
    }
    return Entropies(rows, about)


def _look(encoder: AudioEncoder, wave: Tensor) -> list[BlockEntropy]:
    """Entropies of one clip."""
    blocks = attention_of_blocks(encoder, wave)
    return [BlockEntropy(block_name(block.name), *entropy_of_heads(block)) for block in blocks]


def _mean(clips: Sequence[BlockEntropy]) -> BlockEntropy:
    """Mean over clips of one block."""
    heads = np.mean([clip.heads for clip in clips], axis=0)
    return BlockEntropy(clips[0].name, tuple(heads.tolist()), float(np.mean([clip.most for clip in clips])))


def entropy_of_heads(block: BlockAttention) -> tuple[tuple[float, ...], float]:
    """Mean entropy of each head over the queries of a clip that are cells, and the most possible; in bits.

    Of the part of the attention that lies on cells: a class token and padding are left out.
    """
    cell = block.tokens >= 0
    seen = np.broadcast_to(block.seen, (len(cell), *block.seen.shape[1:])) & cell[:, None]
    weights = np.where(seen[:, None], block.weights, 0.0)
    part = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-30)
    bits = -(part * np.log2(np.maximum(part, 1e-30))).sum(-1)  # (W, heads, N)
    most = np.log2(np.maximum(seen.sum(-1), 1))
    return tuple(bits.transpose(1, 0, 2)[:, cell].mean(1).tolist()), float(most[cell].mean())
