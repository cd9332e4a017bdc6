"""The program beside an exported model, where neither torch nor audiossl can be imported."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

BLOCKED = """
import sys
for name in ("torch", "audiossl", "timm", "onnx"):
    sys.modules[name] = None  # importing it fails
sys.argv = sys.argv[1:]
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def listen(folder, *flags, data=None, code=0):
    command = [sys.executable, "-c", BLOCKED, str(folder / "listen.py"), *map(str, flags)]
    done = subprocess.run(command, input=data, capture_output=True, timeout=120, check=False, cwd=os.sep)
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode() if code == 0 else done.stderr.decode()


@pytest.fixture
def wave():
    generator = torch.Generator().manual_seed(3)
    return (0.2 * torch.randn(8000 * 3 + 900, generator=generator)).clamp(-1, 1).numpy()


@torch.no_grad()
def test_a_long_recording_is_named_window_by_window(exported, small_classifier, wave, tmp_path):
    soundfile.write(tmp_path / "long.wav", wave, 8000, subtype="FLOAT")
    rows = [json.loads(row) for row in listen(exported[0], tmp_path / "long.wav", "--json").splitlines()]
    # Windows of half a second, and the rest of 0.11 s in the middle of zeros, as `audiossl predict` has them.
    padded = np.concatenate([wave[:24000], np.pad(wave[24000:], 1550)])
    windows = torch.from_numpy(padded).unflatten(0, (7, 4000))
    probabilities = small_classifier.probabilities(windows)
    assert [row["start_s"] for row in rows] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert [row["label"] for row in rows] == [small_classifier.labels[i] for i in probabilities.argmax(1)]
    np.testing.assert_allclose([row["score"] for row in rows], probabilities.amax(1), atol=2e-5)
    found = small_classifier.predict(tmp_path / "long.wav", level="window")
    assert [row["label"] for row in rows] == [row["label"] for row in found.table]


def test_windows_may_overlap_and_be_unknown(exported, wave, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.stack([wave, wave], 1), 8000)
    out = listen(exported[0], tmp_path / "long.wav", "--hop-s", 0.25, "--threshold", 1.1, "-o", tmp_path / "found.npz")
    assert out.count("unknown") == len(out.splitlines()) == 12
    kept = np.load(tmp_path / "found.npz")
    assert kept["outputs"].shape == (12, 3)
    np.testing.assert_allclose(kept["start_s"], 0.25 * np.arange(12))


def test_windows_may_lie_apart(exported, wave, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.tile(wave, 4), 8000)
    flags = [tmp_path / "long.wav", "--json"]
    every = {row["start_s"]: row for row in map(json.loads, listen(exported[0], *flags).splitlines())}
    apart = [json.loads(row) for row in listen(exported[0], *flags, "--hop-s", 2.5).splitlines()]
    assert [row["start_s"] for row in apart] == [0.0, 2.5, 5.0, 7.5, 10.0]
    for row in apart:
        assert row["label"] == every[row["start_s"]]["label"]
        assert row["score"] == pytest.approx(every[row["start_s"]]["score"], abs=1e-5)


def test_a_stream_gives_what_a_file_gives(exported, wave, tmp_path):
    pcm = np.round(wave * 32767).astype("<i2")
    soundfile.write(tmp_path / "a.wav", pcm, 8000)
    from_file = listen(exported[0], tmp_path / "a.wav")
    assert listen(exported[0], "-", data=pcm.tobytes()) == from_file


def test_another_rate_is_resampled(exported, wave, tmp_path):
    soundfile.write(tmp_path / "a.flac", np.repeat(wave, 2), 16000)
    rows = listen(exported[0], tmp_path / "a.flac", "--int8", "--threads", 1).splitlines()
    assert len(rows) == 7


def test_several_labels_or_none(exported, wave, tmp_path):
    folder = tmp_path / "several"
    shutil.copytree(exported[0], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "multi_label": True, "unknown_below": 0.0}))
    soundfile.write(tmp_path / "a.wav", wave[:4000], 8000)
    (row,) = [json.loads(text) for text in listen(folder, tmp_path / "a.wav", "--json").splitlines()]
    assert set(filter(None, row["label"].split("; "))) <= {"no", "up", "yes"}
    assert ("; " in row["label"] or bool(row["label"])) == (row["score"] >= 0.5)
    assert "(none)" in listen(folder, tmp_path / "a.wav", "--threshold", 1.1)


def test_what_is_not_there_is_said(exported, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    assert "text.wav cannot be read" in listen(exported[0], tmp_path / "text.wav", code=1)
    assert "nowhere.wav is not there" in listen(exported[0], tmp_path / "nowhere.wav", code=1)
    assert "--hop-s is 0.0" in listen(exported[0], "-", "--hop-s", 0, code=1)
