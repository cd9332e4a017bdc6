"""An encoder for clips of another length than its own, with what it has learnt.

Networks are built for the picture of a clip, and an encoder's folder is opened by building them again: positions of a
ViT, windows of a Swin and the grid of a bag all follow from `clip_s`. A new length is a new network, therefore, which
is handed the old one's weights.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch
from timm.layers import resample_abs_pos_embed
from timm.models.swin_transformer import WindowAttention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError

Size = tuple[int, int]


def of_length(encoder: AudioEncoder, clip_s: float) -> AudioEncoder:
    """The same encoder for clips of another length, in seconds, as it will be when it is saved and opened again.

    Raises UserError where a network has weights for one length alone that cannot be carried over.
    """
    if encoder.clip_s == clip_s:
        return encoder
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced: leave the caller's draws alone
        other = AudioEncoder.build(_config(encoder, clip_s), encoder.normalize)
    weights = encoder.state_dict()
    for name, own in other.state_dict().items():
        if own.shape != weights[name].shape:
            weights[name] = _carried_over(name, weights[name], encoder, other)
    other.load_state_dict(weights)
    return other.to(encoder.normalize.mean.device).train(encoder.training)


def _config(encoder: AudioEncoder, clip_s: float) -> EncoderConfig:
    """What the encoder is built from for the new length; a bag keeps the size of its patches and their density."""
    config = replace(encoder.config, clip_s=clip_s)
    if config.bag is None:
        return config
    bag, frames = encoder.bag, encoder.frontend.n_frames(round(clip_s * encoder.sample_rate))
    columns = bag.columns(max(frames, bag.size[1]))  # as many as it sees in such a clip now
    patch_s = clip_s * min(1.0, bag.size[1] / frames)  # seconds are rounded to frames, which were these
    return replace(
        config,
        bag=replace(config.bag, n_patches=bag.n_rows * columns),
        patches=replace(config.patches, patch_s=patch_s),
    )


def _carried_over(name: str, weight: Tensor, encoder: AudioEncoder, other: AudioEncoder) -> Tensor:
    """A weight of the encoder in the shape that the other one has for it."""
    place, _, kind = name.rpartition(".")
    old, new = encoder.get_submodule(place), other.get_submodule(place)
    if kind == "pos_embed" and isinstance(old, VisionTransformer) and isinstance(new, VisionTransformer):
        return positions(weight, old.patch_embed.grid_size, new.patch_embed.grid_size)
    if kind == "relative_position_bias_table" and isinstance(old, WindowAttention) and isinstance(new, WindowAttention):
        return bias_table(weight, old.window_size, new.window_size)
    raise UserError(
        f"--data.clip_s is {other.clip_s:g} and the encoder was trained on clips of {encoder.clip_s:g} s: its network, "
        f"{encoder.config.backbone.name}, has weights for that length alone ({name}); give --data.clip_s "
        f"{encoder.clip_s:g}, or an encoder that was trained on clips of {other.clip_s:g} s."
    )


def positions(table: Tensor, old: Size, new: Size) -> Tensor:
    """A ViT's positions (1, N + F' T', D) for another grid (F', T'), as timm resamples them for other pictures.

    The first N are of tokens without a place, and stay.
    """
    return resample_abs_pos_embed(table, list(new), list(old), num_prefix_tokens=table.shape[1] - prod(old))


def bias_table(table: Tensor, old: Size, new: Size) -> Tensor:
    """Swin's biases ((2 h - 1) (2 w - 1), heads) of a window (h, w) for another one.

    A distance in cells keeps its bias, since a cell is as long as before; beyond the farthest known one that one
    counts.

    >>> bias_table(torch.tensor([[1.0], [2.0], [3.0]]), (1, 2), (1, 3)).flatten().tolist()
    [1.0, 1.0, 2.0, 3.0, 3.0]
    """
    row, column = (
        torch.arange(1 - m, m, device=table.device).clamp(1 - n, n - 1) + n - 1 for n, m in zip(old, new, strict=True)
    )
    known = table.unflatten(0, (2 * old[0] - 1, 2 * old[1] - 1))
    return known[row[:, None], column].flatten(0, 1)
