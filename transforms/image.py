"""Augmentations of the picture: what may change in a spectrogram without changing what is heard in it.

All take a normalised logarithmic picture (B, C, F, T), so that strengths are in standard deviations of the training
clips, and draw one set of numbers a clip. In place of the colour, grey, blur and flips of photographs: another sound
in the background, another distance, room, microphone or level. Nothing is flipped: a sound played backwards or upside
down is another sound.

Sources: log-mixup-exp and the random linear fader are BYOL-A's (Niizumi et al., 2021 and 2023); stripes are
SpecAugment's (Park et al., 2019); the equaliser and the noise floor stand for microphone and room, which two views of
one clip otherwise share.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .draws import Draws


def log_mixup_exp(image: Tensor, background: Tensor, share: Tensor) -> Tensor:
    """Mix another sound in: ln((1 - share) e^image + share e^background).

    In the unit of the normalised picture, as BYOL-A does it, and not in true power: a share of 0.4 of another word's
    power is a second speaker, 4 dB quieter, and what two views have in common is then hardly there. Measured on
    4,000 words: a contrastive loss reached a kNN of 51 within three epochs in this unit, 37 in true power.

    Args:
        image: (B, C, F, T).
        background: of the same shape.
        share: of the background, (B,) or, for every point, (B, F, T), from 0 to below 1.

    >>> quiet, loud = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0)
    >>> log_mixup_exp(quiet, loud, torch.tensor([0.0])).abs().max().item()
    0.0
    """
    share = share[:, None] if share.ndim == 3 else share[:, None, None, None]
    return add_in_power(image + (-share).log1p(), background + share.log())


def add_in_power(image: Tensor, other: Tensor) -> Tensor:
    """ln(e^image + e^other), one of which may be -inf: torch's `logaddexp`, in a quarter of its time on a CPU."""
    larger = torch.maximum(image, other)
    return ((image - larger).exp() + (other - larger).exp()).log() + larger


def linear_fader(image: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """Add a straight line over time, from `begin` to `end` (B,): the source comes nearer or goes away."""
    return image + lines(begin, end, image.shape[-1])


def lines(begin: Tensor, end: Tensor, n_frames: int) -> Tensor:
    """Straight lines over time from `begin` to `end` (B,), (B, 1, 1, T)."""
    ramp = torch.linspace(0.0, 1.0, n_frames, device=begin.device)
    line = begin[:, None] + (end - begin)[:, None] * ramp
    return line[:, None, None, :]


def equalise(image: Tensor, knots: Tensor) -> Tensor:
    """Add a smooth curve over frequency through `knots` (B, N), evenly spaced: another microphone or room."""
    curve = functional.interpolate(knots[:, None], image.shape[-2], mode="linear", align_corners=True)
    return image + curve[..., None]


def noise_floor(image: Tensor, level: Tensor) -> Tensor:
    """Raise the picture to a flat background of `level` (B,), mixed as by `log_mixup_exp`; -inf leaves a clip alone."""
    return add_in_power(image, level[:, None, None, None])


def stripes(image: Tensor, axis: int, begin: Tensor, width: Tensor) -> Tensor:
    """Set stripes of one axis to 0, the mean of the training clips.

    Args:
        image: (B, C, F, T).
        axis: -1 for stripes in time, -2 for those in frequency.
        begin: (B,) for one stripe a clip or (B, N) for several, in parts of the axis.
        width: of the same shape and unit.
    """
    size = image.shape[axis]
    place = (torch.arange(size, device=image.device) + 0.5) / size
    begin, end = begin.reshape(len(image), -1, 1), (begin + width).reshape(len(image), -1, 1)
    inside = ((place >= begin) & (place < end)).any(1)
    shape = [len(image), 1, 1, 1]
    shape[axis] = size
    return image.masked_fill(inside.view(shape), 0.0)


def move_bins(image: Tensor, source: Tensor) -> Tensor:
    """Read row f of each picture at `source` (B, F), in rows and between them linearly; 0 beyond the axis."""
    below = source.floor()
    low, high = (_rows(image, below.long() + step) for step in (0, 1))
    return torch.lerp(low, high, (source - below)[:, None, :, None])


def _rows(image: Tensor, index: Tensor) -> Tensor:
    """Rows (B, F) of each picture, 0 where there is none."""
    size = image.shape[-2]
    picked = image.gather(-2, index.clamp(0, size - 1)[:, None, :, None].expand_as(image))
    return picked.masked_fill(((index < 0) | (index >= size))[:, None, :, None], 0.0)


def shift_bins(image: Tensor, shift: Tensor) -> Tensor:
    """Move each picture up the frequency axis by `shift` (B,) in parts of it: on a logarithmic axis, another pitch."""
    rows = torch.arange(image.shape[-2], device=image.device)
    return move_bins(image, rows - shift[:, None] * image.shape[-2])


def warp_bins(image: Tensor, place: Tensor, shift: Tensor) -> Tensor:
    """Stretch one part of the frequency axis at the cost of the other: what lies at `place` moves up by `shift`.

    SpecAugment's warp of the time axis, turned to frequency: straight lines between the ends, which stay, and the
    place. Another length of the vocal tract.

    Args:
        image: (B, C, F, T).
        place: (B,) in parts of the axis, within the ends.
        shift: (B,) in parts of the axis; place + shift lies within the ends too.
    """
    size = image.shape[-2]
    target = (place + shift)[:, None]
    part = torch.linspace(0.0, 1.0, size, device=image.device)
    below = part * place[:, None] / target
    above = 1.0 - (1.0 - part) * (1.0 - place[:, None]) / (1.0 - target)
    return move_bins(image, torch.where(part < target, below, above) * (size - 1))


def renormalise(image: Tensor) -> Tensor:
    """Bring a batch of views to mean 0 and deviation 1, one pair of numbers for all of it, as BYOL-A does.

    Views of silence alone become 0.
    """
    centred = image - image.mean()
    # The norm of the pictures' norms: exact to rounding, and a sixth of the time of torch's deviation on a CPU.
    deviation = torch.linalg.vector_norm(centred.flatten(1).norm(dim=1)) / centred.numel() ** 0.5
    normal: Tensor = centred / deviation.clamp(min=1e-6)
    return normal


def random_background(image: Tensor, draws: Draws, most: float) -> Tensor:
    """Mix each clip with another of the batch, by a share of up to `most`."""
    share = draws.uniform(len(image), high=most)
    return log_mixup_exp(image, image[draws.permutation(len(image))], share)


def random_fader(image: Tensor, draws: Draws, most: float) -> Tensor:
    """Fade with both ends drawn evenly up to `most` standard deviations."""
    begin, end = draws.uniform(2, len(image), low=-most, high=most)
    return linear_fader(image, begin, end)


def random_equaliser(image: Tensor, draws: Draws, strength: float, n_knots: int = 6) -> Tensor:
    """Equalise by a curve whose knots have `strength` as their deviation."""
    return equalise(image, strength * draws.normal(len(image), n_knots))


def random_stripes(image: Tensor, draws: Draws, most: float, count: int = 1) -> Tensor:
    """`count` stripes in time and as many in frequency, each up to `most` of its axis."""
    for axis in (-1, -2):
        width = draws.uniform(len(image), count, high=most)
        image = stripes(image, axis, draws.uniform(len(image), count) * (1.0 - width), width)
    return image


def random_bin_shift(image: Tensor, draws: Draws, most: float) -> Tensor:
    """Shift the frequency axis by up to `most` of it, up or down."""
    return shift_bins(image, draws.uniform(len(image), low=-most, high=most))


def random_warp(image: Tensor, draws: Draws, most: float) -> Tensor:
    """Warp the frequency axis at a place in its middle half, by up to `most` of it, below 0.25."""
    return warp_bins(image, *draw_warps(len(image), draws, most))


def draw_warps(n: int, draws: Draws, most: float) -> tuple[Tensor, Tensor]:
    """Places and shifts (n,) of `random_warp`."""
    return draws.uniform(n, low=0.25, high=0.75), draws.uniform(n, low=-most, high=most)


def random_noise_floor(image: Tensor, draws: Draws, most: float) -> Tensor:
    """A flat background in half of the pictures: from well below the mean of the clips up to `most`."""
    return noise_floor(image, draw_noise_levels(len(image), draws, most))


def draw_noise_levels(n: int, draws: Draws, most: float) -> Tensor:
    """Levels (n,) of `random_noise_floor`, -inf where there is none."""
    level = draws.uniform(n, low=-4.0, high=most)
    return level.masked_fill(draws.coins(n, 0.5), -torch.inf)
