"""Multi-crop views of spectrograms: a few large ones and several small ones of every clip, on the device, in a batch.

As EsViT's (Li et al., 2022) in number, but made for sound: time is cut in seconds, frequency in parts of the band on
the front end's own axis (mel, so that a stretch is a change of pitch and formants), both stretched by drawn factors as
BYOL-A's random resize crop does (0.6 to 1.5 in frequency); beyond the clip there is silence, at the mean of the
training clips. No flips, no colour: see `audiossl.transforms.image` for what takes their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from . import image as augment
from .crop import Crops, crop_and_resize, view_size
from .draws import Draws
from .student_mixing import Mixing, mix_for_student
from .view_config import MultiCropConfig, shown


class Views(NamedTuple):
    """Views of B clips, and where in the clips they lie.

    images: one tensor (n B, C, F, T) for each size of view, global views first, clip b of view v in row v B + b.
    boxes: (V, B, 4) with start and end in seconds and lowest and highest place on the frequency axis, where 0 and 1
        are the ends of the front end's band; a box may reach beyond the clip.
    clean: the global views as a teacher sees them, (2 B, C, F, T), where `images` hold mixed ones.
    mixing: what was mixed into `images`, if anything was.
    silent: share of the patches that are all but silent, a scalar (see `audiossl.transforms.patches`).
    """

    images: list[Tensor]
    boxes: Tensor
    clean: Tensor | None = None
    mixing: Mixing | None = None
    silent: Tensor | None = None


class MultiCrop(nn.Module):
    """Two global and several local views of every clip from its normalised picture.

    Args:
        config: sizes, ranges and strengths.
        image_size: (F, T) of a clip's picture.
        clip_s: seconds that the picture shows.

    Shape: image (B, C, F, T), or a list of pictures of the same clips, differently heard, to `Views`; of n pictures,
    view v shows the one at v modulo n. A picture's gradient flows through (a front end may be learned).
    Raises UserError when a view is longer than a clip.

    >>> views = MultiCrop(MultiCropConfig(n_locals=3), (64, 96), clip_s=1.0)
    >>> out = views(torch.randn(4, 1, 64, 96), torch.Generator().manual_seed(0))
    >>> [tuple(group.shape) for group in out.images], tuple(out.boxes.shape)
    ([(8, 1, 64, 96), (12, 1, 64, 48)], (5, 4, 4))
    """

    def __init__(self, config: MultiCropConfig, image_size: tuple[int, int], clip_s: float):
        super().__init__()
        self.config, self.clip_s = config, clip_s
        self.n_bins = image_size[0]
        self.frames_per_s = image_size[1] / clip_s
        self.global_s = config.global_s or clip_s
        self.global_size = self._size(self.global_s, config.global_band, "global")
        self.local_sizes = [self._size(seconds, config.local_band, "local") for seconds in config.local_s]

    def _size(self, seconds: float, band: float, kind: str) -> tuple[int, int]:
        if seconds > self.clip_s * 1.001:
            raise UserError(
                f"--views.{kind}_s {seconds:g} is longer than a clip of {self.clip_s:g} s: "
                "lower it or raise --data.clip_s."
            )
        return view_size(self.n_bins * band, self.frames_per_s * seconds)

    def forward(self, image: Tensor | Sequence[Tensor], generator: torch.Generator | None = None) -> Views:
        """Draw the views of a batch of pictures (B, C, F, T)."""
        heard = [image] if isinstance(image, Tensor) else image
        draws = Draws(generator, heard[0].device)
        config = self.config
        kinds = [(2, self.global_size, self.global_s, config.global_band, config.global_time)]
        if config.n_locals:
            for size, seconds in zip(self.local_sizes, config.local_s, strict=True):
                kinds.append((config.n_locals, size, seconds, config.local_band, config.local_time))
        images, boxes = [], []
        for count, size, seconds, band, stretch in kinds:
            views = [self._view(heard[v % len(heard)], draws, size, seconds, band, stretch) for v in range(count)]
            images.append(torch.cat([view for view, _ in views]))
            boxes += [box for _, box in views]
        clean, mixing = images[0], None
        if config.mix_alpha or config.cut_alpha:
            images, mixing = mix_for_student(images, len(heard[0]), draws, config)
        return Views(images, torch.stack(boxes), clean if mixing is not None else None, mixing)

    def _view(
        self,
        image: Tensor,
        draws: Draws,
        size: tuple[int, int],
        seconds: float,
        band: float,
        stretch: list[float],
    ) -> tuple[Tensor, Tensor]:
        """One view of every clip and its boxes (B, 4)."""
        config = self.config
        if config.mixup:
            image = augment.random_background(image, draws, config.mixup)
        crops = self._crops(len(image), draws, seconds, band, stretch)
        view = crop_and_resize(image, crops, size)
        if config.noise:
            view = augment.random_noise_floor(view, draws, config.noise)
        if config.fader:
            view = augment.random_fader(view, draws, config.fader)
        if config.equaliser:
            view = augment.random_equaliser(view, draws, config.equaliser)
        if config.stripes:
            view = augment.random_stripes(view, draws, config.stripes)
        return view, self._boxes(crops)

    def _crops(self, n_clips: int, draws: Draws, seconds: float, band: float, stretch: list[float]) -> Crops:
        """Spans drawn from the ranges; centres drawn so that box and clip contain each other."""
        config = self.config
        time_span = draws.uniform(n_clips, low=stretch[0], high=stretch[1]) * (seconds / self.clip_s)
        band_span = draws.uniform(n_clips, low=config.band_stretch[0], high=config.band_stretch[1]) * band
        time = 0.5 + (draws.uniform(n_clips) - 0.5) * (1.0 - time_span).abs()
        # A box higher than the band keeps its low edge: what lies above is empty, as for a sound of a lower voice.
        band_centre = torch.where(
            band_span > 1.0, band_span / 2.0, 0.5 + (draws.uniform(n_clips) - 0.5) * (1.0 - band_span)
        )
        return Crops(time, time_span, band_centre, band_span)

    def _boxes(self, crops: Crops) -> Tensor:
        time, band = crops.time, crops.band
        start_s, end_s = time - crops.time_span / 2, time + crops.time_span / 2
        low, high = band - crops.band_span / 2, band + crops.band_span / 2
        return torch.stack([start_s * self.clip_s, end_s * self.clip_s, low, high], dim=1)

    def extra_repr(self) -> str:
        """Show sizes and strengths in `print(module)`."""
        return f"{shown(self.config)}, global_size={self.global_size}, local_sizes={self.local_sizes}"
