"""The classifier and its folder: what it gives, what comes back from the disk, and folders that are something else."""

import json

import pytest
import torch

import audiossl
from audiossl.backbones import BackboneConfig
from audiossl.classifier import Classifier
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.heads import ClassifierHead


@pytest.fixture
def words():
    torch.manual_seed(0)
    encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10", stages=2)))
    head = ClassifierHead(encoder.dim, 3)
    return Classifier(encoder, head, ["yes", "no", "ナマケモノ"], unknown_below=0.25).eval()


def test_the_head_is_a_linear_layer_behind_dropout():
    head = ClassifierHead(4, 3, dropout=0.5)
    x = torch.randn(5, 4)
    assert not torch.equal(head(x), head(x))
    head.eval()
    by_hand = x @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head(x), by_hand)


def test_scores_and_probabilities(words):
    wave = torch.randn(4, 16000, generator=torch.Generator().manual_seed(1)) * 0.1
    scores = words(wave)
    torch.testing.assert_close(scores, words.head(words.encoder(wave)))
    torch.testing.assert_close(words.probabilities(wave), scores.exp() / scores.exp().sum(1, keepdim=True))
    words.multi_label = True
    torch.testing.assert_close(words.probabilities(wave), 1 / (1 + (-scores).exp()))
    torch.testing.assert_close(words((wave * 32768).round().to(torch.int16)), scores, atol=1e-3, rtol=1e-3)


def test_a_folder_gives_the_same_classifier(words, tmp_path):
    words.save_pretrained(tmp_path / "words", extra={"Accuracy": "99 %", "Words": "yes|no"})
    again = audiossl.load_classifier(tmp_path / "words")
    assert (again.labels, again.multi_label, again.unknown_below) == (words.labels, False, 0.25)
    assert not again.training
    wave = torch.randn(2, 16000)
    assert torch.equal(again(wave), words(wave))
    card = (tmp_path / "words" / "README.md").read_text()
    for text in (
        "audio-classification",
        "ナマケモノ",
        "| Accuracy | 99 % |",
        r"| Words | yes\|no |",
        "below a probability of 0.250",
    ):
        assert text in card, text
    again.save_pretrained(tmp_path / "words")  # in place of the old one
    assert sorted(path.name for path in tmp_path.iterdir()) == ["words"]
    assert audiossl.load_model(tmp_path / "words" / "encoder").dim == words.encoder.dim
    with pytest.raises(UserError, match=r"words is a classifier: give its encoder, .*encoder"):
        audiossl.load_model(tmp_path / "words")


def test_mistakes_are_one_sentence(words, tmp_path):
    with pytest.raises(UserError, match="a head of 3 scores needs as many labels"):
        Classifier(words.encoder, words.head, ["a", "b"])
    with pytest.raises(UserError, match="a head of 3 scores needs as many labels"):
        Classifier(words.encoder, words.head, ["a", "b", "a"])
    with pytest.raises(UserError, match="unknown_below is 1"):
        Classifier(words.encoder, words.head, ["a", "b", "c"], unknown_below=1.0)
    with pytest.raises(UserError, match=r"none does not exist: give the folder of a classifier \(RUN/classifier\)"):
        audiossl.load_classifier(tmp_path / "none")
    words.encoder.save_pretrained(tmp_path / "encoder")
    with pytest.raises(UserError, match="is an encoder, and has no labels: fine-tune it"):
        audiossl.load_classifier(tmp_path / "encoder")
    words.save_pretrained(tmp_path / "run" / "classifier")
    with pytest.raises(UserError, match="is the folder of a run: give its classifier"):
        audiossl.load_classifier(tmp_path / "run")
    with pytest.raises(UserError, match=r"is the folder of a run: give its classifier, .* or the encoder in there"):
        audiossl.load_model(tmp_path / "run")
    with pytest.raises(UserError, match="holds something else than a classifier"):
        words.save_pretrained(tmp_path / "encoder")
    (tmp_path / "file").write_text("here")
    with pytest.raises(UserError, match="holds something else than a classifier"):
        words.save_pretrained(tmp_path / "file")


def test_damaged_folders_are_named(words, tmp_path):
    def damaged(name, change):
        folder = tmp_path / name
        words.save_pretrained(folder)
        change(folder)
        with pytest.raises(UserError) as raised:
            audiossl.load_classifier(folder)
        return str(raised.value)

    def config(**values):
        def change(folder):
            path = folder / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

        return change

    assert "of format 9" in damaged("format", config(format=9))
    assert "labels=None" in damaged("labels", config(labels=None))
    assert "does not fit" in damaged("fewer", config(labels=["a", "b"]))
    assert "head.safetensors" in damaged("cut", lambda folder: (folder / "head.safetensors").write_bytes(b"123"))
    assert "head.safetensors" in damaged("gone", lambda folder: (folder / "head.safetensors").unlink())
    assert "encoder" in damaged("half", lambda folder: (folder / "encoder" / "model.safetensors").unlink())


def test_a_disk_that_is_full_leaves_the_old_folder(words, tmp_path, monkeypatch):
    words.save_pretrained(tmp_path / "words")
    monkeypatch.setattr(
        "audiossl.classifier_files.save_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space"))
    )
    words.labels = ["x", "y", "z"]
    with pytest.raises(UserError, match="cannot be written"):
        words.save_pretrained(tmp_path / "words")
    assert audiossl.load_classifier(tmp_path / "words").labels[0] == "yes"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["words"]
