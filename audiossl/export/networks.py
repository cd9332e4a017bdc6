"""Networks for a graph: where a backbone asks how wide a picture is, its counterpart here computes it.

A graph is made once for pictures of every width, so that "pad if it is too short" has to be "pad by so much, or by 0".
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models.swin_transformer import PatchMerging
from torch import Tensor, nn
from torch.nn import functional

from audiossl.backbones.audiontt import AudioNtt
from audiossl.backbones.backbone import Backbone, BackboneOutput
from audiossl.backbones.swin import PaddedSwinBlock, PublishedSwinBlock
from audiossl.bag import BagOfPatches
from audiossl.transforms.patches import band_places, spread


class GraphBackbone(Backbone):
    """A backbone that pads by what it computes."""

    def _padded(self, image: Tensor) -> Tensor:
        pad: list[Any]
        if self.patch_size == (1, 1):
            pad = [torch.sym_max(least - n, 0) for n, least in zip(image.shape[2:], self.least_size, strict=True)]
        else:
            pad = [(n + side - 1) // side * side - n for n, side in zip(image.shape[2:], self.patch_size, strict=True)]
        return functional.pad(image, (0, pad[1], 0, pad[0]))


class GraphAudioNtt(AudioNtt):
    """AudioNTT that pads a picture shorter than one of its frames by what it computes."""

    def forward_features(self, image: Tensor) -> Tensor:
        """Frames (B, D, 1, T') of pictures (B, C, F, T)."""
        return super().forward_features(functional.pad(image, (0, torch.sym_max(self.reduction - image.shape[3], 0))))


class GraphSwinBlock(PaddedSwinBlock):
    """A Swin block whose mask is part of the graph: whatever the width, it pads, and knows what was padding."""

    def _attn(self, x: Tensor) -> Tensor:
        clips, height, width, _ = x.shape
        window, shift = self.window_size, self.shift_size
        rows, columns = (-(-height // window[0])), (width + window[1] - 1) // window[1]  # of windows
        padded = (rows * window[0], columns * window[1])
        x = functional.pad(x, (0, 0, 0, padded[1] - width, 0, padded[0] - height))
        if any(shift):
            x = x.roll((-shift[0], -shift[1]), (1, 2))
        x = _windows(x, (rows, columns), window)  # (B, rows, columns, tokens, D)
        mask = self._mask((height, width), (rows, columns), x)
        if mask is not None:
            mask = mask.expand(clips, -1, -1, -1, -1).flatten(0, 2)
        x = self.attn(x.flatten(0, 2), mask=mask).unflatten(0, (clips, rows, columns)).unflatten(3, window)
        x = x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        if any(shift):
            x = x.roll(shift, (1, 2))
        return x[:, :height, :width]

    def _mask(self, size: tuple[int, int], count: tuple[int, int], x: Tensor) -> Tensor | None:
        """Additive mask (rows, columns, tokens, tokens) of `count` windows, as `window_mask` makes it."""
        if self.padding_is_seen and not any(self.shift_size):
            return None
        row, real_row = self._stretches(size[0], count[0], 0, x.device)
        column, real_column = self._stretches(size[1], count[1], 1, x.device)
        regions = row[:, None] * 3 + column
        if not self.padding_is_seen:
            regions = torch.where(real_row[:, None] & real_column, regions, -1)
        groups = _windows(regions[None, :, :, None], count, self.window_size)[0, ..., 0]
        apart = groups[..., :, None] != groups[..., None, :]
        return torch.where(apart, float("-inf"), 0.0).to(x.dtype)

    def _stretches(self, length: int, count: int, axis: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Of the places of a padded, rolled axis: stretch (0, 1, 2), and whether a token of the picture is there."""
        window, shift = self.window_size[axis], self.shift_size[axis]
        padded = count * window
        place = torch.arange(padded, device=device)
        real = (place < length).to(torch.int64)
        if not shift:
            return torch.zeros_like(place), real > 0
        stretch = (place >= padded - window).to(torch.int64) + (place >= padded - shift).to(torch.int64)
        return stretch, real.roll(-shift, 0) > 0


def _windows(x: Tensor, count: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Windows (B, rows, columns, tokens, D) of a grid (B, F', T', D) that they divide."""
    x = x.unflatten(2, (count[1], window[1])).unflatten(1, (count[0], window[0]))
    return x.transpose(2, 3).flatten(3, 4)


class PublishedGraphSwinBlock(GraphSwinBlock):
    """The block as EsViT's code runs it: tokens attend to the padding of their window."""

    padding_is_seen = True


class GraphPatchMerging(PatchMerging):
    """Four tokens to one, over a width that is padded to an even one by what is computed."""

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, F' / 2, T' / 2, D') of (B, F', T', D), both rounded up."""
        height, width = ((n + 1) // 2 for n in x.shape[1:3])
        x = functional.pad(x, (0, 0, 0, 2 * width - x.shape[2], 0, 2 * height - x.shape[1]))
        x = x.unflatten(2, (width, 2)).unflatten(1, (height, 2))
        return self.reduction(self.norm(x.permute(0, 1, 3, 4, 2, 5).flatten(3)))


class GraphBagOfPatches(BagOfPatches):
    """A bag of patches that computes how many there are, and cuts the columns of all of them in one go."""

    def forward(self, image: Tensor) -> BackboneOutput:
        """Pooled features (B, feature_dim) and patches' vectors (B, P, dim) of pictures (B, C, F, T)."""
        (f, t), n_clips = self.size, image.shape[0]
        missing: Any = torch.sym_max(t - image.shape[3], 0)
        image = functional.pad(image, (0, missing))
        n_columns = self.columns(image.shape[3])
        rows = _spans(spread(self.image_size[0] - f, self.n_rows, image.device), f)
        frames = _spans(spread(image.shape[3] - t, n_columns, image.device), t)
        patches = image.index_select(2, rows).index_select(3, frames)
        patches = patches.unflatten(3, (n_columns, t)).unflatten(2, (self.n_rows, f))
        patches = patches.permute(0, 2, 4, 1, 3, 5)  # (B, rows, columns, C, f, t)
        if self.band_channel:
            places = band_places(self.image_size[0])[rows].reshape(1, self.n_rows, 1, 1, f, 1)
            patches = torch.cat([patches, places.expand(n_clips, -1, n_columns, -1, -1, t)], dim=3)
        vectors = self._finished(self.of_patches(patches.flatten(0, 2)))
        vectors = vectors.unflatten(0, (n_clips, self.n_rows * n_columns))
        grid = (self.n_rows, n_columns)
        return BackboneOutput(self._pool(vectors, grid), vectors, grid)


def _spans(starts: Tensor, length: int) -> Tensor:
    """The places start, start + 1 ... of spans of one length, one after the other."""
    return (starts[:, None] + torch.arange(length)).flatten()


COUNTERPARTS: dict[type[nn.Module], type[nn.Module]] = {
    Backbone: GraphBackbone,
    BagOfPatches: GraphBagOfPatches,
    AudioNtt: GraphAudioNtt,
    PaddedSwinBlock: GraphSwinBlock,
    PublishedSwinBlock: PublishedGraphSwinBlock,
    PatchMerging: GraphPatchMerging,
}
