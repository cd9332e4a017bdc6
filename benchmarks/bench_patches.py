"""Patches: a batch at once against a loop over patches and against PIL, as public implementations cut them.

    OMP_NUM_THREADS=1 python benchmarks/bench_patches.py

Pictures of 1 s, 64 bins x 96 frames, 100 clips. "drawn and cut" draws the places by energy and counts silent patches as
well; "cut", the loop and PIL are given the places. All four give the same patches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from audiossl.transforms import Patches, PatchesConfig
from PIL import Image
from timing import compare
from torch import Tensor

B, SIZE = 100, (64, 96)
PLAIN: dict[str, Any] = {"mixup": 0.0, "fader": 0.0}
KINDS: dict[str, dict[str, Any]] = {
    "nothing but cut": PLAIN,
    "mixup and fader (default)": {},
    "stretched in time": {**PLAIN, "time_stretch": [0.8, 1.25]},
    "all changes": {
        "time_stretch": [0.8, 1.25],
        "noise": 0.5,
        "gain": 0.3,
        "stripes": 0.2,
        "band_shift": 0.05,
        "band_warp": 0.1,
        "band_channel": True,
    },
}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def against_loops(image: Tensor, n: int, band: float) -> None:
    """A batch of plain patches against one patch after the other."""
    patches = Patches(PatchesConfig(n_patches=n, patch_s=1 / 3, patch_band=band, **PLAIN), SIZE, 1.0)
    drawn, (height, width) = patches.draw(image, generator()), patches.size
    places = [
        (b, row, frame)
        for rows, frames in zip(drawn.row.tolist(), drawn.frame.tolist(), strict=True)
        for b, (row, frame) in enumerate(zip(rows, frames, strict=True))
    ]
    pictures = [Image.fromarray(clip[0].numpy()) for clip in image]

    def loop() -> Tensor:
        return torch.stack([image[b, :, row : row + height, frame : frame + width] for b, row, frame in places])

    def pil() -> Tensor:
        boxes = [(b, (frame, row, frame + width, row + height)) for b, row, frame in places]
        return torch.stack([torch.from_numpy(np.array(pictures[b].crop(box)))[None] for b, box in boxes])

    assert patches.cut(image, drawn).equal(loop())
    assert patches.cut(image, drawn).equal(pil())
    calls: dict[str, Callable[[], object]] = {
        "drawn and cut": lambda: patches(image, generator()),
        "cut": lambda: patches.cut(image, drawn),
        "loop over patches, cut": loop,
        "PIL, cut": pil,
    }
    medians = compare(f"{n} patches of {height} x {width} of {B} clips", calls, "drawn and cut", rounds=5, device="cpu")
    print()
    for name, seconds in medians.items():
        print(f"{name}: {n * B / seconds:,.0f} patches a second and core")


def changes(image: Tensor, n: int) -> None:
    """What the changes of patches cost."""
    kinds = {
        name: Patches(PatchesConfig(n_patches=n, patch_s=1 / 3, **more), SIZE, 1.0) for name, more in KINDS.items()
    }
    calls: dict[str, Callable[[], object]] = {
        name: (lambda patches=patches: patches(image, generator()))  # type: ignore[misc]
        for name, patches in kinds.items()
    }
    medians = compare(f"{n} patches of 64 x 32 of {B} clips, changed", calls, "nothing but cut", rounds=3, device="cpu")
    print()
    for name, seconds in medians.items():
        print(f"{name}: {n * B / seconds:,.0f} patches a second and core")


def main() -> None:
    image = torch.randn(B, 1, *SIZE, generator=generator())
    for band in (1.0, 0.5):
        for n in (20, 100):
            against_loops(image, n, band)
    changes(image, 20)


if __name__ == "__main__":
    main()
