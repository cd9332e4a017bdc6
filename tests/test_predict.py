"""Labels of recordings, by the call and by the command."""

import csv
import json

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from audiossl.backbones import BackboneConfig
from audiossl.classifier import Classifier
from audiossl.cli import main
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.heads import ClassifierHead
from audiossl.predict import predict

RATE = 16000


class Loudness(nn.Module):
    """Scores (B, 2): how far the root mean square of a wave lies below and above 0.1, on a scale of its own."""

    def forward(self, wave):
        level = 100 * (wave.square().mean(1, keepdim=True).sqrt() - 0.1)
        return torch.cat([-level, level], 1)


@pytest.fixture
def loud():
    """A classifier that knows the answer: "quiet" below 0.1, "loud" above."""
    encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10", stages=1)))
    classifier = Classifier(encoder, ClassifierHead(encoder.dim, 2), ["quiet", "loud"]).eval()
    classifier.forward = Loudness().forward
    return classifier


@pytest.fixture
def sounds(tmp_path):
    noise = np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    noise /= np.sqrt(np.mean(noise**2))
    soundfile.write(tmp_path / "quiet.wav", 0.05 * noise[:RATE], RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "loud.wav", 0.2 * noise[:RATE], RATE, subtype="FLOAT")
    level = np.repeat([0.05, 0.2, 0.2, 0.05], RATE)
    soundfile.write(tmp_path / "long.wav", level * noise, RATE, subtype="FLOAT")
    (tmp_path / "broken.wav").write_text("no sound")
    return tmp_path


def test_clips_windows_and_what_cannot_be_read(loud, sounds):
    found = predict([sounds / name for name in ("quiet.wav", "broken.wav", "loud.wav")], loud)
    assert [row["label"] for row in found.table] == ["quiet", None, "loud"]
    assert found.table[1]["status"] == "error"
    assert np.isnan(found.probabilities[1]).all()
    assert found.table[2]["probability"] == pytest.approx(1 / (1 + np.exp(-20)), abs=1e-3)
    windows = predict(sounds / "long.wav", loud, level="window")
    assert [(row["start_s"], row["label"]) for row in windows.table] == [
        (0.0, "quiet"),
        (1.0, "loud"),
        (2.0, "loud"),
        (3.0, "quiet"),
    ]
    assert len(predict(sounds / "long.wav", loud, level="window", hop_s=0.5).table) == 7
    one = predict(sounds / "long.wav", loud)
    np.testing.assert_allclose(one.probabilities[0], windows.probabilities.mean(0), atol=1e-6)
    assert "long.wav  0.00-1.00 s  quiet" in str(windows)
    assert "broken.wav  not read" in str(found)


def test_arrays_and_the_methods_of_a_classifier(loud):
    wave = 0.2 * np.random.default_rng(1).standard_normal((2, RATE)).astype(np.float32)
    assert [row["label"] for row in loud.predict(wave, RATE).table] == ["loud", "loud"]
    with pytest.raises(UserError, match="sample_rate"):
        loud.predict(wave)


def test_strangers_are_unknown(loud, sounds):
    noise = np.random.default_rng(0).standard_normal(RATE)
    between = (0.1 * noise / np.sqrt(np.mean(noise**2))).astype(np.float32)
    assert predict(between, loud, RATE, unknown_below=0.9).table[0]["label"] == "unknown"
    assert predict(sounds / "loud.wav", loud, unknown_below=0.9).table[0]["label"] == "loud"
    loud.unknown_below = 0.9
    assert predict(between, loud, RATE).table[0]["label"] == "unknown"
    assert predict(between, loud, RATE, unknown_below=0.0).table[0]["label"] in ("quiet", "loud")


def test_several_labels_or_none(loud, sounds):
    loud.multi_label = True
    loud.forward = lambda wave: torch.cat([Loudness().forward(wave)[:, 1:]] * 2, 1)
    table = predict([sounds / "loud.wav", sounds / "quiet.wav"], loud).table
    assert [row["label"] for row in table] == ["quiet; loud", ""]


def test_mistakes_are_one_sentence(loud, sounds):
    with pytest.raises(UserError, match="level is 'frame'"):
        predict(sounds / "loud.wav", loud, level="frame")
    with pytest.raises(UserError, match="unknown_below is 1"):
        predict(sounds / "loud.wav", loud, unknown_below=1.0)
    with pytest.raises(UserError, match=r"broken\.wav"):
        predict(sounds / "broken.wav", loud, errors="raise")


@pytest.fixture
def folder(tmp_path):
    """The folder of a classifier with random weights."""
    encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10", stages=1)))
    Classifier(encoder, ClassifierHead(encoder.dim, 2), ["quiet", "loud"]).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_command_prints_lines_json_and_a_table(folder, sounds, capsys):
    model = ["--model", str(folder)]
    assert main(["predict", str(sounds / "loud.wav"), *model]) == 0
    assert capsys.readouterr().out.startswith(f"{sounds / 'loud.wav'}  0.00-1.00 s  ")
    assert main(["predict", str(sounds / "long.wav"), "--level", "window", "--json", "--top", "2", *model]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4
    assert sum(rows[0]["likeliest"].values()) == pytest.approx(1, abs=1e-5)
    out = sounds / "found.csv"
    names = [str(sounds / "loud.wav"), str(sounds / "broken.wav")]
    assert main(["predict", *names, "-o", str(out), *model]) == 0
    assert "1 rows; 1 could not be read" in capsys.readouterr().out
    first, second = csv.DictReader(out.open())
    assert float(first["quiet"]) + float(first["loud"]) == pytest.approx(1, abs=1e-5)
    assert (second["status"], second["label"], second["loud"]) == ("error", "", "")


def test_the_command_s_mistakes(folder, sounds, capsys):
    def refused(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(["predict", *map(str, arguments)])
        assert stopped.value.code == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        return error

    assert "-o found.txt must end in .csv" in refused(sounds / "loud.wav", "--model", folder, "-o", "found.txt")
    assert "--top is 0" in refused(sounds / "loud.wav", "--model", folder, "--top", 0)
    assert "nowhere does not exist" in refused(sounds / "loud.wav", "--model", "nowhere")
    assert "none.wav does not exist" in refused(sounds / "none.wav", "--model", folder)
    (sounds / "there.csv").write_text("mine")
    assert "there.csv" in refused(sounds / "loud.wav", "--model", folder, "-o", sounds / "there.csv")
    assert (sounds / "there.csv").read_text() == "mine"
    assert main(["predict", str(sounds / "broken.wav"), "--model", str(folder)]) == 1
    assert "none of the recordings could be read" in capsys.readouterr().err
