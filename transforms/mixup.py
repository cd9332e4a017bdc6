"""Other sounds in the background, drawn from a memory of past clips: BYOL-A's log-mixup-exp (Niizumi et al., 2021)."""

from __future__ import annotations

from typing import Any, NamedTuple

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

    There is room for more than those: a batch is written, as e^image, beside the clips that it will replace, which its
    own views still show, and which are back at once if the step is undone. Nothing is copied.

    Args:
        n_clips: how many are kept (BYOL-A: 2,048).
        image_size: (C, F, T) of a picture.

    >>> memory = MixupMemory(4, (1, 2, 2))
    >>> power = memory.add(torch.zeros(3, 1, 2, 2)), memory.add(torch.ones(3, 1, 2, 2))
    >>> len(memory), memory.clips()[:, 0, 0, 0].log().round().tolist()
    (4, [1.0, 1.0, 0.0, 1.0])
    """

    power: Tensor

    def __init__(self, n_clips: int, image_size: tuple[int, int, int]):
        super().__init__()
        self.n_clips, self.n_seen = n_clips, 0
        self._settled: int | None = None  # what was seen when the step began; None: nobody will undo one
        # Clip number s lies in row s modulo their number. As e^image, which saves an exponential at each mixing.
        self.register_buffer("power", torch.zeros(n_clips, *image_size))

    def __len__(self) -> int:
        return min(self.n_seen, self.n_clips)

    def mixture(self, image: Tensor, share: Tensor, draws: Draws) -> Mixture | None:
        """Draw a background for each of two views of a batch, and keep the batch.

        Args:
            image: (B, C, F, T), or (2 B, C, F, T): other pictures of the same clips for the second views, not kept.
            share: of the background in each view, (2 B,).
            draws: where the choice comes from.

        Returns what is mixed, valid until the next batch; None while the memory is empty.
        """
        self._make_room(len(image))
        filled = len(self) > 0
        background = self._rows(draws.integers(len(share), below=max(1, len(self))))
        power = self.add(image, len(share) // 2)
        return Mixture(power, self.power, background, share) if filled else None

    def add(self, image: Tensor, n_new: int | None = None) -> Tensor:
        """Keep the first `n_new` pictures of a batch (B, C, F, T), all by default, and return e^image of the batch."""
        n_new = len(image) if n_new is None else n_new
        self._make_room(len(image))
        first = self.n_seen % len(self.power)
        place = self.power[first : first + len(image)]
        if len(place) == len(image) and image.dtype == place.dtype and not image.requires_grad:
            power = torch.exp(image, out=place)
        else:
            power = image.exp()
            rows = torch.arange(self.n_seen, self.n_seen + n_new, device=image.device) % len(self.power)
            self.power[rows] = power[:n_new].detach().to(self.power.dtype)
        self.n_seen += n_new
        return power

    def clips(self) -> Tensor:
        """e^image of the clips, (n_clips, C, F, T): that of number s has place s modulo `n_clips`."""
        return self.power[self._rows(torch.arange(self.n_clips, device=self.power.device))]

    def _rows(self, places: Tensor) -> Tensor:
        """Where the last clips of these places lie."""
        last = self.n_seen - 1
        return (last - (last - places) % self.n_clips) % len(self.power)

    def _make_room(self, n: int) -> None:
        """Rows for n clips, beside those of the memory and all that came since the step began."""
        kept = self.n_clips + (0 if self._settled is None else self.n_seen - self._settled)
        if len(self.power) >= kept + n:
            return
        numbers = torch.arange(max(0, self.n_seen - kept), self.n_seen, device=self.power.device)
        # As many batches as fit in are whole: one that goes on in the first row would have to be copied.
        power = self.power.new_zeros(-(-(kept + n) // n) * n, *self.power.shape[1:])
        power[numbers % len(power)] = self.power[numbers % len(self.power)]
        self.power = power

    def begin_step(self) -> None:
        """Leave what is replaced from here on, so that `undo_step` can go back to it."""
        self._settled = self.n_seen

    def undo_step(self) -> None:
        """Forget the pictures since `begin_step`: the older ones that they replaced are back."""
        if self._settled is not None:
            self.n_seen = self._settled

    def get_extra_state(self) -> Tensor:
        """How many clips were seen, for `state_dict`."""
        return torch.tensor(self.n_seen)

    def set_extra_state(self, state: Tensor) -> None:
        """Take over what `get_extra_state` gave."""
        self.n_seen, self._settled = int(state), None

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "power"] = self.clips()  # without the room, which depends on the batch

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        self.power = self.power.new_zeros(self.n_clips, *self.power.shape[1:])
        super()._load_from_state_dict(state_dict, prefix, *others)

    def extra_repr(self) -> str:
        """Show size and filling in `print(module)`."""
        return f"n_clips={self.n_clips}, image_size={tuple(self.power.shape[1:])}, filled={len(self)}"
