"""Stack: several front ends of one clip as the channels of one picture.

Two transforms disagree where a sound is short or narrow, and a network may look at both. Each is compressed by itself;
the rows of all are brought to the frequencies of the first, and their frames must be the same.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from audiossl.errors import UserError

from .config import FrontEndConfig, StackConfig
from .frontend import FrontEnd, build_frontend, config_of

COMMON = ("sample_rate", "hop_length", "compress", "n_bins", "f_min", "f_max")
# Their rows are no frequencies from low to high, so that they cannot be laid on another front end's.
WITHOUT_FREQUENCY_AXIS = ("mfcc", "chroma")


def part_config(config: StackConfig, kind: str) -> FrontEndConfig:
    """Configuration of one front end of a stack: its type's defaults, and the stack's settings where it has them.

    >>> part_config(StackConfig(n_bins=80), "mel").n_bins, part_config(StackConfig(), "stft").n_fft
    (80, 1024)
    """
    known = config_of(kind, {})
    settings: dict[str, Any] = {key: getattr(config, key) for key in COMMON}
    if config.floor != 0:
        settings["floor"] = config.floor
    names = {field.name for field in fields(known)}
    return replace(known, **{key: value for key, value in settings.items() if key in names})


def rows_to(given: Tensor, wanted: Tensor) -> Tensor:
    """Matrix (F', F) that interpolates rows at `given` (F,) Hz to `wanted` (F',) Hz, linearly, edges held.

    >>> rows_to(torch.tensor([100.0, 200.0]), torch.tensor([50.0, 125.0])).tolist()
    [[1.0, 0.0], [0.75, 0.25]]
    """
    if len(given) == 1:
        return torch.ones(len(wanted), 1)
    given, wanted = given.double(), wanted.double().clamp(given[0], given[-1])
    above = torch.searchsorted(given, wanted).clamp(1, len(given) - 1)
    span = (given[above] - given[above - 1]).clamp(min=1e-9)  # rows may share a frequency
    weight = (wanted - given[above - 1]) / span
    matrix = torch.zeros(len(wanted), len(given), dtype=torch.float64)
    matrix.scatter_(1, above[:, None] - 1, 1.0 - weight[:, None])
    return matrix.scatter_(1, above[:, None], weight[:, None]).float()


def check_types(types: list[str]) -> None:
    """Raise UserError for a stack of nothing, of stacks, or of front ends without a frequency axis."""
    if not types:
        raise UserError("types is empty: name the front ends to stack, such as mel,reassigned.")
    for kind in types:
        if kind == "stack":
            raise UserError("types names stack: a stack of stacks is one stack, so name all its front ends at once.")
        if kind in WITHOUT_FREQUENCY_AXIS:
            raise UserError(f"types names {kind}, whose rows are no frequencies: it cannot share an axis with others.")
        if kind not in FrontEndConfig.get_known_choices():
            raise UserError(f"types names {kind!r}: choose of {', '.join(FrontEndConfig.get_known_choices())}.")


def check_grids(parts: list[FrontEnd]) -> None:
    """Raise UserError unless all parts have their frames at the same times, whatever the length of the clip."""
    first = parts[0]
    rate, hop_length = first.sample_rate, first.hop_length
    for part in parts[1:]:
        names = f"{first.config.type} and {part.config.type}"
        for n_samples in (1, hop_length + 1, rate, 10 * rate + hop_length // 2):
            frames = first.n_frames(n_samples), part.n_frames(n_samples)
            if frames[0] != frames[1]:
                raise UserError(
                    f"types {names} have {frames[0]} and {frames[1]} frames of {n_samples} samples: "
                    "stack front ends with the same frames."
                )
        times = first.times(10 * rate), part.times(10 * rate)
        if not torch.allclose(*times, rtol=0.0, atol=1e-4):
            starts = [f"{1e3 * float(time[0]):.1f}" for time in times]
            raise UserError(
                f"types {names} have their first frames at {starts[0]} and {starts[1]} ms: "
                "stack front ends with the same frames."
            )


class Stack(FrontEnd):
    """Pictures of several front ends of waves (B, S) as channels: image (B, C, F, T), all channels of each in turn.

    Frequencies and frames are the first's. The rows of the others are interpolated between their neighbours in Hz,
    after compression; above and below their band they hold its edge. A front end's settings are its type's defaults,
    except sample_rate, hop_length, compress, n_bins, f_min and f_max, and floor where it is not 0.
    Raises UserError for unknown types, a stack in a stack, and front ends with other frames, naming them.

    >>> stack = Stack(StackConfig(types=["mel", "stft", "reassigned"]))
    >>> stack(torch.zeros(2, 16000)).shape
    torch.Size([2, 3, 64, 96])
    """

    config: StackConfig

    def __init__(self, config: StackConfig):
        check_types(config.types)
        parts = [build_frontend(part_config(config, kind)) for kind in config.types]
        check_grids(parts)
        # The parts compress, each with the floor of its type; the stack itself does nothing more.
        super().__init__(replace(config, compress="none"), parts[0].frequencies)
        self.config, self.hop_length = config, parts[0].hop_length
        self.parts = nn.ModuleList(parts)
        self.n_channels = sum(part.n_channels for part in parts)
        for number, part in enumerate(parts):
            same = torch.equal(part.frequencies, self.frequencies)
            matrix = None if same else rows_to(part.frequencies, self.frequencies)
            self.register_buffer(f"rows_{number}", matrix, persistent=False)

    def transform(self, wave: Tensor) -> Tensor:
        """Compressed pictures of all parts."""
        images = []
        for number, part in enumerate(self.parts):
            assert isinstance(part, FrontEnd)
            image, rows = part.compress(part.transform(wave)), getattr(self, f"rows_{number}")
            images.append(image if rows is None else torch.matmul(rows, image))
        return torch.cat(images, 1)

    def temporary_bytes(self, n_samples: int) -> int:
        """Temporaries of one clip: the parts run one after the other."""
        return max(part.temporary_bytes(n_samples) for part in self.parts if isinstance(part, FrontEnd))

    def n_frames(self, n_samples: int) -> int:
        """Frames T of a clip of `n_samples`: the first part's."""
        first = self.parts[0]
        assert isinstance(first, FrontEnd)
        return first.n_frames(n_samples)

    def times(self, n_samples: int) -> Tensor:
        """Middles of the frames (T,) in seconds: the first part's."""
        first = self.parts[0]
        assert isinstance(first, FrontEnd)
        return first.times(n_samples)
