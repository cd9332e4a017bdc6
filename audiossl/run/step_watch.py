"""Notes on the optimiser steps since the last look, and the way back to before the last one.

On a CPU each step is looked at before the optimiser moves, for 0.5 % of a step of the small EsViT. On a GPU a look is a
wait for the device: it happens at each step only when steps may be left out (`--run.skip_not_finite`), as torch's own
GradScaler does; otherwise every `--run.log_steps` and before a checkpoint, when the weights before the step are gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from audiossl.run import seeds
from audiossl.run.gradients import all_finite
from audiossl.run.state import TrainingState


@runtime_checkable
class RemembersSteps(Protocol):
    """A module whose forward notes something outside its buffers, or whose buffers are too large to be copied."""

    def begin_step(self) -> None:
        """An optimiser step begins: what is noted from here on belongs to it."""

    def undo_step(self) -> None:
        """Forget what was noted since then."""


@dataclass
class Part:
    """One micro-batch: its place in the epoch, its clips' places in the training set, and its loss."""

    position: int
    clips: Tensor | None
    loss: Tensor | None = None


@dataclass
class Group:
    """The micro-batches of one optimiser step."""

    step: int  # optimiser steps done with it, so from 1
    epoch: int  # from 0
    parts: list[Part] = field(default_factory=list)
    gradients_finite: Tensor | None = None

    def facts(self, ids: Sequence[str] | None) -> dict[str, Any]:
        """What there is to say of it: places, losses, clips and their names."""
        parts = []
        for part in self.parts:
            clips = [] if part.clips is None else part.clips.tolist()
            names = [] if ids is None else [ids[clip] for clip in clips]
            loss = None if part.loss is None else str(float(part.loss))  # JSON knows no NaN
            parts.append({"batch": part.position, "loss": loss, "clips": clips, "names": names})
        gradients = self.gradients_finite is None or bool(self.gradients_finite)
        return {"step": self.step, "epoch": self.epoch, "gradients_finite": gradients, "parts": parts}


class StepWatch:
    """Looks at the steps of a run, and can undo the last one.

    Args:
        state: what is trained, and what is remembered beside it.
        device: of the training.
        budget: how many steps may be skipped; above 0 each is looked at.
    """

    def __init__(self, state: TrainingState, device: torch.device, budget: int) -> None:
        self.state, self.device = state, device
        self.at_each_step = device.type == "cpu" or budget > 0
        self.skipped = 0  # steps, over the whole run
        self.overflows = 0  # steps one after the other that the loss scale of fp16 has left out
        self._groups: list[Group] = []  # since the last look
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._rng: dict[str, Any] = {}

    def begin(self, step: int, epoch: int, position: int, batch: Any) -> None:
        """A micro-batch of the optimiser step begins."""
        clips = getattr(batch, "index", None)
        if not isinstance(clips, Tensor):  # of a plain tuple it is a method
            clips = None
        if not self._groups or self._groups[-1].step != step:
            self._groups.append(Group(step, epoch))
            left_out = any(getattr(optimizer, "step_was_skipped", False) for optimizer in self.state.optimizers)
            self.overflows = self.overflows + 1 if left_out else 0
            if self.at_each_step:
                self._remember()
        self._groups[-1].parts.append(Part(position, clips))

    def _remember(self) -> None:
        modules = list(self._modules())
        copied = [module for module in modules if not isinstance(module, RemembersSteps)]
        buffers = [buffer for module in copied for buffer in module.buffers(recurse=False)]
        self._buffers = [(buffer, buffer.clone()) for buffer in buffers]
        self._rng = seeds.rng_state()
        for module in modules:
            if isinstance(module, RemembersSteps):
                module.begin_step()

    def _modules(self) -> Iterator[nn.Module]:
        for one in (*self.state.models, *self.state.own):
            yield from one.modules()

    def note_loss(self, loss: Tensor) -> None:
        """The loss of the present micro-batch."""
        if self._groups:
            self._groups[-1].parts[-1].loss = loss.detach()

    def note_gradients(self, scaled: bool) -> None:
        """The gradients of the whole step are there; those that a loss scale has made infinite are the scaler's."""
        if self._groups and not scaled:
            gradients = [p.grad for p in self._parameters() if p.grad is not None]
            self._groups[-1].gradients_finite = all_finite(gradients, self.device)

    def _parameters(self) -> list[nn.Parameter]:
        return [p for optimizer in self.state.optimizers for group in optimizer.param_groups for p in group["params"]]

    def first_bad(self) -> Group | None:
        """The first step since the last look that is not finite; waits for the device once, and forgets all of them."""
        groups, self._groups = self._groups, []
        flags = []
        for group in groups:
            losses = [part.loss for part in group.parts if part.loss is not None]
            finite = all_finite(losses, self.device)
            flags.append(finite if group.gradients_finite is None else finite & group.gradients_finite)
        good = torch.stack(flags).tolist() if flags else []
        return next((group for group, fine in zip(groups, good, strict=True) if not fine), None)

    def undo(self) -> None:
        """Make all as it was before the step, and leave the optimiser nothing to do."""
        for buffer, before in self._buffers:
            buffer.copy_(before)
        for module in self._modules():
            if isinstance(module, RemembersSteps):
                module.undo_step()
        seeds.restore_rng(self._rng)
        scaler = self.state.accelerator.scaler
        for parameter in self._parameters():
            if scaler is None:
                parameter.grad = None  # optimisers leave alone what has no gradient
            elif parameter.grad is not None:
                parameter.grad.fill_(math.inf)  # the scaler wants gradients, and leaves such a step out itself

    def weights_finite(self) -> bool:
        """Whether all weights are; waits for the device."""
        return bool(all_finite((p for model in self.state.models for p in model.parameters()), self.device))
