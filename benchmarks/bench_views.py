"""Views and augmentations: against loops over clips at the same draws, and beside the training step that they feed.

    python benchmarks/bench_views.py

The loop is BYOL-A's way: for each clip mix in another, paste into a canvas, slice, interpolate, add a line. It runs
where ours does, on a GPU where there is one. The bars: mixup, crop and fader at least 10 times as fast as the loop, and
all views less than a tenth of the step, which takes 12 GB of memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
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
from audiossl.transforms.crop import random_boxes
from audiossl.transforms.draws import Draws
from timing import DEVICE, bars, compare
from torch import Tensor
from torch.nn.functional import interpolate

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.methods.esvit import EsViT, EsViTConfig
from audiossl.run.freed_memory import keep_freed_memory

B = 256
RATE = 16000
TENTH = 0.1  # of the loop's time, and of the step's
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
Calls = dict[str, Callable[[], object]]


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
    return image + torch.linspace(begin, end, image.shape[-1], dtype=image.dtype, device=image.device)


def by_loop(image: Tensor, config: TwoViewsConfig) -> Tensor:
    """Two views of every clip, one after the other, at the draws of `TwoViews` and with its memory full of `image`."""
    n_views, draws = 2 * len(image), Draws(generator())
    draws.integers(len(image), below=1)
    canvas = (config.canvas_band, config.canvas_time)
    boxes = random_boxes(draws, n_views, image.shape[2:], canvas, config.band_scale, config.time_scale)
    sides = list(zip(*(side.tolist() for side in boxes), strict=True))
    shares = draws.uniform(n_views, high=config.mixup).tolist()
    begin, end = draws.uniform(2, n_views, low=-config.fader, high=config.fader).tolist()
    others = draws.integers(n_views, below=len(image)).tolist() if config.mixup else []
    views = []
    for v in range(n_views):
        view = image[v % len(image)]
        if config.mixup:
            view = mix_one(view, image[others[v]], shares[v])
        view = crop_one(view, *sides[v])
        if config.fader:
            view = fade_one(view, begin[v], end[v])
        views.append(view)
    joined = torch.stack(views)
    return (joined - joined.mean()) / joined.std() if config.renormalise else joined


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def loops(size: tuple[int, int]) -> None:
    """What `TwoViews` makes, against the same clip by clip at the same draws: on one thread, and on all cores."""
    image = torch.randn(B // 2, 1, *size).to(DEVICE)
    cases: dict[str, dict[str, Any]] = {
        "crop": {"mixup": 0.0, "fader": 0.0, "renormalise": False},
        "crop and fader": {"mixup": 0.0, "renormalise": False},
        "mixup, crop and fader": {"renormalise": False},
        "and normalised": {},
    }
    for name, settings in cases.items():
        config = TwoViewsConfig(memory=B // 2, **settings)
        views = TwoViews(config, size, 1.0).to(DEVICE)
        views(image, generator())  # fills the memory

        def batch(views: TwoViews = views) -> Tensor:
            return views(image, generator()).images[0]

        def loop(config: TwoViewsConfig = config) -> Tensor:
            return by_loop(image, config)

        def by_torch(views: TwoViews = views) -> Tensor:
            with torch.no_grad():  # the way of pictures with a gradient, and of other devices
                return views(image.detach().requires_grad_(), generator()).images[0]

        exact = by_loop(image.double(), config)
        errors = " and ".join(f"{float((call() - exact).abs().max()):.1e}" for call in (loop, batch))
        title = f"{name}, {B} views of {size[0]} x {size[1]}: loop and batch within {errors} of float64"
        for threads in sorted({1, os.cpu_count() or 1}) if DEVICE == "cpu" else [1]:
            calls = {"batch": batch, "batch by torch's calls": by_torch, "loop over clips": loop}
            medians = compare(title, calls, "batch", threads=threads, wall=threads > 1, warm=True)
            print(f"\n{name}: {medians['loop over clips'] / medians['batch']:.1f} times as fast as the loop")
            if not config.renormalise:  # one call over the whole batch in both: no bar beside the loop
                bars(medians, {("batch", "loop over clips"): TENTH})


def view_calls() -> Calls:
    """Every kind of views of a batch."""
    image = torch.randn(B, 1, 64, 96).to(DEVICE)
    kinds = {
        "two global and four local": MultiCrop(MultiCropConfig(), (64, 96), 1.0),
        "two views (BYOL-A)": TwoViews(TwoViewsConfig(), (64, 96), 1.0),
        "20 patches": Patches(PatchesConfig(), (64, 96), 1.0),
        "20 patches, nothing but cut": Patches(PatchesConfig(mixup=0.0, fader=0.0), (64, 96), 1.0),
    }
    return {name: partial(drawn, views.to(DEVICE), image) for name, views in kinds.items()}


def wave_calls() -> Calls:
    """Every augmentation of the waveform of a batch, and all of them one after the other."""
    wave = 0.1 * torch.randn(B, RATE).to(DEVICE)
    kinds = {name: {name: value} for name, value in WAVES.items()} | {f"all {len(WAVES)} of them": WAVES}
    modules = {name: WaveAugment(WaveAugmentConfig(**settings), RATE).to(DEVICE) for name, settings in kinds.items()}
    return {name: partial(drawn, module, wave) for name, module in modules.items()}


def drawn(module: torch.nn.Module, batch: Tensor) -> object:
    """What a module makes of a batch, at the same draws each time."""
    return module(batch, generator())


def views_and_waves() -> None:
    """What all kinds of views and waveform augmentations of a batch cost."""
    medians = compare(f"views of {B} clips of 64 x 96", view_calls(), "two global and four local", rounds=7)
    print(f"\nplain patches a second: {20 * B / medians['20 patches, nothing but cut']:.0f}")
    compare(f"waveform augmentations of {B} clips of 1 s", wave_calls(), "gain_db", rounds=5)


def esvit_step() -> Callable[[], object]:
    """The step of a small Swin, forward and backward, on two global and four local views of a batch."""
    views = MultiCrop(MultiCropConfig(n_locals=4), (64, 96), 1.0).to(DEVICE)
    settings: dict[str, Any] = {
        "n_prototypes": 8192,
        "hidden_dim": 1024,
        "bottleneck_dim": 128,
        "head_batch_norm": True,
    }
    method = EsViT(build_backbone(BackboneConfig(name="swin_micro"), (64, 96)), EsViTConfig(**settings)).train()
    method.to(DEVICE)
    seen = views(torch.randn(B, 1, 64, 96).to(DEVICE), generator())

    def step() -> None:
        method.zero_grad()
        method(seen, 0.04).loss.backward()

    return step


def share_of_a_step() -> None:
    """Views and waveform augmentations of all kinds beside the EsViT step of as many clips."""
    views, waves = view_calls(), {f"waveform, {name}": call for name, call in wave_calls().items()}
    calls: Calls = {"EsViT step": esvit_step(), **views, **waves}
    title = f"swin_micro, {B} clips, 2 global and 4 local views of 64 x 96"
    medians = compare(title, calls, "EsViT step", rounds=1)
    print("\nShare of the step:\n")
    for name in [*views, *waves]:
        print(f"- {name}: {100 * medians[name] / medians['EsViT step']:.2f} %")
    bars(medians, {(name, "EsViT step"): TENTH for name in views})


def main() -> None:
    keep_freed_memory()  # as every run does
    for size in ((64, 96), (32, 48)):
        loops(size)
    views_and_waves()
    share_of_a_step()


if __name__ == "__main__":
    main()
