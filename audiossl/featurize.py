"""From sound to embeddings: files, folders, patterns or arrays in, one row a file (or a window) out.

Files of any rate and length are read in blocks and resampled; the windows of all files share the batches that
go to the device, so ten thousand short files cost as many calls as one long one. What cannot be read becomes
a row with its reason, and the other files go on.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import types
from collections import deque
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from audiossl import __version__, audio
from audiossl.embeddings import FeaturizeResult
from audiossl.errors import UserError
from audiossl.windows import Cut, Item, find_items, read_blocks

if TYPE_CHECKING:
    from audiossl.encoder import AudioEncoder

POOLING = "mean over windows, weighted by the samples of sound in each"


def featurize(
    inputs: Any,
    model: str | os.PathLike[str] | AudioEncoder,
    sample_rate: int | None = None,
    level: str = "file",
    window_s: float | None = None,
    hop_s: float | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    errors: str = "record",
    progress: bool = True,
) -> FeaturizeResult:
    """Embed recordings with a pretrained encoder.

    Args:
        inputs: a path, a folder (searched through, sorted), a pattern such as "calls/*.flac", or a list;
            an array (S,), rows of an array (N, S), a list of arrays (S,), of floats in [-1, 1] or int16.
        model: the folder that a run wrote (`RUN/encoder`), the name of a model, or an `AudioEncoder`.
        sample_rate: rate of the arrays in Hz; required for arrays. Files know their own.
        level: "file" gives one row each: the mean of its windows, weighted by how much sound each holds;
            "window" gives one row a window.
        window_s: length of a window in seconds; by default the length that the encoder was trained on.
        hop_s: distance of the windows in seconds; by default they lie side by side. A short file, and the rest at
            the end of a long one, is centred in zeros; a rest below a tenth of a window is left out.
        batch_size: windows on the device at a time; the embeddings do not depend on it.
        device: "cpu", "cuda" ...; by default where a given `AudioEncoder` is, else a GPU when there is one.
        errors: a file that cannot be read is a row of NaN with its reason ("record"), stands only in
            `result.skipped` ("skip"), or ends the call ("raise").
        progress: show a bar when standard error is a terminal.

    Returns a `FeaturizeResult` in the order of the inputs: `.embeddings` (N, D) float32, `.table`, `.meta`.
    Raises `UserError` for inputs without a recording, arrays without `sample_rate`, settings that make no
    sense, and with errors="raise" for the first file that cannot be read.

    Example:
        result = audiossl.featurize("my_sounds/", model="runs/first/encoder")
        result.to_parquet("my_sounds.parquet")
    """
    _check_settings(level, window_s, hop_s, batch_size, errors)
    items = find_items(inputs, sample_rate)
    encoder, device = _load(model, device)
    cut = _cut(encoder, window_s, hop_s)
    training, before = encoder.training, next(encoder.parameters()).device
    encoder.to(device).eval()
    # Convolutions in full float32: TF32 on a GPU differs by about 1e-3 between batch sizes.
    precise = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    bar = tqdm(total=len(items), desc="featurize", unit=" files", disable=None if progress else True)
    try:
        with precise, bar:
            recordings = _run(items, encoder, cut, level, batch_size, device, errors, bar)
    finally:
        encoder.to(before).train(training)
    return _collect(recordings, encoder.dim, cut, level, errors, _meta(model, encoder, cut, level))


@dataclass
class _Recording:
    """What is known of one input while its windows pass through the encoder."""

    item: Item
    error: str | None = None
    n_total: int = 0
    rate_in: int | None = None
    peak: float = 0.0
    n_windows: int = 0
    n_valid: list[int] = field(default_factory=list)  # one a window, or their sum alone
    embeddings: list[np.ndarray] = field(default_factory=list)  # one a window, or their weighted sum alone

    def add(self, embedding: np.ndarray, n_valid: int, level: str) -> None:
        """Take the embedding (D,) of the next window; a file of any length keeps one sum."""
        self.n_windows += 1
        if level == "window":
            self.embeddings.append(embedding)
            self.n_valid.append(n_valid)
            return
        weighted = embedding.astype(np.float64) * n_valid
        self.embeddings = [self.embeddings[0] + weighted if self.embeddings else weighted]
        self.n_valid = [sum(self.n_valid) + n_valid]


def _run(
    items: list[Item],
    encoder: AudioEncoder,
    cut: Cut,
    level: str,
    batch_size: int,
    device: torch.device,
    errors: str,
    bar: tqdm,
) -> list[_Recording]:
    recordings = [_Recording(item) for item in items]
    windows: deque[tuple[_Recording, np.ndarray, int]] = deque()

    def embed(n: int) -> None:
        taken = [windows.popleft() for _ in range(n)]
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack([window for _, window, _ in taken])).to(device)
            embeddings = encoder(batch).float().cpu().numpy()
        for (recording, _, n_valid), embedding in zip(taken, embeddings, strict=True):
            recording.add(embedding, n_valid, level)

    for number, found in read_blocks(items, cut):
        recording = recordings[number]
        bar.update(number + 1 - bar.n)
        if isinstance(found, audio.AudioError):
            if errors == "raise":
                raise found
            recording.error = str(found)
            continue
        recording.n_total, recording.rate_in = found.n_total, found.rate_in
        recording.peak = max(recording.peak, found.peak)
        windows.extend((recording, w, int(n)) for w, n in zip(found.windows, found.n_valid, strict=True))
        while len(windows) >= batch_size:
            embed(batch_size)
    if windows:
        embed(len(windows))
    return recordings


def _collect(
    recordings: list[_Recording], dim: int, cut: Cut, level: str, errors: str, meta: dict[str, Any]
) -> FeaturizeResult:
    """Rows in the order of the inputs."""
    table: list[dict[str, Any]] = []
    embeddings: list[np.ndarray] = []
    skipped: list[tuple[str, str]] = []
    for recording in recordings:
        if recording.error is None and not all(np.isfinite(e).all() for e in recording.embeddings):
            recording.error = f"{recording.item.name}: the encoder gives values that are not finite."
        if recording.error is not None:
            skipped.append((recording.item.name, recording.error))
            if errors == "record":
                table.append(_row(recording, None, None, 0, "error", recording.error))
                embeddings.append(np.full(dim, np.nan))
            continue
        status, message = _status(recording)
        for i, (embedding, n_valid) in enumerate(zip(recording.embeddings, recording.n_valid, strict=True)):
            start = i * cut.n_hop / cut.sample_rate
            if level == "window":
                end, n_windows = start + n_valid / cut.sample_rate, 1
            else:
                end, n_windows = recording.n_total / cut.sample_rate, recording.n_windows
                embedding = embedding / n_valid
            table.append(_row(recording, start, end, n_windows, status, message))
            embeddings.append(embedding)
    stacked = np.array(embeddings, dtype=np.float32).reshape(len(embeddings), dim)
    return FeaturizeResult(stacked, table, meta, skipped)


def _row(
    recording: _Recording,
    start_s: float | None,
    end_s: float | None,
    n_windows: int,
    status: str,
    message: str,
) -> dict[str, Any]:
    return {
        "file": recording.item.name,
        "start_s": start_s,
        "end_s": end_s,
        "windows": n_windows,
        "sample_rate_in": recording.rate_in,
        "peak_db": round(20 * math.log10(recording.peak), 2) if recording.peak > 0 else None,
        "status": status,
        "message": message,
    }


def _status(recording: _Recording) -> tuple[str, str]:
    if recording.peak == 0:
        return "silent", "all samples are zero"
    # Float files and resampling overshoot full scale a little; far above it the samples are no waves in [-1, 1].
    if recording.peak > 4:
        return "ok", f"samples reach {recording.peak:.4g} where full scale is 1"
    return "ok", ""


def _check_settings(level: str, window_s: float | None, hop_s: float | None, batch_size: int, errors: str) -> None:
    for name, value, allowed in (
        ("level", level, ("file", "window")),
        ("errors", errors, ("record", "skip", "raise")),
    ):
        if value not in allowed:
            raise UserError(f"{name} is {value!r}: choose one of {', '.join(allowed)}.")
    for name, seconds in (("window_s", window_s), ("hop_s", hop_s)):
        if seconds is not None and not 0 < seconds < math.inf:
            raise UserError(f"{name} is {seconds}: give a length in seconds above 0.")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}: give at least 1.")


def _load(
    model: str | os.PathLike[str] | AudioEncoder, device: str | torch.device | None
) -> tuple[AudioEncoder, torch.device]:
    if isinstance(model, (str, os.PathLike)):
        from audiossl.encoder import load_model

        return load_model(model), default_device() if device is None else check_device(device)
    return model, next(model.parameters()).device if device is None else check_device(device)


def default_device() -> torch.device:
    """A GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_device(device: str | torch.device) -> torch.device:
    """The torch device of that name; raises `UserError` when there is none."""
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UserError(f"device {device!r} does not exist here: choose cpu, or leave it out.") from None
    return found


def _cut(encoder: AudioEncoder, window_s: float | None, hop_s: float | None) -> Cut:
    rate = encoder.sample_rate
    n_samples = encoder.n_samples if window_s is None else max(1, round(window_s * rate))
    return Cut(rate, n_samples, n_samples if hop_s is None else max(1, round(hop_s * rate)))


def _meta(model: str | os.PathLike[str] | AudioEncoder, encoder: AudioEncoder, cut: Cut, level: str) -> dict[str, Any]:
    name, checksum = type(model).__name__, None
    if isinstance(model, (str, os.PathLike)):
        name, weights = os.fspath(model), Path(model) / "model.safetensors"
        checksum = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None
    config = getattr(encoder, "config", None)
    return {
        "model": name,
        "model_sha256": checksum,
        "encoder": asdict(config) if is_dataclass(config) and not isinstance(config, type) else None,
        "sample_rate": cut.sample_rate,
        "window_s": cut.n_samples / cut.sample_rate,
        "hop_s": cut.n_hop / cut.sample_rate,
        "level": level,
        "pooling": POOLING if level == "file" else "none",
        "audiossl": __version__,
        "torch": torch.__version__,
    }


class _CallableModule(types.ModuleType):
    """A module that answers a call like its function.

    Importing a submodule binds its name in the package, so `audiossl.featurize` is the function before
    anybody imported this module and the module after that; both must work as `audiossl.featurize(...)`.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> FeaturizeResult:
        return featurize(*args, **kwargs)


_CallableModule.__call__.__doc__ = featurize.__doc__
sys.modules[__name__].__class__ = _CallableModule
