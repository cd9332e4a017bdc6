"""A corpus by one process and by two, killed and gone on with: every recording once, and the same numbers."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import chain

import numpy as np
import pytest
import soundfile
from filelock import FileLock

from audiossl.embed import shards
from audiossl.embed.config import EmbedConfig
from audiossl.embed.corpus import featurize_corpus
from audiossl.embeddings import load_embeddings
from audiossl.errors import UserError
from audiossl.featurize import featurize

RATE = 16000
pytestmark = pytest.mark.filterwarnings("ignore:these recordings")  # of noise, by a network with random weights


@pytest.fixture(scope="module")
def model(resnet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "encoder"
    resnet.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def corpus(tmp_path, noise):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for n in range(30):
        soundfile.write(folder / f"{n:02d}.wav", noise(0.1 + 0.1 * (n % 7), n), RATE)
    (folder / "bad.wav").write_text("no audio")
    soundfile.write(folder / "naïve name\n“quoted”.wav", noise(1.0), RATE)
    return folder


def check_whole(out, corpus, model, level="clip"):
    """Every recording has its rows once, equal to those that one call gives."""
    expected = featurize(corpus, model, level=level)
    found = load_embeddings(out)
    assert sorted(map(str, found.column("file"))) == sorted(expected.column("file"))
    at = {(row["file"], row["start_s"]): n for n, row in enumerate(found.table)}
    order = [at[row["file"], row["start_s"]] for row in expected.table]
    assert np.allclose(found.embeddings[order], expected.embeddings, atol=1e-5, equal_nan=True)
    assert not list(out.glob(".*.part"))


def test_one_process_and_again(corpus, model, tmp_path):
    out, config = tmp_path / "out", EmbedConfig(level="window", window_s=0.2)
    summary = featurize_corpus([str(corpus)], model, out, config, progress=False)
    assert (summary.files, summary.not_read, summary.files_before) == (32, 1, 0)
    found = load_embeddings(out)
    assert len(found) == summary.rows > 60
    assert found.meta["model_sha256"]
    again = featurize_corpus([str(corpus)], model, out, config, progress=False)
    assert (again.files, again.files_before) == (0, 32)
    soundfile.write(corpus / "new.wav", np.zeros(1600), RATE)
    third = featurize_corpus([str(corpus)], model, out, config, progress=False)
    assert (third.files, third.files_before) == (1, 32)
    assert len(load_embeddings(out)) == len(found) + 1


def test_a_recording_that_is_named_twice_is_there_once(corpus, model, tmp_path):
    inputs = [str(corpus / "03.wav"), str(corpus), str(corpus / "*.wav")]
    assert featurize_corpus(inputs, model, tmp_path / "out", EmbedConfig(), progress=False).files == 32
    check_whole(tmp_path / "out", corpus, model)


def test_shards_end_with_a_recording(corpus, model, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_ROWS", 3)
    monkeypatch.setattr(shards, "GROUP_ROWS", 2)
    featurize_corpus([str(corpus)], model, tmp_path / "out", EmbedConfig(level="window", window_s=0.1), progress=False)
    files = [load_embeddings(shard).column("file") for shard in sorted((tmp_path / "out").glob("*.parquet"))]
    assert len(files) > 10
    assert sum(len(set(names)) for names in files) == len(set(chain.from_iterable(files))) == 32


def test_other_settings_models_and_folders_are_refused(corpus, model, resnet, tmp_path):
    out = tmp_path / "out"
    featurize_corpus([str(corpus)], model, out, EmbedConfig(), progress=False)
    with pytest.raises(UserError, match="holds embeddings with another pool and channels: choose another folder"):
        featurize_corpus([str(corpus)], model, out, EmbedConfig(pool="max", channels="each"), progress=False)
    resnet.randomised(3).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="with another model: choose another folder"):
        featurize_corpus([str(corpus)], str(tmp_path / "other"), out, EmbedConfig(), progress=False)
    with pytest.raises(UserError, match="with another input"):
        featurize_corpus([str(corpus / "00.wav")], model, out, EmbedConfig(), progress=False)
    with pytest.raises(UserError, match=r"holds files but no featurize\.json"):
        featurize_corpus([str(corpus)], model, corpus, EmbedConfig(), progress=False)


def test_what_cannot_be_written_or_read_is_said(corpus, model, tmp_path):
    def call(out):
        featurize_corpus([str(corpus)], model, out, EmbedConfig(), progress=False)

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/out cannot be written"):
        call(tmp_path / "file" / "out")
    call(tmp_path / "out")
    with FileLock(tmp_path / "out" / shards.LOCK), pytest.raises(UserError, match="is being written by another call"):
        call(tmp_path / "out")
    (shard,) = (tmp_path / "out").glob("*.parquet")
    shard.write_bytes(b"half a shard")
    with pytest.raises(UserError, match=r"embeddings-001-0000-00000\.parquet cannot be read .*: remove it"):
        call(tmp_path / "out")
    (tmp_path / "out" / shards.SETTINGS).write_text("{")
    with pytest.raises(UserError, match=r"featurize\.json cannot be read"):
        call(tmp_path / "out")


def command(corpus, model, out, processes=1, *flags):
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes), "-m", "audiossl"]
    module = launch if processes > 1 else ["-m", "audiossl"]
    return [sys.executable, *module, "featurize", str(corpus), "--model", model, "-o", str(out), *flags]


def environment():
    return os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


def test_two_processes_share_the_work(corpus, model, tmp_path):
    out = tmp_path / "out"
    done = subprocess.run(
        command(corpus, model, out, 2, "--json", "--level", "window", "--device", "cpu"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    assert (summary["files"], summary["processes"], summary["not_read"]) == (32, 2, 1)
    writers = {shard.name.split("-")[2] for shard in out.glob("*.parquet")}
    assert writers == {"0000", "0001"}
    check_whole(out, corpus, model, "window")


def test_a_mistake_is_said_once_by_two_processes(corpus, model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "diary.txt").write_text("dear diary")
    done = subprocess.run(
        command(corpus, model, tmp_path / "out", 2, "--device", "cpu"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert done.stderr.count("holds files but no featurize.json") == 1


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_at_any_moment_and_given_again(corpus, model, tmp_path, processes):
    """SIGKILL again and again, a little later each time, until it is done: nothing double, nothing missing."""
    script = tmp_path / "slow.py"  # the command, with shards of one row and a pause after each recording
    script.write_text(
        "import sys, time\n"
        "from audiossl.embed import shards\n"
        "shards.SHARD_ROWS = shards.GROUP_ROWS = 1\n"
        "add = shards.ShardWriter.add\n"
        "shards.ShardWriter.add = lambda self, rows: (add(self, rows), time.sleep(0.02))\n"
        "from audiossl.cli import main\n"
        "sys.exit(main())\n"
    )
    out = tmp_path / "out"
    words = command(corpus, model, out, processes, "--device", "cpu", "--batch-size", "2")
    words[words.index("audiossl") - 1 : words.index("audiossl") + 1] = [str(script)]
    kills = 0
    for attempt in range(40):
        child = subprocess.Popen(
            words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        begun, n_before = time.monotonic(), len(list(out.glob("*.parquet")))
        while child.poll() is None and len(list(out.glob("*.parquet"))) < n_before + 1 + 3 * attempt:
            assert time.monotonic() - begun < 120
            time.sleep(0.005)
        if child.poll() is not None:
            break
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        kills += 1
    assert child.returncode == 0
    assert kills >= 2
    check_whole(out, corpus, model)
