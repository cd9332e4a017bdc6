"""Two views of spectrograms as BYOL-A makes them (Niizumi et al., 2021 and 2023), for a batch at once.

A background out of a memory of past clips, a random resize crop from a canvas half as wide again as the picture, a
random linear fader (version 2), and the views of a batch brought to mean 0 and deviation 1 together. Departures: both
views' backgrounds are older than the batch, where BYOL-A's could be the clip itself; and see
`audiossl.transforms.crop.resample_boxes` for its corners.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from . import image as augment
from .crop import Boxes, check_picture, plan_of, random_boxes, resample_by, view_size
from .draws import Draws
from .mixup import Mixture, MixupMemory
from .view_config import TwoViewsConfig, shown
from .views import Views


class TwoViews(nn.Module):
    """Two views of every clip from its normalised picture.

    Args:
        config: ranges and strengths.
        image_size: (F, T) of a clip's picture.
        clip_s: seconds that the picture shows.
        n_channels: C of the picture.

    Shape: image (B, C, F, T), or two pictures of the same clips, differently heard, one for each view, to `Views` with
    one group of images (2 B, C, F', T'), sides rounded to multiples of 16, and boxes (2, B, 4). A picture's gradient
    flows through.
    Raises UserError when a view is longer than a clip, and for a picture of another size.

    >>> views = TwoViews(TwoViewsConfig(memory=8), (64, 96), clip_s=1.0)
    >>> out = views(torch.randn(4, 1, 64, 96), torch.Generator().manual_seed(0))
    >>> out.images[0].shape, out.boxes.shape, len(views.memory)
    (torch.Size([8, 1, 64, 96]), torch.Size([2, 4, 4]), 4)
    """

    cells: Tensor

    def __init__(self, config: TwoViewsConfig, image_size: tuple[int, int], clip_s: float, n_channels: int = 1):
        super().__init__()
        if config.view_s > clip_s * 1.001:
            raise UserError(
                f"--views.view_s {config.view_s:g} is longer than a clip of {clip_s:g} s: "
                "lower it or raise --data.clip_s."
            )
        self.config, self.clip_s = config, clip_s
        self.n_channels, (self.n_bins, self.n_frames) = n_channels, image_size
        self.segment = min(self.n_frames, max(1, round(self.n_frames * config.view_s / clip_s)))
        self.size = view_size(self.n_bins, self.segment)
        self.memory = MixupMemory(config.memory, (n_channels, self.n_bins, self.segment)) if config.mixup else None
        # Frames in a second and bins in the band, for the sides of boxes.
        cells = torch.tensor([self.n_frames / clip_s, self.n_bins]).repeat_interleave(2)
        self.register_buffer("cells", cells, persistent=False)
        self.canvas = int(self.n_bins * config.canvas_band), int(self.segment * config.canvas_time)

    def forward(self, image: Tensor | Sequence[Tensor], generator: torch.Generator | None = None) -> Views:
        """Draw two views of a batch of pictures (B, C, F, T)."""
        pictures = [image] if isinstance(image, Tensor) else list(image)
        for picture in pictures:
            check_picture(picture, (self.n_bins, self.n_frames), self.n_channels)
        draws, config = Draws(generator, pictures[0].device), self.config
        n_clips = len(pictures[0])
        first = draws.integers(n_clips, below=self.n_frames - self.segment + 1)
        seen = [_segments(picture, first, self.segment) for picture in pictures]
        image = torch.cat(seen) if len(seen) > 1 else seen[0]
        canvas = (config.canvas_band, config.canvas_time)
        boxes = random_boxes(
            draws, 2 * n_clips, (self.n_bins, self.segment), canvas, config.band_scale, config.time_scale
        )
        places = self._boxes(boxes, first)
        view = self._views(image, draws, boxes)
        if config.band_shift:
            view = augment.random_bin_shift(view, draws, config.band_shift)
        if config.band_warp:
            view = augment.random_warp(view, draws, config.band_warp)
        if config.stripes:
            view = augment.random_stripes(view, draws, config.stripes, config.n_stripes)
        if config.renormalise:
            view = augment.renormalise(view)
        return Views([view], places)

    def _views(self, image: Tensor, draws: Draws, boxes: Boxes) -> Tensor:
        """Mix, cut and fade both views of all clips, whose boxes these are."""
        n_views, config = len(boxes.frame), self.config
        share = draws.uniform(n_views, high=config.mixup)
        begin, end = draws.uniform(2, n_views, low=-config.fader, high=config.fader)
        line = augment.lines(begin, end, self.size[1])
        mixture = None if self.memory is None else self.memory.mixture(image, share, draws)
        if image.device.type == "cpu" and image.dtype == torch.float32 and not image.requires_grad:
            # Numba takes half a second to import, and other devices have no use for it.
            from .fused_views import make_views

            made = make_views(image, mixture, boxes, line, self.size, self.canvas, config.interpolation)
        else:
            made = self._by_torch(image, mixture, boxes).add_(line)
        return made

    def _by_torch(self, image: Tensor, mixture: Mixture | None, boxes: Boxes) -> Tensor:
        """Mixed and cut views on any device, with gradients, one of every clip after the other."""
        n_clips = len(image)
        plan = plan_of(boxes, (self.n_bins, self.segment), self.size, self.canvas, self.config.interpolation)
        made = image.new_empty(len(boxes.frame), image.shape[1], *self.size)
        for first in range(0, len(made), n_clips):
            views = slice(first, first + n_clips)
            made[views] = resample_by(image if mixture is None else mixture.images(views), plan.part(views))
        return made

    def _boxes(self, boxes: Boxes, first: Tensor) -> Tensor:
        """Places of the views in the clips, (2, B, 4)."""
        start = boxes.frame + torch.cat([first, first])
        sides = [start, start + boxes.n_frames, boxes.row, boxes.row + boxes.n_rows]
        return (torch.stack(sides, dim=1) / self.cells).view(2, -1, 4)

    def extra_repr(self) -> str:
        """Show size and strengths in `print(module)`."""
        return f"{shown(self.config)}, size={self.size}"


def _segments(image: Tensor, first: Tensor, n_frames: int) -> Tensor:
    """Frames from `first` (B,) on of each picture."""
    if n_frames == image.shape[-1]:
        return image
    frames = first[:, None] + torch.arange(n_frames, device=image.device)
    return image.gather(-1, frames[:, None, None].expand(-1, *image.shape[1:3], -1))
