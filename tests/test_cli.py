from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from audiossl import __version__, doctor
from audiossl.cli import main

RATE = 16000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from audiossl.backbones.config import BackboneConfig
    from audiossl.encoder import AudioEncoder, EncoderConfig

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run") / "encoder"
    AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10"))).save_pretrained(folder)
    return str(folder)


def tone(hz, duration_s=0.3, rate=RATE, seed=0):
    time = np.arange(round(duration_s * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time))
    return (0.3 * np.sin(2 * np.pi * hz * time) + 0.02 * noise).astype(np.float32)


@pytest.fixture
def sounds(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for i, hz in enumerate((300, 1000)):
        soundfile.write(folder / f"{i}.wav", tone(hz), RATE)
    return folder


def run(capsys, *arguments):
    """Exit code, stdout and stderr of one command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


def assert_one_sentence(result, *words):
    code, out, err = result
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("featurize:")]  # the progress bar
    assert len(lines) == 1, err
    assert lines[0].startswith("audiossl: error: ")
    assert "Traceback" not in err
    for word in words:
        assert str(word) in lines[0]


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
def test_featurize_writes_a_file(capsys, sounds, model, tmp_path, suffix):
    out_file = tmp_path / f"out.{suffix}"
    code, out, _ = run(capsys, "featurize", sounds, "--model", model, "-o", out_file)
    assert code == 0
    assert out.strip() == f"{out_file}: 2 embeddings of 512 numbers"
    assert out_file.stat().st_size > 1000


def test_featurize_takes_files_patterns_and_folders_together(capsys, sounds, model, tmp_path):
    out_file = tmp_path / "out.npz"
    inputs = [sounds / "1.wav", sounds / "*.wav", sounds]
    assert run(capsys, "featurize", *inputs, "--model", model, "-o", out_file, "--quiet")[:2] == (0, "")
    with np.load(out_file) as file:
        assert [name[-5:] for name in file["files"]] == ["1.wav", "0.wav", "1.wav", "0.wav", "1.wav"]
        assert np.abs(file["embeddings"][0] - file["embeddings"][2]).max() < 1e-5


def test_one_bad_file_among_good_ones_is_named_and_the_rest_is_written(capsys, sounds, model, tmp_path):
    (sounds / "2_empty.wav").write_bytes(b"")
    out_file = tmp_path / "out.npz"
    code, out, err = run(capsys, "featurize", sounds, "--model", model, "-o", out_file)
    assert code == 0
    assert "2 embeddings of 512 numbers; 1 files could not be read" in out
    assert "2_empty.wav is empty" in err
    with np.load(out_file) as file:
        assert file["status"].tolist() == ["ok", "ok", "error"]


def test_an_existing_output_is_kept_unless_told(capsys, sounds, model, tmp_path):
    out_file = tmp_path / "out.npz"
    out_file.write_bytes(b"dear old numbers")
    arguments = ["featurize", sounds, "--model", model, "-o", out_file]
    assert_one_sentence(run(capsys, *arguments), out_file, "--overwrite")
    assert out_file.read_bytes() == b"dear old numbers"
    assert run(capsys, *arguments, "--overwrite")[0] == 0
    assert np.load(out_file)["embeddings"].shape == (2, 512)


def damaged(folder, name):
    path = folder / name
    if name == "empty.wav":
        path.write_bytes(b"")
    elif name == "text.wav":
        path.write_text("not audio, whatever the name says")
    elif name == "nothing.wav":
        soundfile.write(path, np.zeros(0), RATE)
    elif name == "nan.wav":
        soundfile.write(path, np.full(100, np.nan, np.float32), RATE, subtype="FLOAT")
    elif name == "empty_folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    "name", ["empty.wav", "text.wav", "nothing.wav", "nan.wav", "missing", "empty_folder", "no*.wav"]
)
def test_hostile_inputs_give_one_sentence_and_no_file(capsys, model, tmp_path, name):
    path, out_file = damaged(tmp_path, name), tmp_path / "out.csv"
    assert_one_sentence(run(capsys, "featurize", path, "--model", model, "-o", out_file), path)
    assert not out_file.exists()
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))


def test_a_bad_file_can_end_the_command(capsys, sounds, model, tmp_path):
    bad = damaged(sounds, "text.wav")
    out_file = tmp_path / "out.csv"
    arguments = ["featurize", sounds, "--model", model, "-o", out_file, "--errors", "raise"]
    assert_one_sentence(run(capsys, *arguments), bad)
    assert not out_file.exists()


def test_a_typing_mistake_among_good_inputs_is_no_bad_file(capsys, sounds, model, tmp_path):
    arguments = ["featurize", sounds, sounds / "typo.wav", "--model", model, "-o", tmp_path / "out.csv"]
    assert_one_sentence(run(capsys, *arguments), "typo.wav does not exist")


@pytest.mark.parametrize("kind", ["missing", "empty", "run", "damaged"])
def test_wrong_models(capsys, sounds, model, tmp_path, kind):
    folder = tmp_path / "model"
    if kind != "missing":
        folder.mkdir()
    if kind == "damaged":
        (folder / "config.json").write_text("{}")
    if kind == "run":
        folder = folder.parent / "elsewhere"
    out_file = tmp_path / "out.npz"
    assert_one_sentence(run(capsys, "featurize", sounds, "--model", folder, "-o", out_file), folder)
    assert not out_file.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["featurise"], ["featurise", "featurize"]),
        (["--verson"], ["--help"]),
        (["featurize", "a.wav", "--model", "m", "-o", "o.npz", "--overwite"], ["--overwite", "--overwrite"]),
        (["featurize", "a.wav"], ["-o/--output"]),
        (["featurize", "--model", "m", "-o", "o.npz"], ["INPUT"]),
        (["featurize", "a.wav", "--model", "m", "-o", "o.txt"], ["o.txt", ".npz, .csv, .parquet"]),
        (["featurize", "a.wav", "--model", "m", "-o", "no/folder/o.npz"], ["no/folder"]),
        (
            ["featurize", "a.wav", "--model", "m", "-o", "o.npz", "--batch-size", "many"],
            ["--batch-size", "many"],
        ),
        (["featurize", "a.wav", "--model", "m", "-o", "o.npz", "--level", "file"], ["--level", "file"]),
        (["download", "speech_commands"], ["--root"]),
        (["download", "librispeech", "--root", "x"], ["librispeech", "speech_commands"]),
        (["download", "speech_commands", "--root", "x", "--version", "v3"], ["v3"]),
        (["probe"], ["--encoder"]),
        (["probe", "--encodr", "x"], ["--encodr", "--encoder"]),
        (["probe", "--encoder", "no/such"], ["no/such"]),
        (["probe", "--encoder", "x", "--data.rot", "y"], ["--data.rot", "--data.root"]),
        (["probe", "--encoder", "x", "--json", "no/folder/o.json"], ["no/folder"]),
        (["probe", "--encoder", "x", "--batch_size", "0"], ["--batch_size"]),
    ],
)
def test_wrong_flags(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert_one_sentence(run(capsys, *arguments), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def words(tmp_path):
    """A labelled folder: two sounds that differ in pitch, with 40 clips each."""
    folder = tmp_path / "words"
    for label, hz in (("high", 2000), ("low", 300)):
        (folder / label).mkdir(parents=True)
        for i in range(40):
            soundfile.write(folder / label / f"{i}.wav", tone(hz * (1 + i / 200), seed=i), RATE)
    return folder


def test_probe_prints_and_writes_the_table(capsys, words, model, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path / "cache"))
    out_file = tmp_path / "scores.json"
    arguments = ["probe", "--encoder", model, "--data.root", words, "--json", out_file, "--random_seeds", "0"]
    code, out, _ = run(capsys, *arguments, "--quick")
    assert code == 0
    assert "| encoder " in out
    assert "same network, random weights" in out
    content = json.loads(out_file.read_text())
    assert content["encoder"] == model
    assert content["audiossl"] == __version__
    assert content["columns"] == ["kNN", "linear"]
    scores = {row["name"]: row["scores"]["kNN"]["mean"] for row in content["rows"]}
    assert scores["log-mel mean + std"] == 100
    assert_one_sentence(run(capsys, *arguments), out_file, "--overwrite")


def test_probe_without_labels_is_said(capsys, sounds, model, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path / "cache"))
    code, _, err = run(capsys, "probe", "--encoder", model, "--data.root", sounds, "--quick")
    assert code == 2
    assert "label" in err.splitlines()[-1]


def test_download_leaves_a_folder_of_other_things_alone(capsys, sounds):
    before = sorted(sounds.iterdir())
    assert_one_sentence(run(capsys, "download", "speech_commands", "--root", sounds), sounds)
    assert sorted(sounds.iterdir()) == before


def test_download_fetches_what_was_asked_for(capsys, tmp_path, monkeypatch):
    from audiossl.data import download

    asked = []
    monkeypatch.setattr(download, "fetch", lambda archive, folder, progress: asked.append((archive, folder, progress)))
    root = tmp_path / "sc"
    code, out, _ = run(capsys, "download", "speech_commands", "--version", "v0.01", "--root", root, "--quiet")
    assert code == 0
    assert asked == [(download.SPEECH_COMMANDS["v0.01"], root, False)]
    assert f"--data.root {root}" in out
    _, out, _ = run(capsys, "download", "speech_commands", "--root", root, "--json")
    assert json.loads(out) == {"name": "speech_commands", "version": "v0.02", "root": str(root), "was_there": False}


@pytest.mark.parametrize(
    "command",
    [
        *([], ["featurize"], ["predict"], ["export"], ["search"], ["probe"], ["inspect"]),
        *(["download"], ["cleanup"], ["models"], ["doctor"], ["completion"]),
    ],
)
def test_every_help_is_there_and_names_what_to_type(capsys, command):
    code, out, err = run(capsys, *command, "--help")
    assert (code, err) == (0, "")
    assert " ".join(["audiossl", *command]) in out
    assert "example" in out
    assert max(len(line) for line in out.splitlines()) <= 120


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, f"audiossl {__version__}\n")


def test_help_and_mistakes_come_without_torch():
    code = (
        "import sys\n"
        "from audiossl.cli import main\n"
        "for line in ('--help', 'featurize --help', 'search --help', 'probe --help', 'probe --encodr x', 'models'):\n"
        "    try: main(line.split())\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'accelerate', 'sklearn', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_stopped_command_ends_without_traceback(capsys, monkeypatch):
    from audiossl import cli_probe

    def stopped(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_probe, "probe", stopped)
    assert run(capsys, "probe", "--encoder", "x") == (130, "", "audiossl: stopped.\n")


def test_models_says_what_there_is(capsys):
    code, out, _ = run(capsys, "models")
    assert code == 0
    assert out.startswith("words (default): ")
    assert "words-tiny: " in out


def test_doctor_reports_every_topic(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path / "cache"))
    code, out, _ = run(capsys, "doctor")
    for topic in ("audiossl", "packages", "torch", "CPU", "GPU", "cache", "audio", "extra"):
        assert any(line[5:].strip().startswith(topic) for line in out.splitlines()), topic
    assert str(tmp_path / "cache") in out
    assert code == ("FIX" in out)
    assert not (tmp_path / "cache").exists()  # it looks, and leaves nothing behind


def test_doctor_and_models_as_json(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path))
    _, out, _ = run(capsys, "doctor", "--json")
    findings = [json.loads(line) for line in out.splitlines()]
    assert {"audiossl", "CPU", "audio"} <= {finding["topic"] for finding in findings}
    assert {finding["state"] for finding in findings} <= {"ok", "note", "fix"}
    code, out, _ = run(capsys, "models", "--json")
    assert code == 0
    assert all(json.loads(line)["dim"] > 0 for line in out.splitlines())


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_flags(capsys, shell):
    code, out, _ = run(capsys, "completion", shell)
    assert code == 0
    for word in ("featurize", "search", "repeats", "hop-s"):
        assert word in out


def test_featurize_into_a_folder_and_as_json(capsys, sounds, model, tmp_path):
    out = tmp_path / "shards"
    code, said, _ = run(capsys, "featurize", sounds, "--model", model, "-o", out, "--json", "--level", "window")
    assert code == 0
    assert json.loads(said)["files"] == 2
    assert len(list(out.glob("embeddings-*.parquet"))) == 1
    code, said, _ = run(capsys, "featurize", sounds, "--model", model, "-o", out, "--level", "window")
    assert code == 0
    assert "2 were there before" in said
    assert_one_sentence(run(capsys, "featurize", sounds, "--model", model, "-o", out), out, "another level")


def test_doctor_survives_what_is_broken(capsys, monkeypatch):
    def broken():
        raise RuntimeError("libcuda says no")
        yield

    monkeypatch.setattr(doctor, "_gpu", broken)
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert "libcuda says no" in out
    assert "extra" in out  # the checks after it


def test_doctor_says_how_to_mend_a_cache_folder(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert "set AUDIOSSL_CACHE" in out


def test_doctor_warns_of_little_space(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2e9))
    _, out, _ = run(capsys, "doctor")
    assert "2.0 GB free: that is little" in out
