"""An exported model in onnxruntime, in float and in eight bits, beside PyTorch, eager and compiled.

    python benchmarks/bench_export.py --frontend mel --backbone resnet10 --clips ../shared/data/speech-commands-9w

Clips of a second, random weights: clips a second in batches of 32, latency of one clip. Wall time, medians of rounds
in turns, in one run; the ratio is to eager PyTorch. On a busy machine only the ratios at one thread say much.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from audiossl.transforms import Normalize, build_frontend
from audiossl.transforms.frontend import config_of

from audiossl import audio
from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.export import ExportOptions, export
from audiossl.export.onnx_file import Session

BATCH = 32


def medians(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median wall time of every call in seconds."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            spent[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in spent.items()}


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
def table(encoder: AudioEncoder, folder: Path, waves: torch.Tensor, rounds: int, compiled: bool) -> None:
    """Print the table."""
    print("| threads | | clips a second | ratio | ms for one clip | ratio |\n|---:|---|---:|---:|---:|---:|")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        calls = ways(encoder, folder, threads, compiled)
        many = medians({name: lambda call=call: call(waves) for name, call in calls.items()}, rounds)
        one = medians({name: lambda call=call: call(waves[:1]) for name, call in calls.items()}, 3 * rounds)
        base = many["PyTorch eager"], one["PyTorch eager"]
        for name in calls:
            speed, latency = len(waves) / many[name], 1e3 * one[name]
            print(
                f"| {threads} | {name} | {speed:.0f} | {base[0] / many[name]:.2f} | {latency:.2f} | "
                f"{base[1] / one[name]:.2f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frontend", default="mel")
    parser.add_argument("--backbone", default="resnet10")
    parser.add_argument("--clips", required=True, help="folder of recordings, for the ranges of int8")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    given = parser.parse_args()
    config = config_of(given.frontend, {})
    files = audio.find_audio(given.clips)
    files = files[:: -(-len(files) // 128)]
    waves = [audio.fit_length(audio.load(path, config.sample_rate)[0], config.sample_rate) for path in files]
    batch = torch.stack([torch.from_numpy(wave) for wave in waves])
    torch.manual_seed(0)
    normalize = Normalize.measure(build_frontend(config), [batch])
    encoder = AudioEncoder.build(EncoderConfig(config, BackboneConfig(given.backbone)), normalize).eval()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "exported"
        found = export(encoder, folder, ExportOptions(int8=True, clips=waves))
        print(f"\n### {given.frontend}, {given.backbone}\n\n{found['int8']}\n")
        table(encoder, folder, batch[:BATCH], given.rounds, not given.no_compile)


if __name__ == "__main__":
    main()
