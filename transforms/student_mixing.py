"""Mixup and cutmix of the student's views, the teacher's staying clean: EsViT's option of mixed views, made whole.

A student's view of one clip is mixed with the same view of another, and it is asked for the targets of both in the
shares that it shows (mixup: Zhang et al., 2018; cutmix: Yun et al., 2019; alphas 0.8 and 1 are EsViT's and timm's
defaults). Three departures from EsViT's code: the teacher's pictures are left alone, where timm mixes them in place;
the region loss knows of the mixing, region by region; and every clip draws its own share and kind.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .draws import Draws
from .image import log_mixup_exp
from .view_config import MultiCropConfig


class Mixing(NamedTuple):
    """With which clip every clip's student views were mixed, and how much of it they show.

    partner: (B,), the other clip.
    shares: for each size of view the partner's share of every point, (V, B, F, T), from 0 to 1.
    """

    partner: Tensor
    shares: list[Tensor]


def mix_for_student(
    images: list[Tensor], n_clips: int, draws: Draws, config: MultiCropConfig
) -> tuple[list[Tensor], Mixing]:
    """Mix the first `config.n_mixed` views of every clip with the same views of another clip.

    Args:
        images: of the views, (V B, C, F, T) for each size; they are not changed.
        n_clips: B.
        draws: one order of the clips, and for every view and clip a share, a kind and a place.
        config: `mix_alpha`, `cut_alpha`, `n_mixed`, `mix_prob`, `switch_prob`.

    >>> images = [torch.zeros(2 * 4, 1, 16, 16), torch.zeros(3 * 4, 1, 16, 8)]
    >>> mixed, mixing = mix_for_student(images, 4, Draws(), MultiCropConfig(mix_alpha=0.8, n_mixed=3))
    >>> [tuple(share.shape) for share in mixing.shares], mixing.shares[1][1:].any().item()
    ([(2, 4, 16, 16), (3, 4, 16, 8)], False)
    """
    partner = draws.permutation(n_clips)
    mixed, shares, n_before = [], [], 0
    for group in images:
        views = group.unflatten(0, (-1, n_clips))
        n_views = len(views)
        share = _shares(n_views * n_clips, (group.shape[2], group.shape[3]), draws, config)
        share = share.unflatten(0, (n_views, n_clips))
        share[max(0, config.n_mixed - n_before) :] = 0.0
        n_before += n_views
        mixed.append(_mix(group, views[:, partner].flatten(0, 1), share.flatten(0, 1)))
        shares.append(share)
    return mixed, Mixing(partner, shares)


def _shares(n: int, size: tuple[int, int], draws: Draws, config: MultiCropConfig) -> Tensor:
    """The partner's share of every point of n pictures, (n, F, T)."""
    cuts = draws.coins(n, config.switch_prob if config.mix_alpha else 1.0)
    if not config.cut_alpha:
        cuts = torch.zeros_like(cuts)
    chosen = draws.coins(n, config.mix_prob)
    even = draws.beta(n, config.mix_alpha or 1.0)[:, None, None].expand(n, *size)
    box = _box(draws.beta(n, config.cut_alpha or 1.0), size, draws)
    return torch.where(cuts[:, None, None], box, even) * chosen[:, None, None]


def _box(share: Tensor, size: tuple[int, int], draws: Draws) -> Tensor:
    """1 within boxes of that share of the picture about even places, 0 outside, (n, F, T); edges cut boxes off."""
    inside = []
    for length in size:
        centre, half = draws.uniform(len(share)), share.sqrt() / 2
        middle = (torch.arange(length, device=share.device) + 0.5) / length
        inside.append((middle - centre[:, None]).abs() < half[:, None])
    return (inside[0][:, :, None] & inside[1][:, None, :]).float()


def _mix(image: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """`log_mixup_exp` with a share for every point (n, F, T), either sound alone where it is 0 or 1."""
    mixed = log_mixup_exp(image, other, share)
    share = share[:, None]
    return torch.where(share == 0.0, image, torch.where(share == 1.0, other, mixed))
