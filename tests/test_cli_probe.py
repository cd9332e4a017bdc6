"""`audiossl probe` beyond the plain table: blocks, several k, SGD, labels one by one, kept features, processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import soundfile
import torch

from audiossl.backbones.config import BackboneConfig
from audiossl.cli import main
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.probes import columns

RATE = 16000
LABELS = 3
# A program that is `audiossl`, but for the AdamW probe's 1,500 steps, which would be all that the tests wait for.
QUICK = """\
from functools import partial

from audiossl.cli import main
from audiossl.probes import columns

columns.linear_probe = partial(columns.linear_probe, min_steps=20)
if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an encoder, labelled sounds in `words/`, and a cache of its own."""
    folder = tmp_path_factory.mktemp("probe")
    torch.manual_seed(0)
    encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("swin_micro")))
    encoder.save_pretrained(folder / "encoder")
    rng = np.random.default_rng(0)
    for label in range(LABELS):
        (folder / "words" / f"word{label}").mkdir(parents=True)
        for take in range(24):
            hz = 300 * (label + 1) * (1 + take / 100)
            wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(RATE // 2) / RATE) + 0.02 * rng.normal(size=RATE // 2)
            soundfile.write(folder / "words" / f"word{label}" / f"{take}.wav", wave, RATE)
    return folder


@pytest.fixture
def arguments(place, monkeypatch):
    monkeypatch.setattr(columns, "linear_probe", partial(columns.linear_probe, min_steps=20))
    monkeypatch.setenv("AUDIOSSL_CACHE", str(place / "cache"))
    where = ["--encoder", place / "encoder", "--data.root", place / "words"]
    return ["probe", *map(str, where), "--quick", "--random_seeds", "0", "--device", "cpu"]


def run(capsys, *words):
    """Exit code, stdout and stderr."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    return (code, *capsys.readouterr())


def test_esvits_evaluation_in_one_call(capsys, arguments, tmp_path):
    out_file = tmp_path / "scores.json"
    flags = ["--last_blocks", "4", "--k", "10,200", "--linear_sgd", "--sgd.epochs", "5", "--per_class", "--one_vs_rest"]
    code, out, _ = run(capsys, *arguments, *flags, "--json", out_file)
    assert code == 0
    content = json.loads(out_file.read_text())
    assert content["columns"] == ["kNN 10", "kNN 200", "linear", "linear SGD", "one-vs-rest"]
    assert content["rows"][0]["dim"] == content["rows"][1]["dim"] == 128 + 128 + 256 + 256
    assert content["about"]["last_blocks"] == 4
    assert [score["label"] for score in content["per_class"]["linear SGD"]] == ["word0", "word1", "word2"]
    assert "Features of the encoder and of random weights: last 4 blocks, pooled." in out
    assert "training clips vote." in out
    assert "| word2 |" in out


def test_features_are_kept_and_others_are_refused(capsys, arguments, tmp_path, monkeypatch):
    kept = tmp_path / "kept.npz"
    first = run(capsys, *arguments, "--features", kept)
    assert first[0] == 0

    def fails(*args, **kwargs):
        raise AssertionError("the features are there")

    with monkeypatch.context() as no_network:
        no_network.setattr(AudioEncoder, "forward", fails)
        assert run(capsys, *arguments, "--features", kept)[:2] == first[:2]
    code, _, err = run(capsys, *arguments, "--features", kept, "--last_blocks", "2")
    assert (code, err.count("\n")) == (2, 1)
    assert f"--features {kept} holds features of another encoder" in err
    code, _, err = run(capsys, *arguments, "--features", kept, "--data.limit", "60")
    assert code == 2
    assert f"{kept} holds features of other clips" in err


def test_more_seeds_are_added_to_the_kept_features(capsys, arguments, tmp_path):
    kept = tmp_path / "kept.npz"
    for seeds in ("0", "0,1"):
        assert run(capsys, *arguments, "--features", kept, "--random_seeds", seeds)[0] == 0
    with np.load(kept) as file:
        assert {"encoder", "random weights, seed 0", "random weights, seed 1"} <= set(file.files)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--last_blocks", "9"], "last_blocks is 9, and the network has 8 blocks"),
        (["--last_blocks", "-1"], "--last_blocks is -1"),
        (["--avgpool_patchtokens"], "--avgpool_patchtokens belongs to --last_blocks"),
        (["--last_blocks", "2", "--avgpool_patchtokens"], "avgpool_patchtokens is for a ViT"),
        (["--k", "0,20"], "--k is 0,20"),
        (["--n_patches", "-1"], "--n_patches is -1"),
        (["--n_patches", "8"], "this encoder sees whole pictures"),
        (["--sgd.epochs", "0"], "--sgd.epochs is 0"),
        (["--features", "kept.txt"], "--features is kept.txt"),
        (["--features", "no/folder/kept.npz"], "there is no folder no/folder"),
    ],
)
def test_wrong_flags_are_said(capsys, arguments, flags, words):
    code, out, err = run(capsys, *arguments, *flags)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


@pytest.mark.distributed
def test_two_processes_give_what_one_gives(capsys, arguments, tmp_path):
    # 72 clips in batches of 16 make five: in the last round one process has none of its own.
    flags = [*arguments[:-2], "--batch_size", "16", "--last_blocks", "2", "--linear_sgd", "--sgd.epochs", "5"]
    program = tmp_path / "quick.py"
    program.write_text(QUICK)
    files = [["--json", tmp_path / f"{n}.json", "--features", tmp_path / f"{n}.npz"] for n in ("one", "two")]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the launched ones have: sums in another order have other last digits
    code, text, _ = run(capsys, *flags, *files[0])
    torch.set_num_threads(threads)
    assert code == 0
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    command = [sys.executable, *launcher, program, *flags, *files[1]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == text
    assert text.count("| encoder ") == 1
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as other:
        assert one.files == other.files
        assert all(np.array_equal(one[name], other[name]) for name in one.files)
