"""Use the exported model of this folder on a long recording or a live stream, window by window, without torch.

    python listen.py recording.flac
    python listen.py recording.flac --hop-s 0.25 --json
    python listen.py recording.flac -o embeddings.npz
    arecord -t raw -f S16_LE -c 1 -r 16000 | python listen.py - --rate 16000

Needs numpy and onnxruntime, soundfile for files and soxr where the rate is another than the model's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
BLOCK_S = 0.25


class Listener:
    """The model of an exported folder: waves (B, S) at `sample_rate` to scores from 0 to 1, or to embeddings."""

    def __init__(self, folder: Path = HERE, int8: bool = False, threads: int = 0):
        import onnxruntime

        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.sample_rate: int = self.config["sample_rate"]
        self.n_samples = round(self.config["clip_s"] * self.sample_rate)
        self.labels: list[str] = self.config["labels"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        path = folder / ("model.int8.onnx" if int8 else "model.onnx")
        if not path.is_file():
            raise SystemExit(f"{path} is not there: export with --int8.")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        """Scores (B, K), or embeddings (B, D) where the model has no labels."""
        found = self.session.run(None, {"wave": np.ascontiguousarray(waves, dtype=np.float32)})[0]
        if not self.labels:
            return found
        if self.config["multi_label"]:
            return 1.0 / (1.0 + np.exp(-found))
        powers = np.exp(found - found.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def windows(self, blocks: Iterator[np.ndarray], hop: int) -> Iterator[tuple[float, np.ndarray]]:
        """Start in seconds and output of each window of a sound that comes in blocks (S,).

        What is left at the end is a window too, in the middle of zeros, if more than a tenth of one is new.
        """
        waiting, start, seen, gap = np.zeros(0, dtype=np.float32), 0, 0, 0
        for block in blocks:
            waiting = np.concatenate([waiting, block[gap:]])
            gap = max(0, gap - len(block))  # to the next window, where they do not touch
            while len(waiting) >= self.n_samples:
                yield start / self.sample_rate, self(waiting[None, : self.n_samples])[0]
                gap = max(0, hop - len(waiting))
                waiting, start, seen = waiting[hop:], start + hop, max(self.n_samples - hop, 0)
        if len(waiting) - seen > self.n_samples // 10:
            missing = self.n_samples - len(waiting)
            window = np.pad(waiting, (missing // 2, missing - missing // 2))
            yield start / self.sample_rate, self(window[None])[0]


def blocks_of_file(path: str, sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks (S,) of a recording of any rate and number of channels, at `sample_rate`."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            size = max(1, round(BLOCK_S * file.samplerate))
            mono = (block.mean(axis=1) for block in file.blocks(size, dtype="float32", always_2d=True))
            yield from resampled(mono, file.samplerate, sample_rate)
    except soundfile.LibsndfileError as error:
        raise SystemExit(f"{path} cannot be read: {error}") from None


def blocks_of_stream(stream: Any, rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks (S,) of raw mono 16-bit PCM, little endian, at `rate`, as they come."""

    def read() -> Iterator[np.ndarray]:
        left = b""
        while data := stream.read1(2 * round(BLOCK_S * rate)):
            data = left + data
            left = data[len(data) // 2 * 2 :]
            yield np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2").astype(np.float32) / 32768.0

    return resampled(read(), rate, sample_rate)


def resampled(blocks: Iterator[np.ndarray], rate: int, sample_rate: int) -> Iterator[np.ndarray]:
    """Blocks at `sample_rate` of blocks at `rate`."""
    if rate == sample_rate:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sound", help="a recording, or - for raw 16-bit mono PCM on stdin")
    parser.add_argument("--rate", type=int, metavar="HZ", help="of the PCM; default: the model's")
    parser.add_argument("--hop-s", type=float, metavar="S", help="distance of the windows; default: side by side")
    parser.add_argument("--threshold", type=float, metavar="P", help="'unknown' below this score; default: the model's")
    parser.add_argument("--int8", action="store_true", help="use model.int8.onnx")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="default: one a core")
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each window")
    parser.add_argument("-o", "--output", metavar="NPZ", help="keep starts in seconds and outputs in this file")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print a line for each window."""
    given = arguments(argv)
    model = Listener(int8=given.int8, threads=given.threads)
    hop = model.n_samples if given.hop_s is None else round(given.hop_s * model.sample_rate)
    if hop < 1:
        raise SystemExit(f"--hop-s is {given.hop_s}: give a time above 0.")
    if given.sound == "-":
        blocks = blocks_of_stream(sys.stdin.buffer, given.rate or model.sample_rate, model.sample_rate)
    elif Path(given.sound).is_file():
        blocks = blocks_of_file(given.sound, model.sample_rate)
    else:
        raise SystemExit(f"{given.sound} is not there: give a recording, or - for a stream.")
    threshold = model.config["unknown_below"] if given.threshold is None else given.threshold
    starts, outputs = [], []
    for start_s, output in model.windows(blocks, hop):
        print(line(model, start_s, output, threshold, given.json), flush=True)
        if given.output:
            starts.append(start_s)
            outputs.append(output)
    if given.output:
        np.savez(given.output, start_s=np.array(starts), outputs=np.array(outputs), labels=np.array(model.labels))
    return 0


def line(model: Listener, start_s: float, output: np.ndarray, threshold: float, as_json: bool) -> str:
    """What is printed of a window."""
    end_s = start_s + model.n_samples / model.sample_rate
    span = {"start_s": round(start_s, 3), "end_s": round(end_s, 3)}
    if not model.labels:
        rounded = [round(float(value), 5) for value in output]
        return json.dumps({**span, "embedding": rounded}) if as_json else f"{start_s:.2f}-{end_s:.2f} s"
    best = int(output.argmax())
    label = model.labels[best] if output[best] >= threshold else "unknown"
    if model.config["multi_label"]:  # all that are there, or none
        there = [name for name, score in zip(model.labels, output, strict=True) if score >= (threshold or 0.5)]
        label = "; ".join(there)
    if as_json:
        return json.dumps({**span, "label": label, "score": round(float(output[best]), 5)})
    return f"{start_s:.2f}-{end_s:.2f} s  {label or '(none)'}  {output[best]:.3f}"


if __name__ == "__main__":
    sys.exit(main())
