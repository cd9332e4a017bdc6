"""Which region of a teacher's view each region of a student's view answers to, and how much it counts.

EsViT (Li et al., ICLR 2022, section 3.2) matches by the cosine of the backbone's region features alone. The views of
a spectrogram tell more: their boxes say where a region lies in time and frequency, their pictures whether anything
sounds there. A region is a cell of the backbone's grid: `stride` rows and frames of the picture, the last ones cut
off by its edge.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]


class Grid(NamedTuple):
    """How a picture is divided into regions: its size (F, T), rows and frames to a cell, and the cells (F', T')."""

    size: Size
    stride: Size
    cells: Size


class Regions(NamedTuple):
    """Regions of views of one size, P row-major over the grid.

    features: of the backbone, (V, B, P, D).
    embeddings: of the head, (V, B, P, d).
    grid: where they lie in the picture.
    boxes: where the pictures lie in their clips, (V, B, 4): start and end in seconds, lowest and highest place on the
        frequency axis from 0 to 1.
    """

    features: Tensor
    embeddings: Tensor
    grid: Grid
    boxes: Tensor


@torch.no_grad()
def match_by_features(student: Tensor, teacher: Tensor) -> Tensor:
    """For each student region the index of the teacher's region of the same clip with the largest cosine.

    Each region on its own: several may choose the same one. Computed in float32, also under autocast: in bf16 cosines
    that differ by less than 0.4 % are equal, and the first would win.

    Shape: student features (V, B, P, D), teacher features (G, B, N, D) to (G, V, B, P), from 0 to N - 1.
    """
    n_teacher_views, n_views = len(teacher), len(student)
    with torch.autocast(student.device.type, enabled=False):
        mine = functional.normalize(student.float(), dim=-1).transpose(0, 1).flatten(1, 2)
        theirs = functional.normalize(teacher.float(), dim=-1).transpose(0, 1).flatten(1, 2)
        cosines = torch.bmm(mine, theirs.transpose(1, 2))  # (B, V P, G N)
    best = cosines.unflatten(2, (n_teacher_views, -1)).argmax(-1)
    by_view: Tensor = best.unflatten(1, (n_views, -1)).permute(3, 1, 0, 2)
    return by_view


@torch.no_grad()
def match_by_place(student: Regions, teacher: Regions) -> tuple[Tensor, Tensor]:
    """For each student region the teacher's region at the same place of the clip, and whether there is one.

    It is the cell in which the middle of the student's cell falls, in seconds and on the frequency axis; there is none
    where that middle lies outside the teacher's box. Beyond the clip both views show the same silence, which is matched
    like any other place.

    Shape: V and G views to indices and booleans, each (G, V, B, P).
    """
    cells, inside = [], []
    for axis in (0, 1):  # frequency, then time: (G, V, B, cells of the student on this axis)
        low, high = (end[:, None, :, None] for end in _ends(teacher.boxes, axis))
        n_pixels, stride = teacher.grid.size[axis], teacher.grid.stride[axis]
        pixel = ((_cell_places(student, axis) - low) / (high - low) * n_pixels).floor().long()
        inside.append((pixel >= 0) & (pixel < n_pixels))
        cells.append((pixel.clamp(min=0) // stride).clamp(max=teacher.grid.cells[axis] - 1))
    index = cells[0][..., :, None] * teacher.grid.cells[1] + cells[1][..., None, :]
    return index.flatten(-2), (inside[0][..., :, None] & inside[1][..., None, :]).flatten(-2)


@torch.no_grad()
def match_regions(student: Regions, teacher: Regions, by_place: bool, clip: Tensor | None = None) -> Tensor:
    """For each student region the teacher's region that it answers to, as a number b N + n: region n of clip b.

    Args:
        student: regions of V views.
        teacher: regions of G views.
        by_place: take the region at the same place where there is one, and the most similar one elsewhere.
        clip: the clips that are answered to, (B,), each clip's own by default. For a clip mixed into another's view
            its box is that of the same view of its own: there it was cut.

    Shape: (G, V, B, P).
    """
    n_clips = student.boxes.shape[1]
    if clip is None:
        clip = torch.arange(n_clips, device=student.features.device)
    else:
        teacher = teacher._replace(features=teacher.features[:, clip], boxes=teacher.boxes[:, clip])
        student = student._replace(boxes=student.boxes[:, clip])
    match = match_by_features(student.features, teacher.features)
    if by_place:
        at_place, inside = match_by_place(student, teacher)
        match = torch.where(inside, at_place, match)
    return match + clip[:, None] * teacher.features.shape[2]


@torch.no_grad()
def region_means(values: Tensor, grid: Grid) -> Tensor:
    """Means of pictures (V, B, F, T) over the cells of a grid, (V, B, P)."""
    rows, frames = (_membership(grid, axis, values.device) for axis in (0, 1))
    return (rows @ values @ frames.T).flatten(2)


@torch.no_grad()
def energy_weights(image: Tensor, regions: Regions, clip_s: float = math.inf) -> Tensor:
    """How much each region counts by what sounds in it; the weights of a view sum to one.

    The energy of a cell is the mean of e^image above the quietest place of the view, as in
    `audiossl.transforms.patches`: in a picture normalised to deviation 1 that is close to loudness. What lies beyond
    the clip has none. In a view without any energy all regions count alike.

    Args:
        image: the pictures, (V B, C, F, T).
        regions: where their regions are.
        clip_s: the end of the clips, in seconds; a box's share beyond an unknown end is taken for sound.

    Shape: (V, B, P).
    """
    n_views, n_clips = regions.boxes.shape[:2]
    power = image.float().exp().mean(1).unflatten(0, (n_views, n_clips))
    heard = []
    for axis, end in ((0, 1.0), (1, clip_s)):
        n = regions.grid.size[axis]
        low, high = (side[..., None] for side in _ends(regions.boxes, axis))
        place = low + (high - low) * _middles(n, power.device)
        heard.append((place >= 0.0) & (place <= end))
    inside = heard[0][..., :, None] & heard[1][..., None, :]
    quietest = power.masked_fill(~inside, math.inf).amin((2, 3), keepdim=True)
    energy = (power - quietest).masked_fill(~inside, 0.0)
    cells = region_means(energy, regions.grid)
    total = cells.sum(-1, keepdim=True)
    return torch.where(total > 0.0, cells / total.clamp(min=1e-20), 1.0 / cells.shape[-1])


def _ends(boxes: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Both ends of boxes (V, B, 4) on the frequency axis (0) or in time (1), each (V, B)."""
    return (boxes[..., 2], boxes[..., 3]) if axis == 0 else (boxes[..., 0], boxes[..., 1])


def _middles(n: int, device: torch.device) -> Tensor:
    """Middles of n pixels, in parts of the axis."""
    return (torch.arange(n, device=device) + 0.5) / n


def _membership(grid: Grid, axis: int, device: torch.device) -> Tensor:
    """Means over the cells of an axis as a matrix (cells, pixels) whose rows sum to one."""
    cell = (torch.arange(grid.size[axis], device=device) // grid.stride[axis]).clamp(max=grid.cells[axis] - 1)
    member = (torch.arange(grid.cells[axis], device=device)[:, None] == cell).float()
    return member / member.sum(1, keepdim=True)


def _cell_places(regions: Regions, axis: int) -> Tensor:
    """Middles of the cells in their clips, (V, B, cells): in seconds, or on the frequency axis from 0 to 1."""
    device = regions.boxes.device
    middle = _membership(regions.grid, axis, device) @ _middles(regions.grid.size[axis], device)
    low, high = (end[..., None] for end in _ends(regions.boxes, axis))
    return low + (high - low) * middle
