"""Attention as pictures on disk, those of EsViT's analysis: all heads of a block, and where 60 % of their mass lies.

EsViT draws the first window of the last blocks from a fixed query, as squares; here the whole map lies over the
spectrogram's axes and the query is a place in seconds and Hz. Heads are in EsViT's order, the widest look first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiossl.errors import UserError
from audiossl.explain.attention import AttentionMap, BlockAttention, block_name, entropy_bits, mass_mask
from audiossl.run.pictures import Picture

PER_ROW, INCHES = 4, (3.4, 2.0)  # heads in a row, and the size of each


def write_attention_pictures(
    folder: Path, picture: Picture, blocks: Sequence[BlockAttention], query: tuple[float, float]
) -> list[Path]:
    """Write two PNGs for each block, and return their paths.

    attn_all_BLOCK.png: the maps of all heads from `query`, a second of the sound and Hz. attn_masked_all_BLOCK.png: the
    cells of each head that hold 60 % of its map, tinted and outlined over the spectrogram, with a dot at the query.

    Raises UserError when the folder cannot be written to.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, block in enumerate(blocks):
            found = block.map(block.cells.at(*query))
            for name, masked in (("attn_all", False), ("attn_masked_all", True)):
                paths.append(folder / f"{name}_{number}.png")
                _draw_heads(picture, found, query, masked).savefig(paths[-1], dpi=110)
    except OSError as error:
        raise UserError(f"--pictures {folder} cannot be written ({error.strerror}): choose another folder.") from error
    return paths


def _draw_heads(picture: Picture, found: AttentionMap, query: tuple[float, float], masked: bool) -> Any:
    from matplotlib.figure import Figure

    bits, masks = entropy_bits(found.weights), mass_mask(found.weights)
    n_rows = -(-len(bits) // PER_ROW)
    figure = Figure((PER_ROW * INCHES[0], n_rows * INCHES[1] + 0.5), layout="constrained")
    figure.suptitle(f"{block_name(found.block)} from {query[0]:.3g} s, {query[1]:,.0f} {found.cells.unit}", fontsize=10)
    panels = list(figure.subplots(n_rows, PER_ROW, squeeze=False).flat)
    for panel in panels:
        panel.set_axis_off()
    for panel, head in zip(panels, np.argsort(-bits), strict=False):
        panel.set_axis_on()
        panel.set_title(f"head {head + 1}, {bits[head]:.1f} bits", fontsize=8)
        _draw_head(panel, picture, found, int(head), masks[head] if masked else None)
        _mark(panel, picture, found, query)
    return figure


def _draw_head(panel: Any, picture: Picture, found: AttentionMap, head: int, mask: np.ndarray | None) -> None:
    """One head: its map in blue, grey where it cannot look, or its mask over the spectrogram."""
    n_bins, n_frames = picture.image.shape
    rows, columns = (np.arange(n + 1) * s for n, s in zip(found.cells.grid, found.cells.stride, strict=True))
    if mask is None:
        panel.set_facecolor("0.8")
        panel.pcolormesh(columns, rows, np.ma.masked_invalid(found.weights[head]), cmap="Blues", vmin=0.0)
    else:
        panel.imshow(picture.image, cmap="gray", origin="lower", aspect="auto", extent=(0, n_frames, 0, n_bins))
        tint = np.ma.masked_where(~mask, np.ones(mask.shape))
        panel.pcolormesh(columns, rows, tint, cmap="autumn", alpha=0.45, vmin=0.0, vmax=2.0)
        for x, y in outline(mask):
            panel.plot(np.multiply(x, found.cells.stride[1]), np.multiply(y, found.cells.stride[0]), "w-", lw=1.2)
    panel.set_xlim(0, n_frames)
    panel.set_ylim(0, n_bins)


def _mark(panel: Any, picture: Picture, found: AttentionMap, query: tuple[float, float]) -> None:
    """A dot at the query, and ticks in seconds and Hz at the edges and middles of the picture."""
    cells = found.cells
    n_bins, n_frames = picture.image.shape
    frame = (query[0] - cells.times[0]) / cells.frame_s + 0.5 if cells.frame_s else 0.5
    row = np.interp(query[1], cells.frequencies, np.arange(n_bins) + 0.5)
    panel.plot(frame, row, "o", ms=5, mfc="cyan", mec="k")
    frames, bins = np.linspace(0, n_frames - 1, 3).astype(int), np.linspace(0, n_bins - 1, 3).astype(int)
    panel.set_xticks(frames + 0.5, [f"{cells.times[i]:.2f}" for i in frames], fontsize=6)
    panel.set_yticks(bins + 0.5, [f"{cells.frequencies[i]:.0f}" for i in bins], fontsize=6)


def outline(mask: np.ndarray) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Edges of a mask (F', T') in cells, each as its two x and its two y.

    >>> sorted(outline(np.array([[True]])))
    [((0, 0), (0, 1)), ((0, 1), (0, 0)), ((0, 1), (1, 1)), ((1, 1), (0, 1))]
    """
    padded = np.pad(mask, 1).astype(int)
    across = np.argwhere(np.diff(padded, axis=0)[:, 1:-1])  # between a row and the next
    along = np.argwhere(np.diff(padded, axis=1)[1:-1])
    edges = [((int(c), int(c) + 1), (int(r), int(r))) for r, c in across]
    return edges + [((int(c), int(c)), (int(r), int(r) + 1)) for r, c in along]
