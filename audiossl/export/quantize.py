"""An ONNX file of a model in eight bits: a quarter of the size, and faster where the machine multiplies bytes.

What was measured on a ResNet-10 and swin_micro over Speech Commands (docs/export.md): products of a convolution are
quantised by ranges that are measured beforehand, those of a matrix by each input's own. The other way round both lose:
convolutions without ranges are slower than in float, and a transformer's fixed ranges are coarse. The front end stays
float, since its numbers span ten decades, and so do layers too small to count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audiossl.errors import UserError
from audiossl.export.onnx_file import Session

# Layers of fewer weights stay float: the first ones, whose loss is the largest and whose size is the smallest.
SMALLEST = 2048
CALIBRATED = ("Conv", "Add", "Relu", "MaxPool", "AveragePool")


def quantise(path: Path, target: Path, front: set[str], clips: Sequence[np.ndarray]) -> None:
    """Write the file at `path` with the products of its network in eight bits.

    front: names of the nodes that stay float. clips: waves (S,) that ranges are measured on; without any, those of
    convolutions are measured anew for every input, which costs time.
    Raises UserError when the network has no layer that can be quantised.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

    graph = onnx.load(path).graph
    sizes = {item.name: int(np.prod(item.dims)) for item in graph.initializer}
    kept = {n.name for n in graph.node if n.name in front or _is_small(n, sizes)}
    kinds = {n.op_type for n in graph.node if n.name not in kept and n.op_type in ("Conv", "MatMul", "Gemm")}
    if not kinds:
        raise UserError("the network has no layer that can be quantised: leave out --int8.")
    source = path
    between = target.with_suffix(".ranges.onnx")
    if "Conv" in kinds and clips:
        quantize_static(
            source,
            between,
            _Clips(clips),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=sorted(kept),
            op_types_to_quantize=list(CALIBRATED),
        )
        source, kinds = between, kinds - {"Conv"}
    if kinds:
        quantize_dynamic(
            source,
            target,
            # ConvInteger of onnxruntime takes unsigned weights alone.
            weight_type=QuantType.QUInt8 if "Conv" in kinds else QuantType.QInt8,
            per_channel="Conv" not in kinds,
            nodes_to_exclude=sorted(kept),
            op_types_to_quantize=sorted(kinds),
        )
        between.unlink(missing_ok=True)
    else:
        between.replace(target)


def _is_small(node: Any, sizes: dict[str, int]) -> bool:
    weights = [sizes[name] for name in node.input if name in sizes]
    return node.op_type in ("Conv", "MatMul", "Gemm") and max(weights, default=0) < SMALLEST


class _Clips:
    """Clips as onnxruntime asks for them: one input after the other, then None."""

    def __init__(self, clips: Sequence[np.ndarray]):
        self.inputs: Iterator[dict[str, np.ndarray]] = iter([{"wave": clip[None]} for clip in clips])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.inputs, None)


def compared(
    full: Path, small: Path, clips: Sequence[np.ndarray], n_samples: int, answers: Sequence[int] = ()
) -> dict[str, float]:
    """How a quantised file compares with the file in float: bytes, time, cosines of the outputs, accuracy.

    clips: waves (S,). answers: the place of each clip's label among the outputs, -1 where it has none.
    """
    sessions = [Session(path, threads=1) for path in (full, small)]
    outputs = [np.concatenate([session(clip[None]) for clip in clips]) for session in sessions]
    milliseconds = _median_ms(sessions, np.zeros((1, n_samples), dtype=np.float32))
    lengths = [np.linalg.norm(output, axis=1) for output in outputs]
    cosine = (outputs[0] * outputs[1]).sum(1) / np.maximum(lengths[0] * lengths[1], 1e-12)
    found = {
        "bytes_float": full.stat().st_size,
        "bytes_int8": small.stat().st_size,
        "ms_float": round(milliseconds[0], 3),
        "ms_int8": round(milliseconds[1], 3),
        "cosine_mean": round(float(cosine.mean()), 6),
        "cosine_least": round(float(cosine.min()), 6),
    }
    right = np.array(answers)
    known = right >= 0
    if known.any():
        for name, output in zip(("accuracy_float", "accuracy_int8"), outputs, strict=True):
            found[name] = round(float((output.argmax(1) == right)[known].mean()), 4)
    return found


def _median_ms(sessions: Sequence[Session], wave: np.ndarray, rounds: int = 9) -> list[float]:
    """CPU time of one thread for one wave, in turns, so that other work on the machine shows little."""
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(rounds):
        for session, spent in zip(sessions, times, strict=True):
            start = time.process_time()
            session(wave)
            spent.append(1e3 * (time.process_time() - start))
    return [statistics.median(spent) for spent in times]
