"""What is trained: models, optimisers and the loss scale, as one state for a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from audiossl.errors import UserError


class TrainingState:
    """The prepared models and optimisers of a run, in the order of `prepare`."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.models: list[nn.Module] = []
        self.optimizers: list[Any] = []
        self.own: list[nn.Module] = []  # not of the method, and each process has its own

    def own_state(self) -> list[dict[str, Any]]:
        """What this process's own modules remember, on the CPU."""
        return [{name: value.cpu() for name, value in module.state_dict().items()} for module in self.own]

    def load_own(self, states: list[dict[str, Any]]) -> None:
        """Put back what `own_state` gave."""
        for module, state in zip(self.own, states, strict=True):
            module.load_state_dict(state)

    def add(self, prepared: tuple[Any, ...]) -> None:
        """Take over what `accelerator.prepare` gave."""
        self.models += [item for item in prepared if isinstance(item, nn.Module)]
        self.optimizers += [item for item in prepared if isinstance(item, torch.optim.Optimizer)]

    def lr(self) -> dict[str, float]:
        """Learning rate of the first group of the first optimiser, by its name in metrics.jsonl."""
        return {"lr": float(self.optimizers[0].param_groups[0]["lr"])} if self.optimizers else {}

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, without the wrappers of several processes."""
        scaler = self.accelerator.scaler
        unwrapped = [self.accelerator.unwrap_model(model) for model in self.models]
        return {
            "models": [model.state_dict() for model in unwrapped],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": scaler.state_dict() if scaler is not None else {},
        }

    def load_state_dict(self, state: dict[str, Any], path: Path) -> None:
        """Put a state back; raises `UserError` naming `path` when it is that of other models."""
        try:
            for model, weights in zip(self.models, state["models"], strict=True):
                self.accelerator.unwrap_model(model).load_state_dict(weights)
            for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(values)
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(
                f"--run.resume: {path} does not fit the model of this recipe ({str(error).splitlines()[0]}); "
                "resume with the code that wrote it, or name another --run.out."
            ) from error
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
