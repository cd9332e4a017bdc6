"""Views and augmentations: against loops over clips at the same draws, and beside the training step that they feed.

    OMP_NUM_THREADS=1 python benchmarks/bench_views.py

The loop is BYOL-A's way: for each clip mix in another, paste into a canvas, slice, interpolate, add a line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from audiossl.transforms import (
    MultiCrop,
    MultiCropConfig,
    Patches,
    PatchesConfig,
    TwoViews,
    TwoViewsConfig,
    WaveAugment,
    WaveAugmentConfig,
)
from audiossl.transforms import image as augment
from audiossl.transforms.crop import Plan, plan_of, random_boxes, resample_boxes, resample_by
from audiossl.transforms.draws import Draws
from audiossl.transforms.mixup import mix_power
from timing import compare
from torch import Tensor
from torch.nn.functional import interpolate

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.methods.esvit import EsViT, EsViTConfig

B = 256
STEP_CLIPS = 64  # of the step that views feed: with 256 it would take a minute
RATE = 16000
WAVES: dict[str, Any] = {
    "speed": 0.1,
    "pitch_semitones": 2.0,
    "shift_s": 0.1,
    "reverb": 0.5,
    "noise": 0.5,
    "tilt_db": 3.0,
    "low_pass": 0.5,
    "gain_db": 6.0,
    "polarity": 0.5,
}


def mix_one(image: Tensor, background: Tensor, share: float) -> Tensor:
    return torch.log((1.0 - share) * image.exp() + share * background.exp())


def crop_one(image: Tensor, row: int, n_rows: int, frame: int, n_frames: int) -> Tensor:
    channels, rows, frames = image.shape
    canvas = image.new_zeros(1, channels, rows, frames + frames // 2)
    canvas[0, :, :, frames // 4 : frames // 4 + frames] = image
    left = frame + frames // 4
    box = canvas[:, :, row : row + n_rows, left : left + n_frames]
    return interpolate(box, size=(rows, frames), mode="bicubic", align_corners=False)[0]


def fade_one(image: Tensor, begin: float, end: float) -> Tensor:
    return image + torch.linspace(begin, end, image.shape[-1], dtype=image.dtype)


def loops(size: tuple[int, int], threads: int) -> None:
    """Crop, mixup and fader of a batch against the same clip by clip."""
    draws = Draws(torch.Generator().manual_seed(0))
    image, other = torch.randn(2, B, 1, *size)
    power = other.exp()
    share = draws.uniform(B, high=0.4)
    boxes = random_boxes(draws, B, size, (1.0, 1.5), [0.6, 1.5], [0.6, 1.5])
    begin, end = draws.uniform(2, B, low=-1.0, high=1.0)
    shares, sides = share.tolist(), list(zip(*(side.tolist() for side in boxes), strict=True))
    ends = list(zip(begin.tolist(), end.tolist(), strict=True))

    def mix_loop(image: Tensor, other: Tensor) -> Tensor:
        return torch.stack([mix_one(image[b], other[b], shares[b]) for b in range(B)])

    def crop_loop(image: Tensor) -> Tensor:
        return torch.stack([crop_one(image[b], *sides[b]) for b in range(B)])

    def fade_loop(image: Tensor) -> Tensor:
        return torch.stack([fade_one(image[b], *ends[b]) for b in range(B)])

    def all_loop(image: Tensor, other: Tensor) -> Tensor:
        one = [fade_one(crop_one(mix_one(image[b], other[b], shares[b]), *sides[b]), *ends[b]) for b in range(B)]
        return torch.stack(one)

    def all_batch() -> Tensor:
        out, plan = torch.empty_like(image), plan_of(boxes, size, size)
        for at in range(0, B, step):
            rows = slice(at, at + step)
            piece = mix_power(image[rows], power[rows], share[rows])
            piece = resample_by(piece, Plan(*(part[rows] for part in plan)))
            out[rows] = augment.linear_fader(piece, begin[rows], end[rows])
        return out

    step = 2**17 // (size[0] * size[1])
    pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor], Callable[[], Tensor]]] = {
        "mixup": (
            lambda: mix_loop(image, other),
            lambda: mix_power(image, power, share),
            lambda: mix_loop(image.double(), other.double()),
        ),
        "crop": (
            lambda: crop_loop(image),
            lambda: resample_boxes(image, boxes, size),
            lambda: crop_loop(image.double()),
        ),
        "fader": (
            lambda: fade_loop(image),
            lambda: augment.linear_fader(image, begin, end),
            lambda: fade_loop(image.double()),
        ),
        "all three": (
            lambda: all_loop(image, other),
            all_batch,
            lambda: all_loop(image.double(), other.double()),
        ),
    }
    for name, (loop, batch, exact) in pairs.items():
        error = [float((call().double() - exact()).abs().max()) for call in (loop, batch)]
        title = (
            f"{name}, B={B}, {size[0]} x {size[1]}: loop and batch within {error[0]:.1e} and {error[1]:.1e} of float64"
        )
        medians = compare(title, {"batch": batch, "loop over clips": loop}, "batch", threads=threads)
        print(f"\n{name}: {medians['loop over clips'] / medians['batch']:.1f} times as fast as the loop")


def views_and_waves() -> None:
    """What all kinds of views and waveform augmentations of a batch cost."""
    image, wave = torch.randn(B, 1, 64, 96), 0.1 * torch.randn(B, RATE)
    kinds = {
        "two global and four local": MultiCrop(MultiCropConfig(), (64, 96), 1.0),
        "two views (BYOL-A)": TwoViews(TwoViewsConfig(), (64, 96), 1.0),
        "20 patches": Patches(PatchesConfig(), (64, 96), 1.0),
        "20 patches, nothing but cut": Patches(PatchesConfig(mixup=0.0, fader=0.0), (64, 96), 1.0),
    }
    calls: dict[str, Callable[[], object]] = {
        name: (lambda views=views: views(image, torch.Generator().manual_seed(0)))  # type: ignore[misc]
        for name, views in kinds.items()
    }
    medians = compare(f"views of {B} clips of 64 x 96", calls, "two global and four local", rounds=7)
    print(f"\nplain patches a second: {20 * B / medians['20 patches, nothing but cut']:.0f}")
    waves: dict[str, Callable[[], object]] = {}
    for name, value in WAVES.items():
        module = WaveAugment(WaveAugmentConfig(**{name: value}), RATE)
        waves[name] = lambda module=module: module(wave, torch.Generator().manual_seed(0))  # type: ignore[misc]
    compare(f"waveform augmentations of {B} clips of 1 s", waves, "gain_db", rounds=5)


def share_of_a_step() -> None:
    """The views of a batch beside the EsViT step of a small Swin that they feed."""
    image = torch.randn(STEP_CLIPS, 1, 64, 96)
    views = MultiCrop(MultiCropConfig(n_locals=4), (64, 96), 1.0)
    settings: dict[str, Any] = {
        "n_prototypes": 8192,
        "hidden_dim": 1024,
        "bottleneck_dim": 128,
        "head_batch_norm": True,
    }
    method = EsViT(build_backbone(BackboneConfig(name="swin_micro"), (64, 96)), EsViTConfig(**settings)).train()
    drawn = views(image, torch.Generator().manual_seed(0))

    def step() -> None:
        method.zero_grad()
        method(drawn, 0.04).loss.backward()

    calls = {"EsViT step": step, "views": lambda: views(image, torch.Generator().manual_seed(0))}
    medians = compare(
        f"swin_micro, {STEP_CLIPS} clips, 2 global and 4 local views of 64 x 96", calls, "EsViT step", rounds=1
    )
    print(f"\nviews cost {100 * medians['views'] / medians['EsViT step']:.2f} % of the step")


def main() -> None:
    loops((64, 96), threads=1)
    loops((32, 48), threads=1)
    views_and_waves()
    share_of_a_step()


if __name__ == "__main__":
    main()
