"""An exported model in onnxruntime, in float and in eight bits, beside PyTorch, eager and compiled.

    python benchmarks/bench_export.py --frontend mel --backbone resnet10 --clips RECORDINGS

Clips of a second, random weights, batches of 32 and one clip, by one thread and by two. The ranges of int8 are those of
the recordings, or of made sounds. On a busy machine only the ratios at one thread say much.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from audiossl.transforms import Normalize, build_frontend
from audiossl.transforms.frontend import config_of
from timing import compare

from audiossl import audio
from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.export import ExportOptions, export
from audiossl.export.graph import sample_waves
from audiossl.export.onnx_file import Session

BATCH = 32


def ways(encoder: AudioEncoder, folder: Path, threads: int, compiled: bool) -> dict[str, Callable]:
    """Every way to compute the embeddings of waves (B, S)."""
    sessions = {f"onnxruntime {name}": Session(folder / file, threads) for name, file in
                (("float", "model.onnx"), ("int8", "model.int8.onnx"))}  # fmt: skip
    found: dict[str, Callable] = {"PyTorch eager": encoder}
    if compiled:
        torch.compiler.reset()
        found["PyTorch compiled"] = torch.compile(encoder, dynamic=False)
    return found | {name: lambda wave, run=run: run(wave.numpy()) for name, run in sessions.items()}


@torch.no_grad()
def table(title: str, encoder: AudioEncoder, folder: Path, waves: torch.Tensor, rounds: int, compiled: bool) -> None:
    """Print the tables of one and of two threads."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        calls = ways(encoder, folder, threads, compiled)
        for n_clips in (len(waves), 1):
            these = {name: partial(call, waves[:n_clips]) for name, call in calls.items()}
            what = f"{title}, {n_clips} clip{'s' if n_clips > 1 else ''} of a second"
            seconds = compare(what, these, "PyTorch eager", rounds, threads, wall=True, device="cpu")
            speeds = ", ".join(f"{name} {n_clips / median:.0f}" for name, median in seconds.items())
            print(f"\nClips a second: {speeds}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frontend", default="mel")
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--clips", help="folder of recordings, for the ranges of int8")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    given = parser.parse_args()
    config = config_of(given.frontend, {})
    if given.clips:
        files = audio.find_audio(given.clips)
        files = files[:: -(-len(files) // 128)]
        waves = [audio.fit_length(audio.load(path, config.sample_rate)[0], config.sample_rate) for path in files]
    else:
        waves = list(sample_waves(config.sample_rate, config.sample_rate, BATCH).numpy())
    batch = torch.stack([torch.from_numpy(wave) for wave in waves])
    torch.manual_seed(0)
    normalize = Normalize.measure(build_frontend(config), [batch])
    encoder = AudioEncoder.build(EncoderConfig(config, BackboneConfig(given.backbone)), normalize).eval()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "exported"
        found = export(encoder, folder, ExportOptions(int8=True, clips=waves))
        print(f"int8 beside float: {found['int8']}")
        name = f"{given.frontend}, {given.backbone}"
        table(name, encoder, folder, batch[:BATCH], given.rounds, not given.no_compile)


if __name__ == "__main__":
    main()
