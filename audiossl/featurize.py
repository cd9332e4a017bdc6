"""From sound to embeddings: files, folders, archives, data sets or arrays in, one row a clip, window or frame out.

Files of any rate and length are read in blocks and resampled; the windows of all files share the batches that
go to the device, so ten thousand short files cost as many calls as one long one. What cannot be read becomes
a row with its reason, and the other files go on.
"""

from __future__ import annotations

import hashlib
import os
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from audiossl import __version__
from audiossl.embed.config import EmbedConfig
from audiossl.embed.embedder import Embedder, far_from_model
from audiossl.embed.rows import RowMaker
from audiossl.embed.sources import Items, find_items
from audiossl.embed.windows import Cut
from audiossl.embeddings import FeaturizeResult
from audiossl.errors import UserError
from audiossl.installed import DEFAULT_MODEL

if TYPE_CHECKING:
    from audiossl.encoder import AudioEncoder

Model = str | os.PathLike[str]


def featurize(
    inputs: Any,
    model: Model | AudioEncoder = DEFAULT_MODEL,
    sample_rate: int | None = None,
    level: str = "clip",
    window_s: float | None = None,
    hop_s: float | None = None,
    pool: str = "mean",
    layers: Sequence[int] = (),
    channels: str = "mix",
    normalize: str = "model",
    batch_size: int = 64,
    workers: int = 0,
    device: str | torch.device | None = None,
    errors: str = "record",
    progress: bool = True,
    outside: bool = False,
) -> FeaturizeResult:
    """Embed recordings with a pretrained encoder.

    Args:
        inputs: a path; a folder (searched through, sorted); a pattern such as "calls/*.flac"; a manifest (.csv, .tsv,
            .jsonl, .parquet) with a column path or file; a .tar archive; "hf:NAME:SPLIT", a streamed data set; an array
            (S,), rows of an array (N, S), of floats in [-1, 1] or int16; bytes or a file object; a `datasets.Dataset`,
            streaming too; or a list of paths, arrays (S,), bytes and file objects.
        model: the folder that a run wrote (`RUN/encoder`), the name of a model, or an `AudioEncoder`; by default
            "words", which comes with audiossl and knows short words best (see `audiossl models`).
        sample_rate: rate of the arrays in Hz; required for arrays. Files know their own.
        level: "clip" gives one row a recording, "window" one a window, "frame" one a column of the encoder's map.
        window_s: length of a window in seconds; by default the length that the encoder was trained on.
        hop_s: distance of the windows in seconds; by default they lie side by side. A short recording, and the rest at
            the end of a long one, is centred in zeros; a rest below 10 ms is left out.
        pool: how the windows of a clip become one row: "mean", weighted by how much sound each holds, "max", "mean_max"
            (their sum) or "mean_std" (side by side, twice as long).
        layers: blocks of the network whose pooled outputs, side by side, take its embedding's place: -1 is the last.
        channels: "mix" (their mean), "first", or "each", which gives every channel rows of its own.
        normalize: the picture by statistics of the "model", of these recordings ("dataset", which reads them twice), or
            of each window by itself ("clip"). Under "model" a warning says when the recordings are far from it.
        batch_size: windows on the device at a time; the embeddings do not depend on it.
        workers: threads that decode; 0 takes two a core.
        device: "cpu", "cuda" ...; by default where a given `AudioEncoder` is, else a GPU when there is one.
        errors: a file that cannot be read is a row of NaN with its reason ("record"), stands only in
            `result.skipped` ("skip"), or ends the call ("raise"). Windows before the place where a long recording
            breaks off are kept.
        progress: show a bar when standard error is a terminal.
        outside: let a manifest name files outside of its own folder.

    Returns a `FeaturizeResult` in the order of the inputs: `.embeddings` (N, D) float32, `.table`, `.meta`.
    Raises `UserError` for inputs without a recording, arrays without `sample_rate`, settings that make no
    sense, and with errors="raise" for the first file that cannot be read.

    Example:
        result = audiossl.featurize("clip.wav")
        result = audiossl.featurize("my_sounds/", model="runs/first/encoder")
        result.to_parquet("my_sounds.parquet")
    """
    settings = (level, window_s, hop_s, pool, tuple(layers), channels, normalize, batch_size, workers, errors, outside)
    config = EmbedConfig(*settings)
    items = find_items(inputs, sample_rate, outside)
    table: list[dict[str, Any]] = []
    parts: list[np.ndarray] = []
    skipped: list[tuple[str, str]] = []
    with ready(model, config, device) as maker, _bar(items, progress) as bar:
        if normalize == "dataset":
            look_first(maker, items)
        for rows in maker.rows(items):
            table += rows.table
            parts.append(rows.embeddings)
            bar.update(rows.last)
            if rows.problem is not None:
                skipped.append((rows.name, rows.problem))
        meta = describe(model, maker)
    if far := far_from_model(meta["input"], normalize):
        warnings.warn(far, stacklevel=2)
    embeddings = np.concatenate(parts) if parts else np.zeros((0, maker.dim), np.float32)
    return FeaturizeResult(embeddings, table, meta, skipped)


@contextmanager
def ready(model: Model | AudioEncoder, config: EmbedConfig, device: str | torch.device | None) -> Iterator[RowMaker]:
    """The encoder on its device, in eval mode and full precision; it comes back as it was."""
    encoder, device = _load(model, device)
    training, before = encoder.training, _device_of(encoder)
    encoder.to(device).eval()
    try:
        # Convolutions in full float32: TF32 on a GPU differs by about 1e-3 between batch sizes.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield RowMaker(Embedder(encoder, config), _cut(encoder, config))
    finally:
        encoder.to(before).train(training)


def look_first(maker: RowMaker, items: Items) -> None:
    """Measure the pictures of all recordings, and normalise by that from then on."""
    if items.n_known is None:
        raise UserError(
            "normalize 'dataset' reads the recordings twice, and a stream is read once: choose 'model' or 'clip', or "
            "give files."
        )
    maker.look(items)
    maker.embedder.normalize_by_what_was_seen()


def _bar(items: Items, progress: bool) -> tqdm:
    return tqdm(total=items.n_known, desc="featurize", unit=" files", disable=None if progress else True)


def _load(model: Model | AudioEncoder, device: str | torch.device | None) -> tuple[AudioEncoder, torch.device]:
    if isinstance(model, (str, os.PathLike)):
        from audiossl.encoder import load_model

        return load_model(model), default_device() if device is None else check_device(device)
    return model, _device_of(model) if device is None else check_device(device)


def _device_of(model: torch.nn.Module) -> torch.device:
    """Where its parameters are; without any it computes wherever its input is."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


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


def _cut(encoder: AudioEncoder, config: EmbedConfig) -> Cut:
    rate = encoder.sample_rate
    n_samples = encoder.n_samples if config.window_s is None else max(1, round(config.window_s * rate))
    n_hop = n_samples if config.hop_s is None else max(1, round(config.hop_s * rate))
    return Cut(rate, n_samples, n_hop, config.channels)  # type: ignore[arg-type]


def describe(model: Model | AudioEncoder, maker: RowMaker) -> dict[str, Any]:
    """What the numbers depend on: the model and its checksum, settings, statistics, versions."""
    described, cut = getattr(maker.embedder.encoder, "config", None), maker.cut
    settings = asdict(maker.config)
    for name in ("batch_size", "workers", "errors", "outside"):  # which change no number
        del settings[name]
    return {
        "model": os.fspath(model) if isinstance(model, (str, os.PathLike)) else type(model).__name__,
        "model_sha256": _checksum(maker.embedder.encoder),
        "encoder": asdict(described) if is_dataclass(described) and not isinstance(described, type) else None,
        **settings,
        "layers": list(maker.config.layers),
        "sample_rate": cut.sample_rate,
        "window_s": cut.n_samples / cut.sample_rate,
        "hop_s": cut.n_hop / cut.sample_rate,
        "input": maker.embedder.facts(),
        "audiossl": __version__,
        "torch": torch.__version__,
    }


def _checksum(encoder: torch.nn.Module) -> str:
    """SHA-256 of all weights and statistics with their names, wherever the encoder came from."""
    found = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


class _CallableModule(types.ModuleType):
    """A module that answers a call like its function.

    Importing a submodule binds its name in the package, so `audiossl.featurize` is the function before
    anybody imported this module and the module after that; both must work as `audiossl.featurize(...)`.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> FeaturizeResult:
        return featurize(*args, **kwargs)


_CallableModule.__call__.__doc__ = featurize.__doc__
sys.modules[__name__].__class__ = _CallableModule
