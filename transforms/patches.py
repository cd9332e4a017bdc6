"""Many small windows of every clip, for EMP-SSL (Tong et al., 2023), cut by one gather.

As the paper's fixed-size patches of images in number, but made for sound: a window is so many seconds wide and such a
part of the band high, nothing is flipped or stretched, and windows without sound, which are the same in every clip and
teach nothing, are rare (`place_weights`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.errors import UserError

from . import image as augment
from .crop import view_size
from .draws import Draws
from .mixup import mix_power
from .view_config import PatchesConfig, shown
from .views import Views


def place_energy(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Energy of every window of a size: the mean over it of e^image above the clip's quietest cell.

    In a picture normalised to deviation 1, e^image goes with about the fifth root of the power, close to loudness: a
    word counts ten times its background and not a million times. A window at the clip's floor has energy 0.

    Shape: image (B, C, F, T), size (f, t) to (B, F - f + 1, T - t + 1).
    """
    above = image.exp().mean(1, keepdim=True)
    above = above - above.amin((2, 3), keepdim=True)
    # Along one axis after the other: f + t additions a window in place of f times t.
    rows = functional.avg_pool2d(above, (size[0], 1), stride=1)
    return functional.avg_pool2d(rows, (1, size[1]), stride=1)[:, 0]


def place_weights(energy: Tensor, share: float) -> Tensor:
    """Probability of each place (B, N) from its energy (B, N): share energy / sum(energy) + (1 - share) / N.

    A silent window of a clip that is not silent is drawn with (1 - share) / N; in a silent clip all are 1 / N.

    >>> place_weights(torch.tensor([[0.0, 1.0, 3.0, 0.0]]), 0.8)
    tensor([[0.0500, 0.2500, 0.6500, 0.0500]])
    """
    even = torch.full_like(energy, 1.0 / energy.shape[1])
    total = energy.sum(1, keepdim=True)
    loud = torch.where(total > 0.0, energy / total.clamp(min=1e-20), even)
    return share * loud + (1.0 - share) * even


def draw_places(weights: Tensor, draws: Draws, n: int) -> Tensor:
    """Draw n places of each clip, with replacement: (B, N) probabilities to (n, B) whole numbers below N.

    By the inverse of the cumulated probabilities at one uniform number each, so that all devices draw the same.
    """
    cumulated = weights.double().cumsum(1) if weights.device.type != "mps" else weights.cumsum(1)
    cumulated = cumulated / cumulated[:, -1:]
    uniform = draws.uniform(n, len(weights)).to(cumulated.dtype)
    return torch.searchsorted(cumulated, uniform.T.contiguous(), right=True).T.clamp(max=weights.shape[1] - 1)


def cut(image: Tensor, row: Tensor, frame: Tensor, size: tuple[int, int]) -> Tensor:
    """Windows from `row` and `frame` (n, B) on of each picture (B, C, F, T): (n B, C, f, t), clip b in row v B + b."""
    rows = row[..., None] + torch.arange(size[0], device=image.device)
    frames = frame[..., None] + torch.arange(size[1], device=image.device)
    clip = torch.arange(len(image), device=image.device)[:, None, None]
    windows = image.transpose(0, 1)[:, clip, rows[..., None], frames[..., None, :]]  # (C, n, B, f, t)
    return windows.permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()


class Patches(nn.Module):
    """Patches of every clip from its normalised picture.

    Args:
        config: number, size, places and strengths.
        image_size: (F, T) of a clip's picture.
        clip_s: seconds that the picture shows.

    Shape: image (B, C, F, T) to `Views` with one group of images (n B, C, f, t) and boxes (n, B, 4).
    Raises UserError when a patch is longer than a clip, or a grid cannot have as many patches.

    >>> patches = Patches(PatchesConfig(n_patches=5, patch_s=0.5), (64, 96), clip_s=1.0)
    >>> out = patches(torch.randn(4, 1, 64, 96), torch.Generator().manual_seed(0))
    >>> out.images[0].shape, out.boxes.shape
    (torch.Size([20, 1, 64, 48]), torch.Size([5, 4, 4]))
    """

    def __init__(self, config: PatchesConfig, image_size: tuple[int, int], clip_s: float):
        super().__init__()
        if config.patch_s > clip_s * 1.001:
            raise UserError(
                f"--views.patch_s {config.patch_s:g} is longer than a clip of {clip_s:g} s: "
                "lower it or raise --data.clip_s."
            )
        self.config, self.clip_s = config, clip_s
        self.n_bins, self.n_frames = image_size
        wanted = view_size(self.n_bins * config.patch_band, self.n_frames * config.patch_s / clip_s)
        self.size = min(wanted[0], self.n_bins), min(wanted[1], self.n_frames)
        self.grid_rows = -(-self.n_bins // self.size[0])
        if config.places == "grid" and config.n_patches % self.grid_rows:
            raise UserError(
                f"--views.n_patches {config.n_patches} makes no grid of patches that fill the band in "
                f"{self.grid_rows} rows: give a multiple of {self.grid_rows}."
            )

    @torch.no_grad()
    def forward(self, image: Tensor, generator: torch.Generator | None = None) -> Views:
        """Cut the patches of a batch of pictures (B, C, F, T)."""
        draws = Draws(generator, image.device)
        row, frame = self._grid(image) if self.config.places == "grid" else self._random(image, draws)
        patches = self._vary(cut(image, row, frame, self.size), draws)
        frame_s = self.clip_s / self.n_frames
        sides = [
            frame * frame_s,
            (frame + self.size[1]) * frame_s,
            row / self.n_bins,
            (row + self.size[0]) / self.n_bins,
        ]
        return Views([patches], torch.stack(sides, dim=-1))

    def _random(self, image: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Rows and frames (n, B) drawn by energy."""
        columns = self.n_frames - self.size[1] + 1
        if self.config.energy:
            energy = place_energy(image, self.size).flatten(1)
        else:
            energy = image.new_zeros(len(image), (self.n_bins - self.size[0] + 1) * columns)
        place = draw_places(place_weights(energy, self.config.energy), draws, self.config.n_patches)
        return place // columns, place % columns

    def _grid(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and frames (n, B), the same for all clips: low rows first, from the clip's beginning to its end."""
        columns = self.config.n_patches // self.grid_rows
        row = _spread(self.n_bins - self.size[0], self.grid_rows, image.device)
        frame = _spread(self.n_frames - self.size[1], columns, image.device)
        row, frame = row.repeat_interleave(columns), frame.repeat(self.grid_rows)
        return row[:, None].expand(-1, len(image)), frame[:, None].expand(-1, len(image))

    def _vary(self, patches: Tensor, draws: Draws) -> Tensor:
        """Change each patch for itself."""
        config = self.config
        if config.mixup:
            share, other = draws.uniform(len(patches), high=config.mixup), draws.permutation(len(patches))
            patches = mix_power(patches, patches.exp()[other], share)
        if config.band_shift:
            patches = augment.random_bin_shift(patches, draws, config.band_shift)
        if config.band_warp:
            patches = augment.random_warp(patches, draws, config.band_warp)
        if config.noise:
            patches = augment.random_noise_floor(patches, draws, config.noise)
        if config.fader:
            patches = augment.random_fader(patches, draws, config.fader)
        if config.stripes:
            patches = augment.random_stripes(patches, draws, config.stripes, config.n_stripes)
        return patches

    def extra_repr(self) -> str:
        """Show size and strengths in `print(module)`."""
        return f"{shown(self.config)}, size={self.size}"


def _spread(room: int, count: int, device: torch.device) -> Tensor:
    """`count` whole numbers evenly from 0 to `room`; their middle for one."""
    if count == 1:
        return torch.tensor([room // 2], device=device)
    return torch.linspace(0, room, count, device=device).round().long()
