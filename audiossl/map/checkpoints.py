"""The encoder of a run as it was at each of its checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path

from torch import Tensor

from audiossl.encoder import AudioEncoder, load_model
from audiossl.errors import UserError
from audiossl.run import files
from audiossl.run.checkpoint import Checkpoints, read_position, read_state

BEFORE = "random weights"


def encoders_of_run(run: Path, seed: int) -> dict[str, AudioEncoder]:
    """Encoders by name, in the order of training: random weights first, then one for each checkpoint that was kept.

    Where in a method's weights the encoder's lie is known by the last checkpoint, which holds the very weights that
    `RUN/encoder` has. Raises UserError for a run that is not finished, and for one without checkpoints.
    """
    if not (run / files.ENCODER / "config.json").is_file():
        raise UserError(f"--run {run} holds no finished run: there is no {files.ENCODER}/ in it.")
    final = load_model(run / files.ENCODER)
    paths = Checkpoints(run / files.CHECKPOINTS, keep=1, best="").all()
    if not paths:
        raise UserError(f"--run {run} holds no checkpoints: pretrain with --run.keep 20, say, to see how it learns.")
    prefix = _prefix(_weights(paths[-1]), final, run)
    found = {BEFORE: final.randomised(seed)}
    for path in paths:
        weights = _weights(path)
        encoder = copy.deepcopy(final)
        # A front end's own numbers, if it learned any, stand in every method's weights under the same name.
        for module, before in ((encoder.backbone, prefix), (encoder.frontend, "frontend.")):
            module.load_state_dict({name: weights[before + name] for name in module.state_dict()})
        found[f"after epoch {read_position(path).epoch}"] = encoder
    return found


def _weights(path: Path) -> dict[str, Tensor]:
    (weights,) = read_state(path)["models"]
    return dict(weights)


def _prefix(weights: dict[str, Tensor], encoder: AudioEncoder, run: Path) -> str:
    """What stands before the names of the encoder's weights in those of the method."""
    own = {name: tensor.cpu() for name, tensor in encoder.backbone.state_dict().items()}
    first = next(iter(own))
    for prefix in (name.removesuffix(first) for name in weights if name.endswith(first)):
        if all(prefix + name in weights and weights[prefix + name].cpu().equal(own[name]) for name in own):
            return prefix
    raise UserError(
        f"--run {run}: its last checkpoint does not hold the weights of {files.ENCODER}/: they are of two runs."
    )
