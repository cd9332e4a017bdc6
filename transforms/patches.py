"""Many small windows of every clip, for EMP-SSL (Tong et al., 2023), cut by one gather.

As the paper's fixed-size patches of images in number, but made for sound: a window is so many seconds wide and such a
part of the band high, nothing is flipped, and windows without sound, which are the same in every clip and teach
nothing, are rare (`place_weights`) and counted (`NEAR_SILENT`).

Drawing and cutting are two steps: all random numbers of a batch are drawn first, a few for each patch, and the patches
may then be cut in groups, the same ones as at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiossl.errors import UserError

from . import image as augment
from .crop import check_picture, view_size
from .draws import Draws
from .mixup import mix_powers
from .patch_cut import Size, Windows, cut, cut_stretched
from .view_config import PatchesConfig, shown
from .views import Views

# A patch is all but silent when its window has at most this part of the energy of the clip's loudest window of its
# size. Measured on Speech Commands: 39 dB below it in power, where 9 % of all windows of 64 bins x 1/3 s lie.
NEAR_SILENT = 0.1


def patch_size(patch_s: float, patch_band: float, image_size: Size, clip_s: float) -> Size:
    """The size (f, t) of patches of a picture (F, T) of clip_s seconds: multiples of 16 points, or all of an axis.

    Raises UserError when a patch is longer than a clip.

    >>> patch_size(0.3, 1.0, (72, 96), 1.0)
    (72, 32)
    """
    if patch_s > clip_s * 1.001:
        raise UserError(
            f"--views.patch_s {patch_s:g} is longer than a clip of {clip_s:g} s: lower it or raise --data.clip_s."
        )
    parts = min(patch_band, 1.0), min(patch_s / clip_s, 1.0)
    wanted = view_size(image_size[0] * parts[0], image_size[1] * parts[1])
    rows, frames = (n if part > 0.999 else min(w, n) for part, w, n in zip(parts, wanted, image_size, strict=True))
    return rows, frames


def place_energy(image: Tensor, size: Size) -> Tensor:
    """Energy of every window of a size: the mean over it of e^image above the clip's quietest cell.

    In a picture normalised to deviation 1, e^image goes with about the fourth root of the power, close to loudness: a
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


def band_places(n_bins: int) -> Tensor:
    """The place of each bin in the band (F,): from -1 at the band's lower edge to 1 at its upper, at bins' middles.

    >>> band_places(4)
    tensor([-0.7500, -0.2500,  0.2500,  0.7500])
    """
    return (torch.arange(n_bins) + 0.5) * (2.0 / n_bins) - 1.0


class Drawn(NamedTuple):
    """All that is drawn for the patches of a batch.

    row, frame, n_frames: (n, B), first row, first frame and frames shown of patch v of clip b.
    numbers: what changes the patches, by name, (n, B) or (n, B, stripes) each.
    silent: share of the patches that are all but silent, a scalar.
    """

    row: Tensor
    frame: Tensor
    n_frames: Tensor
    numbers: dict[str, Tensor]
    silent: Tensor

    def windows(self, patches: Tensor) -> Windows:
        """The windows of patches by their number (N,), v B + b."""
        sides = (side.flatten()[patches] for side in (self.row, self.frame, self.n_frames))
        return Windows(patches % self.row.shape[1], *sides)


class Patches(nn.Module):
    """Patches of every clip from its normalised picture, each changed for itself.

    Args:
        config: number, size, places and strengths.
        image_size: (F, T) of a clip's picture.
        clip_s: seconds that the picture shows.

    Shape: image (B, C, F, T) to `Views` with one group of images (n B, C, f, t), boxes (n, B, 4) and the share of
    patches that are all but silent. A picture's gradient flows through (a front end may be learned).
    Raises UserError when a patch is longer than a clip, a grid cannot have as many patches, or a picture is of another
    size.

    >>> patches = Patches(PatchesConfig(n_patches=5, patch_s=0.5), (64, 96), clip_s=1.0)
    >>> image = torch.randn(4, 1, 64, 96)
    >>> out = patches(image, torch.Generator().manual_seed(0))
    >>> out.images[0].shape, out.boxes.shape
    (torch.Size([20, 1, 64, 48]), torch.Size([5, 4, 4]))
    >>> drawn = patches.draw(image, torch.Generator().manual_seed(0))  # the last two patches of each clip alone:
    >>> patches.cut(image, drawn, slice(3, 5)).equal(out.images[0][12:])
    True
    """

    def __init__(self, config: PatchesConfig, image_size: Size, clip_s: float):
        super().__init__()
        self.config, self.clip_s = config, clip_s
        self.n_bins, self.n_frames = image_size
        self.size = patch_size(config.patch_s, config.patch_band, image_size, clip_s)
        self.grid_rows = -(-self.n_bins // self.size[0])
        if config.places == "grid" and config.n_patches % self.grid_rows:
            raise UserError(
                f"--views.n_patches {config.n_patches} makes no grid of patches that fill the band in "
                f"{self.grid_rows} rows: give a multiple of {self.grid_rows}."
            )

    def forward(self, image: Tensor, generator: torch.Generator | None = None) -> Views:
        """Cut the patches of a batch of pictures (B, C, F, T)."""
        drawn = self.draw(image, generator)
        frame_s = self.clip_s / self.n_frames
        sides = [
            drawn.frame * frame_s,
            (drawn.frame + drawn.n_frames) * frame_s,
            drawn.row / self.n_bins,
            (drawn.row + self.size[0]) / self.n_bins,
        ]
        return Views([self.cut(image, drawn)], torch.stack(sides, dim=-1), silent=drawn.silent)

    @torch.no_grad()
    def draw(self, image: Tensor, generator: torch.Generator | None = None) -> Drawn:
        """Draw where the patches of pictures (B, C, F, T) lie and how each is changed."""
        check_picture(image, (self.n_bins, self.n_frames))
        config, draws = self.config, Draws(generator, image.device)
        energy = place_energy(image, self.size).flatten(1)
        columns = self.n_frames - self.size[1] + 1
        if config.places == "grid":
            place = self._grid(columns, image.device)[:, None].expand(-1, len(image))
        else:
            place = draw_places(place_weights(energy, config.energy), draws, config.n_patches)
        silent = energy.gather(1, place.T) <= NEAR_SILENT * energy.amax(1, keepdim=True)
        row, frame = place // columns, place % columns
        width, (least, most) = self.size[1], config.time_stretch
        n_frames = torch.full_like(frame, width)
        if (least, most) != (1.0, 1.0):
            drawn = draws.uniform(*frame.shape, low=least, high=most) * width
            n_frames = drawn.round().long().clamp(1, self.n_frames)
            # A window keeps its middle, unless it would reach beyond the clip.
            frame = (frame + (width - n_frames) // 2).clamp(min=0).minimum(self.n_frames - n_frames)
        numbers = {name: x.unflatten(0, place.shape) for name, x in self._numbers(place.numel(), draws).items()}
        return Drawn(row, frame, n_frames, numbers, silent.float().mean())

    def cut(self, image: Tensor, drawn: Drawn, which: slice = slice(None)) -> Tensor:
        """The patches `which`, by their number within a clip: (n' B, C, f, t), patch v of clip b in row v B + b.

        One channel more with `band_channel`. Any grouping gives the same patches as all at once.
        """
        chosen = torch.arange(drawn.row.numel(), device=image.device).view_as(drawn.row)[which].flatten()
        windows = drawn.windows(chosen)
        cut_all = cut if self.config.time_stretch == [1.0, 1.0] else cut_stretched
        patches = cut_all(image, windows, self.size)
        numbers = {name: x[which].flatten(0, 1) for name, x in drawn.numbers.items()}
        if "other" in numbers:
            background = cut_all(image, drawn.windows(numbers["other"]), self.size)
            patches = mix_powers(patches.exp(), background.exp(), numbers["share"])
        patches = _vary(patches, numbers)
        if self.config.band_channel:
            rows = windows.row[:, None] + torch.arange(self.size[0], device=image.device)
            places = band_places(self.n_bins).to(image)[rows][:, None, :, None]
            patches = torch.cat([patches, places.expand(-1, -1, -1, self.size[1])], dim=1)
        return patches

    def _grid(self, columns: int, device: torch.device) -> Tensor:
        """Places (n,) of a grid, the same for all clips: low rows first, from the clip's beginning to its end."""
        row = spread(self.n_bins - self.size[0], self.grid_rows, device)
        frame = spread(columns - 1, self.config.n_patches // self.grid_rows, device)
        return (row[:, None] * columns + frame).flatten()

    def _numbers(self, n: int, draws: Draws) -> dict[str, Tensor]:
        """Random numbers of n patches, (n, ...) each."""
        config = self.config
        numbers: dict[str, Tensor] = {}
        if config.mixup:
            numbers["share"], numbers["other"] = draws.uniform(n, high=config.mixup), draws.permutation(n)
        if config.band_shift:
            numbers["shift"] = draws.uniform(n, low=-config.band_shift, high=config.band_shift)
        if config.band_warp:
            numbers["warp_place"], numbers["warp"] = augment.draw_warps(n, draws, config.band_warp)
        if config.noise:
            numbers["noise"] = augment.draw_noise_levels(n, draws, config.noise)
        for name, most in (("gain", config.gain), ("begin", config.fader), ("end", config.fader)):
            if most:
                numbers[name] = draws.uniform(n, low=-most, high=most)
        if config.stripes:
            for axis in ("time", "band"):
                width = draws.uniform(n, config.n_stripes, high=config.stripes)
                numbers[f"{axis}_width"] = width
                numbers[f"{axis}_stripe"] = draws.uniform(n, config.n_stripes) * (1.0 - width)
        return numbers

    def extra_repr(self) -> str:
        """Show size and strengths in `print(module)`."""
        return f"{shown(self.config)}, size={self.size}"


def _vary(patches: Tensor, numbers: dict[str, Tensor]) -> Tensor:
    """Change each patch for itself, by its numbers."""
    if "shift" in numbers:
        patches = augment.shift_bins(patches, numbers["shift"])
    if "warp" in numbers:
        patches = augment.warp_bins(patches, numbers["warp_place"], numbers["warp"])
    if "noise" in numbers:
        patches = augment.noise_floor(patches, numbers["noise"])
    if "gain" in numbers:
        patches = patches + numbers["gain"][:, None, None, None]
    if "begin" in numbers:
        patches = augment.linear_fader(patches, numbers["begin"], numbers["end"])
    if "time_stripe" in numbers:
        patches = augment.stripes(patches, -1, numbers["time_stripe"], numbers["time_width"])
        patches = augment.stripes(patches, -2, numbers["band_stripe"], numbers["band_width"])
    return patches


def spread(room: int, count: int, device: torch.device) -> Tensor:
    """`count` whole numbers evenly from 0 to `room`; their middle for one.

    In whole numbers, halves upwards, and without a branch, so that all devices and a graph of any count agree.

    >>> spread(5, 3, torch.device("cpu")), spread(5, 1, torch.device("cpu"))
    (tensor([0, 3, 5]), tensor([2]))
    """
    steps: Any = torch.sym_max(count - 1, 1)
    alone: Any = 1 - torch.sym_min(count - 1, 1)
    evenly: Tensor = (2 * room * torch.arange(count, device=device) + count - 1) // (2 * steps)
    places: Tensor = evenly + alone * (room // 2)
    return places
