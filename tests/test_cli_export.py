"""`audiossl export`, as it is typed."""

import json

import numpy as np
import pytest
import soundfile

from audiossl.cli import main

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_a_classifier_is_exported(tmp_path, capsys):
    from audiossl.transforms import MelConfig

    from audiossl.backbones import BackboneConfig
    from audiossl.classifier import Classifier
    from audiossl.encoder import AudioEncoder, EncoderConfig
    from audiossl.heads import ClassifierHead

    config = EncoderConfig(MelConfig(n_bins=32), BackboneConfig("resnet10_half", stages=1), 0.25)
    encoder = AudioEncoder.build(config).eval()
    Classifier(encoder, ClassifierHead(encoder.dim, 2), ["no", "yes"]).eval().save_pretrained(tmp_path / "words")
    for label in ("no", "yes"):
        (tmp_path / "sounds" / label).mkdir(parents=True)
        noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
        soundfile.write(tmp_path / "sounds" / label / "a.wav", noise, 16000)
    flags = ["--model", str(tmp_path / "words"), "-o", str(tmp_path / "out"), "--int8", "--calibrate"]
    (tmp_path / "sounds" / "no" / "broken.wav").write_text("no sound")
    assert main(["export", *flags, str(tmp_path / "sounds"), "--json"]) == 0
    said = capsys.readouterr()
    assert "not read: 1 recordings, such as" in said.err
    assert "broken.wav" in said.err
    found = json.loads(said.out)
    assert found["labels"] == ["no", "yes"]
    assert 0.0 <= found["int8"]["accuracy_float"] <= 1.0
    assert (tmp_path / "out" / "model.int8.onnx").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "nowhere", "-o", "out"], "there is no folder and no model 'nowhere'"),
        (["--model", "MODEL", "-o", "out", "--opset", "7"], "--opset 7 cannot be written"),
        (["--model", "MODEL", "-o", "out", "--calibrate", "empty"], "holds no recordings"),
        (["--model", "MODEL", "-o", "out", "--calibrate", "broken"], "none of its recordings can be read"),
        (["--model", "MODEL"], "-o/--output"),
    ],
)
def test_mistakes_are_one_sentence(flags, message, encoder_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "text.wav").write_text("no sound")
    with pytest.raises(SystemExit) as caught:
        main(["export", *(str(encoder_folder) if flag == "MODEL" else flag for flag in flags)])
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in said
    assert len(said.splitlines()) == 1
