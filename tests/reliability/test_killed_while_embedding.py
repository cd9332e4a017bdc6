"""A run that is killed while it embeds its clips goes on behind the last batch, and ends with the same numbers."""

from __future__ import annotations

import json
import signal
import time

import numpy as np
import soundfile

N_CLIPS, BATCH, RATE = 1000, 256, 8000


def write_clips(root):
    """Two words, many takes: four batches of embeddings."""
    rng = np.random.default_rng(0)
    for number in range(N_CLIPS):
        path = root / ("low", "high")[number % 2] / f"{number % 20:08x}_nohash_{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(2 * np.pi * (300, 1500)[number % 2] * np.arange(RATE // 2) / RATE)
        soundfile.write(path, 0.2 * tone + 0.1 * rng.standard_normal(len(tone)), RATE)


def rows_of(growing):
    """Rows of features that are written by now."""
    try:
        with growing.open("rb") as file:
            head = file.readline()
        return (growing.stat().st_size - len(head)) // (4 * int(head.split()[2]))
    except (OSError, IndexError):
        return 0


def test_a_run_that_is_killed_while_it_embeds_ends_with_the_same_table(start, words, tmp_path):
    write_clips(tmp_path / "clips")
    recipe = "emp_ssl_speechcommands"
    changes = {"data__root": tmp_path / "clips", "run__epochs": 1, "run__batch_size": 64, "run__checkpoint_minutes": 60}
    probe = {"probe__skip": False, "probe__quick": True, "probe__random_seeds": "[0]", "probe__keep_features": True}

    def begin(out):
        flags = words(recipe, **changes, **probe)
        return start(recipe, out, *flags, "--run.out", out, "--run.resume", alone=True)

    undisturbed = begin(tmp_path / "undisturbed")
    assert undisturbed.ended() == 0, undisturbed.output.read_text()[-3000:]

    out = tmp_path / "killed"
    running, growing, end = begin(out), out / "features.npz.rows", time.monotonic() + 300
    while rows_of(growing) < 2 * BATCH and running.process.is_alive():
        assert time.monotonic() < end, "no batch was embedded"
        time.sleep(0.0005)
    running.process.kill()
    assert running.ended() == -signal.SIGKILL, running.output.read_text()[-3000:]
    before = rows_of(growing)
    assert 2 * BATCH <= before < N_CLIPS, "killed between two batches"

    resumed = begin(out)
    while rows_of(growing) < N_CLIPS and resumed.process.is_alive():
        assert rows_of(growing) >= before or not growing.exists(), "what was there is embedded again"
        time.sleep(0.0005)
    assert resumed.ended() == 0, resumed.output.read_text()[-3000:]
    assert not growing.exists()
    tables, features = (
        [json.loads((folder / "scores.json").read_text()) for folder in (out, undisturbed.out)],
        [np.load(folder / "features.npz") for folder in (out, undisturbed.out)],
    )
    assert tables[0] == tables[1]
    assert sorted(features[0].files) == sorted(features[1].files)
    for name in features[0].files:
        assert np.array_equal(features[0][name], features[1][name]), name
