"""Loading: our cache and loader beside HF datasets and torchaudio's Speech Commands class over the same files.

    python benchmarks/bench_loading.py

Clips of a second as WAV of 16 bits at 16 kHz, in the layout of Speech Commands; shuffled batches of 128 waves in the
training process, CPU time. The first epoch contains whatever a way does before it (decoding into the cache, building a
table); a later one is the median of three. "Own decoder" is what the library opens sounds with by itself, torchcodec
in both cases, which needs FFmpeg; "soundfile" is the same class with bytes decoded by soundfile in its place.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from pretraining import RATE, write_clips
from torch.utils.data import DataLoader

from audiossl.data import DataConfig, cache_clips, open_clips, training_loader

N_CLIPS, BATCH, LATER = int(os.environ.get("LOADING_CLIPS", "2000")), 128, 3
Way = Callable[[Path], Callable[[], Iterable[Any]]]  # opens the files, returns an epoch


def ours(root: Path) -> Callable[[], Iterable[Any]]:
    config = DataConfig(root=str(root), cache=str(root.parent / "cache"))
    loader = training_loader(cache_clips(open_clips(config), config, progress=False), BATCH)
    return lambda: (batch.wave for batch in loader)


def loader_of(dataset: Any, wave_of: Callable[[Any], torch.Tensor]) -> Callable[[], Iterable[Any]]:
    """A plain loader: a clip at a time, stacked."""

    def together(clips: list[Any]) -> torch.Tensor:
        return torch.stack([wave_of(clip) for clip in clips])

    loader = DataLoader(dataset, BATCH, shuffle=True, drop_last=True, collate_fn=together)
    return lambda: loader


def soundfile_wave(source: Any) -> torch.Tensor:
    return torch.from_numpy(soundfile.read(source, dtype="float32")[0])


def hugging_face(decode: bool) -> Way:
    def opened(root: Path) -> Callable[[], Iterable[Any]]:
        import datasets

        datasets.disable_progress_bars()
        files = sorted(str(path) for path in root.rglob("*.wav"))
        audio = datasets.Audio(sampling_rate=RATE if decode else None, decode=decode)
        table = datasets.Dataset.from_dict({"audio": files}).cast_column("audio", audio)
        if decode:
            return loader_of(table, lambda row: row["audio"].get_all_samples().data[0])
        return loader_of(table, lambda row: soundfile_wave(row["audio"]["bytes"] or row["audio"]["path"]))

    return opened


def torchaudio_class(decode: bool) -> Way:
    def opened(root: Path) -> Callable[[], Iterable[Any]]:
        from torchaudio.datasets import SPEECHCOMMANDS

        class BySoundfile(SPEECHCOMMANDS):
            def __getitem__(self, n: int) -> tuple[torch.Tensor]:
                return (soundfile_wave(os.path.join(self._archive, self.get_metadata(n)[0]))[None],)

        kind = SPEECHCOMMANDS if decode else BySoundfile
        return loader_of(kind(root, url="speech_commands_v0.02"), lambda row: row[0][0])

    return opened


def plain_files(root: Path) -> Callable[[], Iterable[Any]]:
    files = sorted(root.rglob("*.wav"))
    return loader_of(files, soundfile_wave)


def hugging_face_in_memory(root: Path) -> Callable[[], Iterable[Any]]:
    """What one may do by hand: decode once, keep int16 in the library's own memory-mapped table."""
    import datasets

    datasets.disable_progress_bars()
    files = sorted(str(path) for path in root.rglob("*.wav"))

    def rows() -> Iterable[dict[str, np.ndarray]]:
        for path in files:
            yield {"wave": soundfile.read(path, dtype="int16")[0]}

    features = datasets.Features({"wave": datasets.Sequence(datasets.Value("int16"), length=RATE)})
    table = datasets.Dataset.from_generator(rows, features=features, cache_dir=str(root.parent / "hf"))
    loader = DataLoader(table.with_format("torch"), BATCH, shuffle=True, drop_last=True)
    return lambda: (batch["wave"] for batch in loader)


WAYS: dict[str, Way] = {
    "audiossl, cache and loader": ours,
    "plain loop over files, soundfile": plain_files,
    "HF datasets, own decoder (torchcodec)": hugging_face(decode=True),
    "HF datasets, decode=False, soundfile": hugging_face(decode=False),
    "HF datasets, decoded once to int16": hugging_face_in_memory,
    "torchaudio SPEECHCOMMANDS, own decoder (torchcodec)": torchaudio_class(decode=True),
    "torchaudio SPEECHCOMMANDS, soundfile": torchaudio_class(decode=False),
}


def epoch(batches: Iterable[Any]) -> int:
    """Read all; the number of clips."""
    return sum(len(wave) for wave in batches)


def main() -> None:
    """One table."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "sounds"
        # Where torchaudio's class looks for the second version of Speech Commands.
        write_clips(root / "SpeechCommands" / "speech_commands_v0.02", N_CLIPS)
        found = {name: times(way, root) for name, way in WAYS.items()}
    ours_first, ours_later, _ = found["audiossl, cache and loader"]
    print(f"\n{N_CLIPS:,} clips, batches of {BATCH}; CPU time, one process; ratios to *audiossl, cache and loader*.\n")
    print("| | first epoch, ms a clip | ratio | later epochs, ms a clip | ratio |\n|---|---:|---:|---:|---:|")
    for name, (first, later, problem) in found.items():
        if problem:
            print(f"| {name} | {problem} | | | |")
        else:
            ratios = first / ours_first, later / ours_later
            print(f"| {name} | {1e3 * first:.3f} | {ratios[0]:.2f} | {1e3 * later:.4f} | {ratios[1]:.1f} |")


def times(way: Way, root: Path) -> tuple[float, float, str]:
    """CPU seconds a clip of the first epoch and of a later one, or why there are none."""
    try:
        start = time.process_time()
        batches = way(root)
        n = epoch(batches())
        first = time.process_time() - start
        later = []
        for _ in range(LATER):
            start = time.process_time()
            epoch(batches())
            later.append(time.process_time() - start)
    except (ImportError, RuntimeError, OSError) as error:
        return 0.0, 0.0, why(error)
    return first / n, statistics.median(later) / n, ""


def why(error: BaseException) -> str:
    """Why a decoder does not run: it is not installed, or lacks FFmpeg."""
    try:
        metadata.version("torchcodec")
    except metadata.PackageNotFoundError:
        return "torchcodec is not installed"
    return f"does not decode here ({type(error).__name__}: torchcodec finds no FFmpeg)"


if __name__ == "__main__":
    main()
