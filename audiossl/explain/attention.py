"""Attention of Swin and ViT blocks as maps over the spectrogram: windows stitched, shifts undone, padding cut.

A block attends among the tokens of a window: Swin's are stretches of the grid, rolled in every other block, a ViT's
is the whole picture with the class token before it. Here every token knows its cell of the spectrogram, so that
a query given in seconds and Hz has one map, whatever the block did to the grid. Regions that a query cannot look at,
in other windows or across the rolled edge, are NaN: a network that looks away gives 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from timm.models.swin_transformer import window_partition
from torch import Tensor, nn
from torch.nn import functional

from audiossl.backbones.swin import PaddedSwinBlock
from audiossl.encoder import AudioEncoder
from audiossl.errors import UserError
from audiossl.explain.cells import Cells, cells_of
from audiossl.explain.eval_mode import evaluating

MASS = 0.6  # of a map, shown by the masks: EsViT's and DINO's pictures keep the cells that hold 60 % of the attention
CLASS_TOKEN, NO_CELL = -1, -2


@dataclass(frozen=True)
class AttentionMap:
    """Where one query looks.

    weights: (heads, F', T') float32, NaN where the query cannot look. elsewhere: (heads,) weight on tokens that lie
    nowhere in the picture: class token, registers, and padding in networks that look at it; with it each head's weights
    sum to 1. query: second and Hz of the query's cell, None for the class token.
    """

    weights: np.ndarray
    elsewhere: np.ndarray
    query: tuple[float, float] | None
    cells: Cells
    block: str


@dataclass(frozen=True)
class BlockAttention:
    """All attention of one block on one clip, window by window.

    name: the block's name in timm's network. weights: (W, heads, N, N) float32, from the query tokens of each window to
    its key tokens. tokens: (W, N) cell of each token, `CLASS_TOKEN`, or `NO_CELL` for padding and registers. seen:
    (W or 1, N, N), which keys each query may look at. cells: of the block's grid.
    """

    name: str
    weights: np.ndarray
    tokens: np.ndarray
    seen: np.ndarray
    cells: Cells

    @property
    def n_heads(self) -> int:
        """Attention heads of the block."""
        return int(self.weights.shape[1])

    @property
    def has_class_token(self) -> bool:
        """Whether a class token can be the query."""
        return bool((self.tokens == CLASS_TOKEN).any())

    def row(self, cell: int) -> tuple[int, int]:
        """Window and token of a cell, or of `CLASS_TOKEN`."""
        window, token = np.argwhere(self.tokens == cell)[0]
        return int(window), int(token)

    def map(self, cell: int) -> AttentionMap:
        """Where a cell, or `CLASS_TOKEN`, looks: the map of every head."""
        window, token = self.row(cell)
        row, keys = self.weights[window, :, token], self.tokens[window]
        visible = (keys >= 0) & self.seen[window % len(self.seen), token]
        n_rows, n_columns = self.cells.grid
        weights = np.full((self.n_heads, n_rows * n_columns), np.nan, np.float32)
        weights[:, keys[visible]] = row[:, visible]
        elsewhere = row[:, keys < 0].sum(1)
        query = None if cell == CLASS_TOKEN else self.cells.place(cell)
        return AttentionMap(weights.reshape(-1, n_rows, n_columns), elsewhere, query, self.cells, self.name)


def attention(
    encoder: AudioEncoder,
    wave: Tensor | np.ndarray,
    block: int = -1,
    head: int | None = None,
    query: tuple[float, float] | None = None,
) -> AttentionMap:
    """Where one block looks from one place of a clip.

    Args:
        encoder: with a Swin or ViT backbone.
        wave: (S,) or (1, S), floats in [-1, 1] or int16 at the encoder's rate.
        block: number of the block, from 0; -1 is the last.
        head: number of the head, from 0, or None for all.
        query: second and Hz; None is the class token of a ViT.

    Raises:
        UserError: the backbone has no attention that can be shown, or no such block, head, place or token.

    >>> from audiossl.backbones import BackboneConfig
    >>> from audiossl.encoder import EncoderConfig
    >>> encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("swin_micro")))
    >>> found = attention(encoder, torch.zeros(16000), query=(0.3, 500.0))
    >>> found.weights.shape, found.block, f"{np.nansum(found.weights):.3f}"
    ((8, 4, 6), 'layers.2.blocks.1', '8.000')
    """
    blocks = attention_of_blocks(encoder, wave)
    if not -len(blocks) <= block < len(blocks):
        raise UserError(f"block={block} does not exist: the backbone has the blocks 0 to {len(blocks) - 1}.")
    chosen = blocks[block]
    if head is not None and not 0 <= head < chosen.n_heads:
        raise UserError(f"head={head} does not exist: {chosen.name} has the heads 0 to {chosen.n_heads - 1}.")
    if query is None and not chosen.has_class_token:
        raise UserError("query=None asks for the class token, which this backbone lacks: give (second, hz).")
    found = chosen.map(CLASS_TOKEN if query is None else chosen.cells.at(*query))
    if head is None:
        return found
    weights, elsewhere = found.weights[head : head + 1], found.elsewhere[head : head + 1]
    return AttentionMap(weights, elsewhere, found.query, found.cells, found.block)


@torch.no_grad()
def attention_of_blocks(encoder: AudioEncoder, wave: Tensor | np.ndarray) -> list[BlockAttention]:
    """All attention of every block on one clip (S,) or (1, S), from the first to the last, in one call of the encoder.

    The encoder is in eval mode for the call, its attention is computed plainly, and all is restored after it.
    Raises UserError for a backbone without attention that can be shown, naming it.
    """
    batch = torch.as_tensor(wave).reshape(1, -1).to(encoder.normalize.mean.device)
    found = _blocks(encoder)
    records: dict[str, _Record] = {name: _Record() for name, _, _ in found}
    with ExitStack() as stack:
        stack.enter_context(evaluating(encoder))
        for name, block, module in found:
            stack.enter_context(records[name].of(block, module))
        output = encoder.network(encoder.image(batch))
    n_prefix = getattr(encoder.network.net, "num_prefix_tokens", 0)
    blocks = []
    for name, block, _ in found:
        record = records[name]
        if record.weights is None:  # a pooling head, which the encoder does without
            continue
        if isinstance(block, PaddedSwinBlock):
            grid, stride = record.grid, _stage_stride(encoder, name)
            tokens = _swin_tokens(grid, block.window_size, block.shift_size)
        else:
            grid, stride = output.grid, encoder.network.stride
            tokens = _vit_tokens(encoder, grid, n_prefix)
        if tokens.shape != (record.weights.shape[0], record.weights.shape[-1]):
            raise _no_attention(encoder)
        cells = cells_of(encoder.frontend, batch.shape[1], grid, stride)
        blocks.append(BlockAttention(name, record.weights.numpy(), tokens.numpy(), record.seen(), cells))
    return blocks


def mass_mask(weights: np.ndarray, mass: float = MASS) -> np.ndarray:
    """The fewest cells of each map (heads, F', T') that hold this part of what the map holds; booleans.

    >>> mass_mask(np.array([[[0.5, 0.2, 0.3, np.nan]]])).tolist()
    [[[True, False, True, False]]]
    """
    flat = np.nan_to_num(weights.reshape(len(weights), -1).astype(np.float64))
    order = np.argsort(-flat, axis=1, kind="stable")
    held = np.cumsum(np.take_along_axis(flat, order, 1), axis=1)
    before = held - np.take_along_axis(flat, order, 1)
    mask = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(mask, order, before < mass * held[:, -1:], axis=1)
    return mask.reshape(weights.shape)


def entropy_bits(weights: np.ndarray) -> np.ndarray:
    """Entropy of each map (heads, F', T') in bits: 0 for one cell, log2 of the number of cells for all alike.

    >>> entropy_bits(np.array([[[0.25, 0.25, 0.0, np.nan]]])).tolist()
    [1.0]
    """
    flat = np.nan_to_num(weights.reshape(len(weights), -1).astype(np.float64))
    part = flat / np.maximum(flat.sum(1, keepdims=True), 1e-30)
    return -(part * np.log2(np.maximum(part, 1e-30))).sum(1)


def block_name(name: str) -> str:
    """A block's place in the network, counted from one.

    >>> block_name("layers.1.blocks.3"), block_name("blocks.11")
    ('stage 2, block 4', 'block 12')
    """
    numbers = [int(part) + 1 for part in name.split(".") if part.isdigit()]
    return f"stage {numbers[0]}, block {numbers[1]}" if len(numbers) == 2 else f"block {numbers[-1]}"


class _Record:
    """What one block shows while it runs: grid, weights after the softmax, and mask."""

    grid: tuple[int, int] = (0, 0)
    weights: Tensor | None = None
    mask: Tensor | None = None

    @contextmanager
    def of(self, block: nn.Module, module: Any) -> Iterator[None]:
        """Listen to a block while the context lasts, with its attention computed plainly."""

        def see_block(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and inputs[0].ndim == 4:
                self.grid = (inputs[0].shape[1], inputs[0].shape[2])

        def see_mask(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            self.mask = named.get("mask")

        def see_weights(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.weights = inputs[0].detach().float().cpu()

        fused = module.fused_attn
        hooks = [
            block.register_forward_pre_hook(see_block),
            module.register_forward_pre_hook(see_mask, with_kwargs=True),
            module.attn_drop.register_forward_pre_hook(see_weights),
        ]
        module.fused_attn = False
        try:
            yield
        finally:
            module.fused_attn = fused
            for hook in hooks:
                hook.remove()

    def seen(self) -> np.ndarray:
        """Which keys each query may look at, (W or 1, N, N)."""
        if self.mask is None:
            assert self.weights is not None
            return np.ones((1, *self.weights.shape[-2:]), dtype=bool)
        return (self.mask == 0).cpu().numpy()


def _blocks(encoder: AudioEncoder) -> list[tuple[str, nn.Module, Any]]:
    """Name, block and attention module of every block, in their order in the network."""
    modules = dict(encoder.network.net.named_modules())
    found: list[tuple[str, nn.Module, Any]] = [
        (name, module, module.attn) for name, module in modules.items() if isinstance(module, PaddedSwinBlock)
    ]
    if not found and hasattr(encoder.network.net, "num_prefix_tokens"):
        found = [
            (name.rpartition(".")[0], module, module)
            for name, module in modules.items()
            if hasattr(module, "fused_attn") and isinstance(getattr(module, "attn_drop", None), nn.Module)
        ]
    if not found:
        raise _no_attention(encoder)
    return found


def _no_attention(encoder: AudioEncoder) -> UserError:
    name = encoder.config.backbone.name
    return UserError(f"the backbone {name} has no attention that can be shown: give an encoder with a Swin or a ViT.")


def _stage_stride(encoder: AudioEncoder, name: str) -> tuple[int, int]:
    """Rows and frames to a cell of the stage of a Swin block, layers.STAGE.blocks.NUMBER."""
    reduction = 2 ** int(name.split(".")[1])
    patch = encoder.network.patch_size
    return patch[0] * reduction, patch[1] * reduction


def _swin_tokens(grid: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """Cell of each token (W, N): the numbers of the cells go the way of their tokens, padded, rolled and cut."""
    numbers = torch.arange(grid[0] * grid[1]).reshape(grid)
    numbers = functional.pad(numbers, (0, -grid[1] % window[1], 0, -grid[0] % window[0]), value=NO_CELL)
    rolled = numbers.roll((-shift[0], -shift[1]), (0, 1))
    return window_partition(rolled[None, :, :, None], window).flatten(1)


def _vit_tokens(encoder: AudioEncoder, grid: tuple[int, int], n_prefix: int) -> Tensor:
    """Cell of each token (1, N): what stands before the cells has none."""
    before = torch.full((n_prefix,), NO_CELL)
    if n_prefix and getattr(encoder.network.net, "cls_token", None) is not None:
        before[0] = CLASS_TOKEN
    return torch.cat([before, torch.arange(grid[0] * grid[1])])[None]
