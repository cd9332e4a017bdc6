"""The page of `audiossl inspect attention`: where each block and head looks from the place that is clicked.

All queries of all blocks and heads are in the page, a byte a weight: 0 where the query cannot look, else 1 to 255 in
parts of the largest weight of that query and head. Where they come to more than `MOST_BYTES`, only every second, third
... column of cells is kept as a query, and the page says so.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from audiossl.encoder import AudioEncoder
from audiossl.explain.attention import CLASS_TOKEN, MASS, BlockAttention, attention_of_blocks, block_name
from audiossl.explain.frontends import pictures_of
from audiossl.explain.sound import WAVE_WIDTH, Sound, player, plot, script, style, waveform
from audiossl.run.axes import place_of
from audiossl.run.page_file import write_page
from audiossl.run.pictures import Picture, colour_range, draw

HEIGHT = 300  # drawing units of the spectrogram, which is as wide as the waveform above it
MOST_BYTES = 3_000_000  # of weights in a page; as text they are a third more


@dataclass(frozen=True)
class AttentionShown:
    """What the page shows: a sound, its picture, and the attention of every block of the encoder called `name`.

    query: second of the sound and Hz, where the page begins.
    """

    sound: Sound
    picture: Picture
    blocks: Sequence[BlockAttention]
    name: str
    backbone: str
    query: tuple[float, float]


def examine_attention(
    encoder: AudioEncoder, name: str, sound: Sound, second: float | None = None, hz: float | None = None
) -> AttentionShown:
    """Look at a sound through an encoder; the page begins at the loudest place, but for `second` and `hz`.

    second: in the recording. Raises UserError for a backbone without attention, and a place outside of the picture.
    """
    blocks = attention_of_blocks(encoder, sound.wave)
    picture = clip_picture(encoder, sound)
    cells = blocks[0].cells
    row, frame = np.unravel_index(int(np.argmax(picture.image)), picture.image.shape)
    query = (
        float(cells.times[frame]) if second is None else second - sound.start_s,
        float(cells.frequencies[row]) if hz is None else hz,
    )
    cells.at(*query)
    return AttentionShown(sound, picture, blocks, name, encoder.config.backbone.name, query)


@torch.no_grad()
def clip_picture(encoder: AudioEncoder, sound: Sound) -> Picture:
    """The picture that the encoder's network is given, with its axes; of several channels the first."""
    wave = torch.from_numpy(sound.wave)[None].to(encoder.normalize.mean.device)
    return pictures_of(encoder.frontend, encoder.image(wave)[0].cpu().numpy(), sound)[0]


def write_attention_page(path: Path, shown: AttentionShown) -> Path:
    """Write the page and return its path; raises `UserError` when it cannot be written."""
    sound, step = shown.sound, query_step(shown.blocks)
    clip = Path(sound.name).name
    title = f"Attention on {clip}"
    kept = (
        "" if step == 1 else f" For size, every {step}th column of cells is a query: the one before a click is taken."
    )
    body = (
        f'<div class="sounding looking"><header><p class="over">audiossl inspect attention</p><h1>{escape(title)}</h1>'
        f'<p class="lead">{escape(_lead(shown))}</p></header>'
        f'<div class="card sound">{waveform(sound)}{player(sound.wave, sound.sample_rate, clip)}</div>'
        f"{_controls(shown)}"
        f'<div class="card spectrogram">{_spectrogram(shown)}<p class="small readout" role="status"></p></div>'
        '<p class="small under">A click sets the query, the outlined cell, and goes to that time; with the picture in '
        "focus the arrow keys move it by a cell. Orange: where the query looks, in parts of the head's largest weight. "
        "Hatched: where it cannot look, in other windows or across an edge that was rolled. The line surrounds "
        f"the fewest cells that hold {100 * MASS:g} % of the map.{kept}</p>"
        '<section><h2>All heads</h2><div class="heads"></div></section>'
        f"{''.join(_data(block, step) for block in shown.blocks)}</div>"
    )
    own = resources.files("audiossl.explain")
    css, code = (own.joinpath(f"attention.{kind}").read_text("utf-8") for kind in ("css", "js"))
    return write_page(path, title, body, style() + css, script() + code)


def _lead(shown: AttentionShown) -> str:
    sound = shown.sound
    part = f"{sound.start_s:g} to {sound.start_s + sound.duration_s:.4g} s"
    return f"{sound.name}, {part}, through {shown.name} ({shown.backbone}, {len(shown.blocks)} blocks)."


def _controls(shown: AttentionShown) -> str:
    last = len(shown.blocks)
    token = any(block.has_class_token for block in shown.blocks)
    ask = '<label><input type="checkbox" name="token"> class token as the query</label>' if token else ""
    return (
        '<form class="card controls" autocomplete="off">'
        f'<label>Block <input type="range" name="block" min="1" max="{last}" value="{last}"><output></output></label>'
        '<label>Head <input type="range" name="head" min="0" max="1" value="0"><output></output></label>'
        f'<span><label><input type="checkbox" name="masked"> only the cells that hold {100 * MASS:g} %</label>'
        f" {ask}</span>"
        "</form>"
    )


def _spectrogram(shown: AttentionShown) -> str:
    picture, sound = shown.picture, shown.sound
    svg = draw(picture, colour_range([picture]), picture.end_s - picture.start_s, WAVE_WIDTH, HEIGHT)
    start, end = picture.start_s - sound.start_s, picture.end_s - sound.start_s
    across = (shown.query[0] - start) / (end - start)
    up = place_of(shown.query[1], picture.frequencies)
    return (
        f'<div class="query" data-across="{across:.4f}" data-up="{up:.4f}" data-mass="{MASS}">'
        f"{plot(svg, start, end, WAVE_WIDTH, HEIGHT)}</div>"
    )


def query_step(blocks: Sequence[BlockAttention]) -> int:
    """Every how many columns of cells there is a query, so that all weights fit into `MOST_BYTES`."""
    step = 1
    while sum(_n_bytes(block, step) for block in blocks) > MOST_BYTES and step < blocks[0].cells.grid[1]:
        step += 1
    return step


def _n_bytes(block: BlockAttention, step: int) -> int:
    rows, columns = block.cells.grid
    return rows * -(-columns // step) * block.n_heads * block.weights.shape[-1]


def packed(block: BlockAttention, step: int) -> dict[str, np.ndarray]:
    """A block's attention in whole numbers.

    windows (Q,): the window of each query, row by row and every `step`-th column, the class token last. weights (Q,
    heads, N) uint8: 0 for a key that is not seen, else 1 + 254 w / peak. peaks (Q, heads): the largest weight.
    tokens (W, N): the cell of each key, negative for none.
    """
    rows, columns = block.cells.grid
    queries = [r * columns + c for r in range(rows) for c in range(0, columns, step)]
    queries += [CLASS_TOKEN] * block.has_class_token
    places = np.array([block.row(query) for query in queries])
    windows = places[:, 0]
    weights = block.weights[windows, :, places[:, 1]]
    seen = block.seen[windows % len(block.seen), places[:, 1]] & (block.tokens[windows] >= 0)
    visible = np.where(seen[:, None], weights, 0.0)
    peaks = visible.max(-1).astype(np.float32)
    levels = 1 + np.round(254 * visible / np.maximum(peaks, 1e-30)[..., None])
    return {
        "windows": windows.astype(np.int32),
        "weights": np.where(seen[:, None], levels, 0).astype(np.uint8),
        "peaks": peaks,
        "tokens": block.tokens.astype(np.int32),
    }


def _data(block: BlockAttention, step: int) -> str:
    cells = block.cells
    facts = {
        "name": block_name(block.name),
        "heads": block.n_heads,
        "grid": cells.grid,
        # Cells in parts of the picture: the last ones reach beyond it where the network padded.
        "size": (cells.stride[0] / len(cells.frequencies), cells.stride[1] / len(cells.times)),
        "seconds": cells.centres_s.round(3).tolist(),
        "hz": cells.centres_hz.round(1).tolist(),
        "unit": cells.unit,
        "step": step,
        "token": block.has_class_token,
    }
    arrays = "".join(
        f' data-{name}="{base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()}"'
        for name, array in packed(block, step).items()
    )
    return f'<i hidden class="block" data-facts="{escape(json.dumps(facts), quote=True)}"{arrays}></i>'
