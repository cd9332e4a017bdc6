"""A clip as a bag of patches: a network sees each patch of a grid, and their vectors are pooled to one (EMP-SSL).

Tong et al., EMP-SSL: Towards Self-Supervised Learning in One Training Epoch, 2023: the features are a linear layer,
batch norm and relu on the network's; a clip has the mean over its patches. The paper draws its patches at random in
testing too; here they lie on a grid, so that a clip has one embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.backbones import Backbone, BackboneConfig, BackboneOutput, build_backbone
from audiossl.backbones.pool import segment_means
from audiossl.bag_config import BagConfig
from audiossl.errors import UserError
from audiossl.heads import FeatureHead, Projector
from audiossl.transforms import PatchesConfig
from audiossl.transforms.patch_cut import Windows, cut
from audiossl.transforms.patches import band_places, patch_size, spread

Size = tuple[int, int]
CHUNK = 512  # patches that are seen at a time where no gradient is wanted


class BagOfPatches(nn.Module):
    """A network, its feature head and the pooling: image (B, C, F, T) -> BackboneOutput, as a `Backbone`.

    Attributes: dim, length of a patch's vector; feature_dim, length of the pooled one; patch_dim, length of what
    `of_patches` gives, which a projector takes; size (f, t) of a patch; projector, where it is part of the output.

    >>> config = BagConfig(n_patches=8, feature_dim=32)
    >>> bag = BagOfPatches(BackboneConfig("resnet10"), config, PatchesConfig(patch_s=0.5), (64, 96), clip_s=1.0)
    >>> output = bag.eval()(torch.zeros(2, 1, 64, 96))
    >>> output.features.shape, output.patches.shape, output.grid
    (torch.Size([2, 32]), torch.Size([2, 8, 32]), (1, 8))
    """

    def __init__(
        self,
        backbone: BackboneConfig,
        config: BagConfig,
        patches: PatchesConfig,
        image_size: Size,
        clip_s: float,
        in_channels: int = 1,
    ):
        super().__init__()
        self.config, self.image_size, self.clip_s = config, image_size, clip_s
        self.size = patch_size(patches.patch_s, patches.patch_band, image_size, clip_s)
        self.band_channel = patches.band_channel
        self.n_rows = -(-image_size[0] // self.size[0])
        if config.n_patches % self.n_rows:
            raise UserError(
                f"--bag.n_patches {config.n_patches} makes no grid of patches that fill the band in {self.n_rows} "
                f"rows: give a multiple of {self.n_rows}."
            )
        self.n_columns = config.n_patches // self.n_rows
        if config.pool == "ordered" and config.segments > self.n_columns:
            raise UserError(
                f"--bag.segments {config.segments} is more than the {self.n_columns} patches that lie one after the "
                "other: raise --bag.n_patches or lower it."
            )
        self.network: Backbone = build_backbone(backbone, self.size, in_channels + self.band_channel)
        width, kind = self.network.feature_dim, (config.activation, config.batch_norm)
        self.head = FeatureHead(width, config.feature_dim, *kind) if config.feature_dim else nn.Identity()
        self.patch_dim = config.feature_dim or width
        self.projector: Projector | None = None
        if config.output == "projection":
            self.projector = Projector(self.patch_dim, self.patch_dim, config.projection_dim, *kind)
        self.dim = config.projection_dim if self.projector is not None else self.patch_dim
        self.feature_dim = self.dim * {"mean_std": 2, "ordered": config.segments}.get(config.pool, 1)

    def of_patches(self, images: Tensor) -> Tensor:
        """Features (N, patch_dim) of patches (N, C, f, t)."""
        return self.head(self.network(images).features)

    def forward(self, image: Tensor) -> BackboneOutput:
        """Pooled features (B, feature_dim) and the vectors (B, P, dim) of the grid's patches, low rows first."""
        image = self._long_enough(image)
        row, frame = self._places(image.shape[3], image.device)
        n_clips, n_patches = len(image), len(row)
        clip = torch.arange(n_clips, device=image.device).repeat_interleave(n_patches)
        every = Windows(clip, row.repeat(n_clips), frame.repeat(n_clips), torch.full_like(clip, self.size[1]))
        step = len(clip) if torch.is_grad_enabled() or self.training else CHUNK
        parts = [
            self._vectors(image, Windows(*(side[at : at + step] for side in every))) for at in range(0, len(clip), step)
        ]
        vectors = torch.cat(parts).unflatten(0, (n_clips, n_patches))
        grid = (self.n_rows, n_patches // self.n_rows)
        return BackboneOutput(self._pool(vectors, grid), vectors, grid)

    def _vectors(self, image: Tensor, windows: Windows) -> Tensor:
        patches = cut(image, windows, self.size)
        if self.band_channel:
            rows = windows.row[:, None] + torch.arange(self.size[0], device=image.device)
            places = band_places(self.image_size[0]).to(image)[rows][:, None, :, None]
            patches = torch.cat([patches, places.expand(-1, -1, -1, self.size[1])], dim=1)
        return self._finished(self.of_patches(patches))

    def _finished(self, vectors: Tensor) -> Tensor:
        """What is kept of patches' features (N, patch_dim): they themselves, or their projections of length 1."""
        return vectors if self.projector is None else functional.normalize(self.projector(vectors).float(), dim=-1)

    def _long_enough(self, image: Tensor) -> Tensor:
        """Clips shorter than a patch get silence, the mean of the training clips, behind them."""
        missing = self.size[1] - image.shape[3]
        return functional.pad(image, (0, missing)) if missing > 0 else image

    def _places(self, n_frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """First rows and frames (P,) of the grid's patches in a picture of so many frames."""
        n_columns = self.columns(n_frames)
        rows = spread(self.image_size[0] - self.size[0], self.n_rows, device)
        frames = spread(n_frames - self.size[1], n_columns, device)
        return rows.repeat_interleave(n_columns), frames.repeat(self.n_rows)

    def columns(self, n_frames: int) -> int:
        """Patches side by side in a picture of so many frames: as dense as in a clip, rounded to the nearest number."""
        room, usual = n_frames - self.size[1], self.image_size[1] - self.size[1]
        if usual > 0:
            n_columns = 1 + (2 * (self.n_columns - 1) * room + usual) // (2 * usual)
        else:  # patches as long as a clip
            n_columns = (2 * self.n_columns * n_frames + self.image_size[1]) // (2 * self.image_size[1])
        # `sym_max` is `max`, and says the same in a graph for pictures of every width.
        columns: Any = torch.sym_max(n_columns, self.config.segments if self.config.pool == "ordered" else 1)
        return columns

    def _pool(self, vectors: Tensor, grid: Size) -> Tensor:
        pool = self.config.pool
        if pool == "mean_max":
            return vectors.mean(1) + vectors.amax(1)
        if pool == "mean_std":
            return torch.cat([vectors.mean(1), vectors.std(1, correction=0)], dim=1)
        if pool == "ordered":
            return segment_means(vectors.unflatten(1, grid).mean(1), self.config.segments).flatten(1)
        return vectors.mean(1)

    def middles(self, grid: Size, size: Size) -> tuple[Tensor, Tensor]:
        """Middles of the grid's patches: rows (F',) and frames (T',) of a picture (F, T), both from 0."""
        rows, frames = self._places(max(size[1], self.size[1]), torch.device("cpu"))
        middle = [
            (side + (n - 1) / 2) for side, n in ((rows[:: grid[1]], self.size[0]), (frames[: grid[1]], self.size[1]))
        ]
        return middle[0].clamp(max=size[0] - 1), middle[1].clamp(max=size[1] - 1)
