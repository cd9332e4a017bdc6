"""One ONNX file of a model: written by torch.onnx over torch.export, for any batch and length."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from audiossl.errors import UserError
from audiossl.export.graph import sample_waves

OPSET = 20
# Of torch.onnx with dynamo: lower ones would be converted afterwards, and often cannot be.
LOWEST_OPSET = 18
# Frames of the clip that is traced. What is traced must be special nowhere, or torch.export takes it for a rule: over
# patches of 4 and four stages, whose widths are 241, 121, 61 and 31, no window of 4 to 10 or of 12 to 14 divides any.
TRACED_FRAMES = 963


def follow(module: nn.Module, sample_rate: int, hop_length: int) -> torch.export.ExportedProgram:
    """The program of a module of `graph_module`: wave (batch, samples) to what it gives, both sizes free.

    Raises UserError for a network that torch.export cannot follow.
    """
    waves = sample_waves(sample_rate, (TRACED_FRAMES - 1) * hop_length + 1, 2)
    free = torch.export.Dim.DYNAMIC
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(module, (waves,), dynamic_shapes=({0: free, 1: free},))
    except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"this network cannot be exported for waves of every length: torch.export says: {reason}"
        ) from None


def shortest_wave(program: torch.export.ExportedProgram) -> int:
    """Samples of the shortest wave that torch.export lets a program take; the ONNX file takes a single one."""
    wave = next(node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs)
    symbol = wave.meta["val"].shape[1].node.expr
    return max(1, int(program.range_constraints[symbol].lower))


def write_onnx(program: torch.export.ExportedProgram, path: Path, output: str, opset: int) -> set[str]:
    """Write a program as an ONNX file with the input "wave" (batch, samples); return the front end's nodes by name.

    Raises UserError for an opset that cannot be written, or that lacks an operator of the model.
    """
    import onnx
    from onnxscript import optimizer

    check_opset(opset)
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=opset,
                input_names=["wave"],
                output_names=[output],
                dynamic_shapes=({0: "batch", 1: "samples"},),
                optimize=False,  # it would drop additions of less than 1e-8, such as the floor under a logarithm
                verbose=False,
            )
        assert made is not None
        optimizer.inline(made.model)
        optimizer.fold_constants(made.model)
        optimizer.remove_unused_nodes(made.model)
        made.save(path)
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"--opset {opset} cannot hold this model ({reason}): give {OPSET}.") from None
    model = onnx.load(path)
    found = {item.domain: item.version for item in model.opset_import}
    if found.get("", 0) != opset:
        raise UserError(f"--opset {opset} cannot hold an operator of this model, {found.get('')} can: give that.")
    return {node.name for node in model.graph.node if "frontend" in _scopes(node)}


def _scopes(node: Any) -> str:
    """The modules that a node comes from, as torch.onnx notes them."""
    return next((item.value for item in node.metadata_props if item.key == "pkg.torch.onnx.name_scopes"), "")


def simplify(path: Path) -> None:
    """Let onnxruntime join what can be joined exactly, such as a convolution with its batch norm, within ONNX."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    beside = path.with_suffix(".simple.onnx")
    options.optimized_model_filepath = os.fspath(beside)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(beside)
    # torch before 2.14 notes the shapes of weights too: the quantiser turns some, and would trip over the notes.
    weights = {item.name for item in model.graph.initializer}
    noted = [item for item in model.graph.value_info if item.name not in weights]
    del model.graph.value_info[:]
    model.graph.value_info.extend(noted)
    onnx.save(model, beside)
    os.replace(beside, path)


def check_opset(opset: int) -> None:
    """Raise UserError for an opset that torch.onnx does not write or onnxruntime does not read."""
    import onnx

    highest = min(onnx.defs.onnx_opset_version(), 23)
    if not LOWEST_OPSET <= opset <= highest:
        raise UserError(
            f"--opset {opset} cannot be written: give one from {LOWEST_OPSET} to {highest}, such as {OPSET}."
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the notes of torch and onnxruntime, which are for their makers, from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class Session:
    """An ONNX file in onnxruntime on the CPU: waves (B, S) float32 to the file's output."""

    def __init__(self, path: str | os.PathLike[str], threads: int = 0):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: as many as there are cores
        options.log_severity_level = 3
        self.session: Any = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        """The output (B, D) of waves (B, S)."""
        return self.session.run(None, {"wave": np.ascontiguousarray(waves, dtype=np.float32)})[0]
