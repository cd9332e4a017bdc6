"""Other sounds in the background, drawn from a memory of past clips: BYOL-A's log-mixup-exp (Niizumi et al., 2021)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .draws import Draws


def mix_powers(power: Tensor, background: Tensor, share: Tensor) -> Tensor:
    """Mix two sounds that are given as e^image: ln((1 - share) power + share background).

    The same as `audiossl.transforms.image.log_mixup_exp` to rounding, for normalised pictures (e^image must be
    a float32, so up to 80), without an exponential where the powers are kept.

    Args:
        power: e^image, (B, C, F, T).
        background: of the same shape.
        share: of the background, (B,), from 0 to below 1.

    >>> power = torch.full((1, 1, 1, 1), 2.0).exp()
    >>> mix_powers(power, torch.zeros(1, 1, 1, 1).exp(), torch.tensor([0.5])).item()  # ln((e^2 + 1) / 2)
    1.4337...
    """
    return power.lerp(background, share[:, None, None, None]).log_()


class Mixture(NamedTuple):
    """What is mixed into the views of a batch.

    Args:
        power: e^image of the clips, (B, C, F, T).
        memory: e^image of the clips to draw from, (M, C, F, T).
        background: which of them each view gets, (N,).
        share: of the background, (N,).
    """

    power: Tensor
    memory: Tensor
    background: Tensor
    share: Tensor

    def images(self, views: slice) -> Tensor:
        """Mixed pictures for some of the views, one of every clip, (B, C, F, T)."""
        background = self.memory.index_select(0, self.background[views])
        return mix_powers(self.power, background, self.share[views])


class MixupMemory(nn.Module):
    """The last `n_clips` pictures of a process, oldest out first, to draw backgrounds from.

    Its state is part of `state_dict`, so that a resumed run goes on with the same backgrounds: 50 MB for 2,048 clips
    of 64 x 96. As BYOL-A's, the memory belongs to a process and begins empty; a clip is not mixed before there is
    something in it.

    Args:
        n_clips: how many are kept (BYOL-A: 2,048).
        image_size: (C, F, T) of a picture.

    >>> memory = MixupMemory(4, (1, 2, 2))
    >>> memory.remember(torch.zeros(3, 1, 2, 2).exp())
    >>> memory.remember(torch.ones(3, 1, 2, 2).exp())
    >>> len(memory), memory.power[:, 0, 0, 0].log().round().tolist()
    (4, [1.0, 1.0, 0.0, 1.0])
    """

    power: Tensor

    def __init__(self, n_clips: int, image_size: tuple[int, int, int]):
        super().__init__()
        self.n_clips, self.n_seen = n_clips, 0
        # Rows of the memory that this step has replaced, and what stood there before; None: nobody will ask.
        self._replaced: list[tuple[Tensor, Tensor]] | None = None
        self._seen_before = 0
        # Kept as e^image, which saves an exponential at each mixing.
        self.register_buffer("power", torch.zeros(n_clips, *image_size))

    def __len__(self) -> int:
        return min(self.n_seen, self.n_clips)

    @torch.no_grad()
    def remember(self, power: Tensor) -> None:
        """Keep a batch of pictures, as e^image (B, C, F, T), or as many of its last as there is room for."""
        power = power[-self.n_clips :]
        first = self.n_seen % self.n_clips
        room = min(len(power), self.n_clips - first)
        for rows, new in (
            (self.power[first : first + room], power[:room]),
            (self.power[: len(power) - room], power[room:]),
        ):
            if self._replaced is not None:
                self._replaced.append((rows, rows.clone()))
            rows.copy_(new)
        self.n_seen += len(power)

    def begin_step(self) -> None:
        """Keep what is replaced from here on, so that `undo_step` can put it back."""
        self._replaced, self._seen_before = [], self.n_seen

    def undo_step(self) -> None:
        """Forget the pictures since `begin_step`: the older ones that they replaced are back."""
        for rows, before in reversed(self._replaced or []):
            rows.copy_(before)
        self._replaced, self.n_seen = [], self._seen_before

    def draw(self, n_clips: int, draws: Draws) -> Tensor:
        """Which clips of the memory to take, (n_clips,); all 0 while there is none."""
        return draws.integers(n_clips, below=max(1, len(self)))

    def get_extra_state(self) -> Tensor:
        """How many clips were seen, for `state_dict`."""
        return torch.tensor(self.n_seen)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what `get_extra_state` gave."""
        self.n_seen = int(state)

    def extra_repr(self) -> str:
        """Show size and filling in `print(module)`."""
        return f"n_clips={self.n_clips}, image_size={tuple(self.power.shape[1:])}, filled={len(self)}"
