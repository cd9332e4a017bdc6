"""Embeddings at scale: clips a second beside a plain loop, growth with the number of clips, memory of long sound.

Every figure is of a process of its own. `CLIPS=100000 python benchmarks/bench_featurize.py` for more clips.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
PLAIN_LOOP = """
import sys, time, json, resource
import numpy as np, soundfile, torch, librosa
import audiossl
model = audiossl.load_model(sys.argv[2])
begun, rows = time.monotonic(), []
with torch.inference_mode():
    for path in sorted(__import__("pathlib").Path(sys.argv[1]).rglob("*.wav")):
        wave, rate = soundfile.read(path, dtype="float32")
        wave = librosa.resample(wave, orig_sr=rate, target_sr=model.sample_rate)
        rows.append(model(torch.from_numpy(wave)[None]).numpy())
print(json.dumps({"files": len(rows), "seconds": time.monotonic() - begun}))
"""


def main() -> None:
    """Print the tables."""
    most = int(os.environ.get("CLIPS", "10000"))
    sizes = [n for n in (1000, 10_000, 100_000) if n <= most]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        model = _model(place)
        for n in sizes:
            _clips(place / f"clips{n}", n)
        print("\n### Clips of a second at 22.05 kHz, ResNet-10 on 32 x 48 pictures\n")
        print("| | clips | seconds | clips a second | waiting for sound, % | peak memory, MB |")
        print("|---|---:|---:|---:|---:|---:|")
        loop, memory = _run([sys.executable, "-c", PLAIN_LOOP, str(place / f"clips{sizes[0]}"), str(model)])
        _row("a plain loop over files, librosa resampling", loop, "", memory)
        for processes in (1, 2):
            for n in sizes:
                found, memory = _run(_command(processes, place / f"clips{n}", model, place / f"out{n}-{processes}"))
                _row(
                    f"audiossl featurize, {processes} process{'es' * (processes > 1)}",
                    found,
                    found["wait_percent"],
                    memory,
                )
        _long(place, model)


def _model(place: Path) -> Path:
    import torch
    from audiossl.transforms import MelConfig

    from audiossl.backbones import BackboneConfig
    from audiossl.encoder import AudioEncoder, EncoderConfig

    torch.manual_seed(0)
    frontend = MelConfig(n_bins=32, hop_length=334)
    encoder = AudioEncoder.build(EncoderConfig(frontend, BackboneConfig("resnet10", stages=3)))
    encoder.save_pretrained(place / "encoder")
    return place / "encoder"


def _clips(folder: Path, n: int) -> None:
    """`n` files of a second, a thousand to a folder, from 100 different sounds."""
    generator = np.random.default_rng(0)
    sounds = (3000 * generator.normal(size=(100, 22050))).astype(np.int16)
    for i in range(n):
        (folder / f"{i // 1000:03d}").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{i // 1000:03d}" / f"{i:06d}.wav", sounds[i % 100], 22050)


def _command(processes: int, inputs: Path, model: Path, out: Path, *flags: str) -> list[str]:
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), "-m", "audiossl"]
    module = launch if processes > 1 else ["-m", "audiossl"]
    words = ["featurize", str(inputs), "--model", str(model), "-o", str(out), "--json", "--device", "cpu", *flags]
    return [sys.executable, *module, *words]


def _run(command: list[str]) -> tuple[dict[str, float], float]:
    """What a command printed as JSON, and the peak memory in MB of its largest process."""
    env = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    measured = "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:]); "
    measured += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024); sys.exit(r.returncode)"
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", measured, *command], env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    *_, said, memory = done.stdout.strip().splitlines()
    return {**json.loads(said), "wall_s": time.monotonic() - begun}, float(memory)


def _row(name: str, found: dict[str, float], waiting: float | str, memory: float) -> None:
    waited = waiting if isinstance(waiting, str) else f"{waiting:.0f}"
    rate = found["files"] / found["seconds"]
    print(
        f"| {name} | {found['files']:,} | {found['seconds']:.1f} | {rate:.0f} | {waited} | {memory:.0f} |", flush=True
    )


def _long(place: Path, model: Path) -> None:
    """Peak memory of ten seconds and of ten hours, the same sound over and over."""
    print("\n### One recording, FLAC at 16 kHz\n")
    print("| level | length | rows | seconds | peak memory, MB |\n|---|---:|---:|---:|---:|")
    sound = (3000 * np.random.default_rng(0).normal(size=60 * RATE)).astype(np.int16)
    for length, n_minutes in (("10 s", 1 / 6), ("10 h", 600)):
        path = place / f"{length}.flac"
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
            for _ in range(max(1, round(n_minutes))):
                file.write(sound[: round(min(1, n_minutes) * len(sound))])
        for level in ("clip", "window"):
            found, memory = _run(_command(1, path, model, place / f"{length}-{level}", "--level", level))
            print(f"| {level} | {length} | {found['rows']:,} | {found['seconds']:.0f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
