"""Fine-tuning as its users run it: from an encoder, from scratch, killed and resumed, by folds, given wrong input."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from audiossl.recipes.finetune import run
from audiossl.transforms import LeafConfig, MelConfig, Normalize, build_frontend

import audiossl
from audiossl.backbones import BackboneConfig
from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.probes.calibrated import calibrated
from audiossl.run.session import Session

RATE = 8000
RECIPE = Path(__file__).parents[2] / "recipes" / "finetune.py"
SETTINGS = {
    "data.clip_s": 0.5,
    "data.sample_rate": RATE,
    "run.batch_size": 8,
    "run.epochs": 2,
    "run.precision": "fp32",
    "run.threads": 1,
    "run.trackers": "[]",
}
SMALL = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]
OUTSIDE = ("--data.outside", "true")  # manifests of sounds that lie elsewhere
PICTURE = {"sample_rate": RATE, "n_fft": 256, "win_length": 256, "hop_length": 129, "n_bins": 32, "f_max": 3800.0}


@pytest.fixture(scope="session")
def encoder(tones, tmp_path_factory):
    """The folder of a small ResNet with random weights, its batch norms measured on the tones."""
    folder = tmp_path_factory.mktemp("encoders") / "random"
    torch.manual_seed(0)
    data = DataConfig(root=str(tones), sample_rate=RATE, clip_s=0.5, cache=str(folder.parent))
    clips = cache_clips(open_clips(data), data)
    picture = MelConfig(**PICTURE)
    statistics = Normalize.measure(build_frontend(picture), (batch.wave for batch in clips.batches(256)))
    network = AudioEncoder.build(EncoderConfig(picture, BackboneConfig("resnet10", stages=2), 0.5), statistics)
    calibrated(network, clips).eval().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def learned(tmp_path_factory):
    """The folder of an encoder whose front end is learned too."""
    folder = tmp_path_factory.mktemp("encoders") / "learned"
    torch.manual_seed(0)
    picture = LeafConfig(sample_rate=RATE, hop_length=129, n_bins=32, f_max=3800.0)
    AudioEncoder.build(EncoderConfig(picture, BackboneConfig("resnet10", stages=2), 0.5)).eval().save_pretrained(folder)
    return folder


def command(data, out, *flags):
    return ["--data.root", str(data), "--run.out", str(out), *SMALL, *map(str, flags)]


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["finetune.py", *map(str, arguments)])
    run()


def result(out):
    return json.loads((out / "classification.json").read_text())


@pytest.fixture(scope="module")
def finished(tones, encoder, tmp_path_factory):
    """A run that nobody disturbed, in a process of its own."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    flags = command(tones, out, "--finetune.encoder", encoder, "--run.epochs", 4)
    subprocess.run([sys.executable, RECIPE, *flags], check=True, timeout=300)
    return out


def test_a_run_learns_and_leaves_all_that_is_promised(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"classifier", "classification.json", "report.html", "config.yaml", "metrics.jsonl", "checkpoints"} <= names
    found = result(finished)
    assert found["scores"]["validation"]["accuracy"] > 80
    assert found["scores"]["testing"]["clips"] == 15
    assert np.sum(found["scores"]["testing"]["confusion"]) == 15
    assert set(found["floors"]) > {"linear probe before", "log-mel mean + std", "most frequent label"}
    assert found["floors"]["most frequent label"] == pytest.approx(100 / 3)
    assert "with 60 labelled clips of 3 labels" in (finished / "classifier" / "README.md").read_text()
    page = (finished / "report.html").read_text()
    for words in ("What is taken for what", "Calibration", "The hardest first".lower(), "linear probe before"):
        assert words in page, words


def test_the_folder_opens_and_names_sounds(finished, tones):
    classifier = audiossl.load_classifier(finished / "classifier")
    assert classifier.labels == ["high", "low", "rise"]
    found = classifier.predict([tones / "low" / "00000000_nohash_0.wav", tones / "high" / "00000001_nohash_1.wav"])
    assert [row["label"] for row in found.table] == ["low", "high"]
    assert audiossl.load_model(finished / "classifier" / "encoder").dim == classifier.encoder.dim


def test_the_scores_are_those_of_the_classifier_that_was_kept(finished, tones):
    listed = (tones / "testing_list.txt").read_text().splitlines()
    found = audiossl.load_classifier(finished / "classifier").predict([tones / name for name in listed])
    right = [row["label"] == name.split("/")[0] for row, name in zip(found.table, listed, strict=True)]
    assert 100 * np.mean(right) == pytest.approx(result(finished)["scores"]["testing"]["accuracy"])


def test_the_epoch_that_is_best_on_validation_clips_is_kept(finished):
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    scores = [row["validation_accuracy"] for row in rows if row["kind"] == "epoch"]
    assert len(scores) == 4
    probe = json.loads((finished / "linear_probe" / "config.json").read_text())["extra"]["scores"]
    assert result(finished)["scores"]["validation"]["accuracy"] == pytest.approx(max(*scores, probe["validation"]))
    assert result(finished)["floors"]["linear probe before"] == pytest.approx(probe["testing"])


def test_a_run_killed_in_mid_epoch_ends_with_the_same_bytes(tones, encoder, finished, tmp_path, kill_in_second_epoch):
    out = tmp_path / "killed"
    flags = command(tones, out, "--finetune.encoder", encoder, "--run.epochs", 4)
    kill_in_second_epoch(RECIPE, flags, out)
    subprocess.run([sys.executable, RECIPE, *flags, "--run.resume"], check=True, timeout=300)
    for name in ("head.safetensors", "encoder/model.safetensors"):
        ended = [(folder / "classifier" / name).read_bytes() for folder in (out, finished)]
        assert ended[0] == ended[1], name


def test_without_a_step_the_head_is_the_linear_probe(tones, encoder, tmp_path, monkeypatch, capsys):
    still = ("--optim.lr", 0, "--optim.lr_end", 0, "--run.epochs", 1, "--finetune.start", "logistic")
    # Batch norms learn from what they see: in a frozen epoch they do not.
    frozen = ("--finetune.encoder", encoder, "--finetune.frozen_epochs", 1)
    call(monkeypatch, *command(tones, tmp_path / "run", *still, *frozen))
    found = result(tmp_path / "run")
    assert found["scores"]["testing"]["accuracy"] == pytest.approx(found["floors"]["linear probe before"])
    assert "warning     on the test clips it is no better than: linear probe before" in capsys.readouterr().out
    tuned, first = audiossl.load_model(tmp_path / "run" / "classifier" / "encoder"), audiossl.load_model(encoder)
    for (name, after), before in zip(tuned.state_dict().items(), first.state_dict().values(), strict=True):
        assert torch.equal(after, before), name


@pytest.mark.parametrize("kind", ["encoder", "learned"])
def test_frozen_epochs_move_the_head_alone(tones, request, tmp_path, monkeypatch, kind):
    encoder = request.getfixturevalue(kind)
    flags = ("--finetune.frozen_epochs", 2, "--finetune.encoder", encoder)
    call(monkeypatch, *command(tones, tmp_path / "run", *flags))
    tuned, first = audiossl.load_model(tmp_path / "run" / "classifier" / "encoder"), audiossl.load_model(encoder)
    assert all(torch.equal(after, first.state_dict()[name]) for name, after in tuned.state_dict().items())
    weights = audiossl.load_classifier(tmp_path / "run" / "classifier").head.linear.weight
    assert not torch.equal(weights, audiossl.load_classifier(tmp_path / "run" / "linear_probe").head.linear.weight)


def test_a_frozen_network_does_not_shorten_the_heads_steps(tones, learned, tmp_path, monkeypatch):
    real, clipped = Session.clip, []

    def clip(session, parameters, *limits):
        parameters = list(parameters)
        clipped.append([parameter.grad is not None for parameter in parameters])
        real(session, parameters, *limits)

    monkeypatch.setattr(Session, "clip", clip)
    flags = ("--finetune.frozen_epochs", 1, "--finetune.encoder", learned, "--optim.clip_grad", 1)
    call(monkeypatch, *command(tones, tmp_path / "run", *flags))
    steps = len(clipped) // 2  # an epoch
    assert [sum(there) for there in clipped[:steps]] == [2] * steps  # weights and biases of the head
    assert all(all(there) for there in clipped[steps:])


@pytest.mark.parametrize("network", ["vit_tiny", "swin_micro"])
def test_an_encoder_of_shorter_clips_is_kept_as_it_was_measured(tones, tmp_path, monkeypatch, network):
    torch.manual_seed(0)
    shorter = AudioEncoder.build(EncoderConfig(MelConfig(**PICTURE), BackboneConfig(network), 0.25)).eval()
    shorter.save_pretrained(tmp_path / "shorter")
    flags = ("--finetune.encoder", tmp_path / "shorter", "--run.epochs", 1, "--method.label_share", 0.5)
    call(monkeypatch, *command(tones, tmp_path / "run", *flags))
    classifier = audiossl.load_classifier(tmp_path / "run" / "classifier")
    assert classifier.clip_s == 0.5
    listed = (tones / "testing_list.txt").read_text().splitlines()
    found = classifier.predict([tones / name for name in listed])
    right = [row["label"] == name.split("/")[0] for row, name in zip(found.table, listed, strict=True)]
    assert 100 * np.mean(right) == pytest.approx(result(tmp_path / "run")["scores"]["testing"]["accuracy"])


def test_scratch_begins_elsewhere_and_random_networks_need_no_encoder(tones, encoder, tmp_path, monkeypatch, capsys):
    flags = ("--finetune.encoder", encoder, "--run.epochs", 1)
    call(monkeypatch, *command(tones, tmp_path / "scratch", *flags, "--finetune.scratch"))
    call(monkeypatch, *command(tones, tmp_path / "warm", *flags, "--method.label_share", 0.01))
    assert "with 3 labelled clips of 3 labels" in capsys.readouterr().out
    mine = [
        audiossl.load_model(tmp_path / name / "classifier" / "encoder").state_dict() for name in ("scratch", "warm")
    ]
    assert mine[0].keys() == mine[1].keys()
    picture = [word for key, value in PICTURE.items() for word in (f"--frontend.{key}", str(value))]
    call(
        monkeypatch, *command(tones, tmp_path / "own", *picture, "--backbone.name", "audiontt_2020", "--run.epochs", 1)
    )
    assert audiossl.load_classifier(tmp_path / "own" / "classifier").encoder.config.backbone.name == "audiontt_2020"


def test_an_encoder_of_another_rate_says_that_it_resamples(tones, encoder, tmp_path, monkeypatch, capsys):
    flags = ("--data.sample_rate", 16000, "--finetune.encoder", encoder, "--run.epochs", 1)
    call(monkeypatch, *command(tones, tmp_path / "run", *flags))
    assert "the encoder hears 8000 Hz: recordings are resampled to that" in capsys.readouterr().out
    assert result(tmp_path / "run")["about"]["sample_rate"] == 8000


def test_it_stops_when_validation_does_not_rise_and_calls_strangers_unknown(
    tones, encoder, tmp_path, monkeypatch, capsys
):
    still = ("--optim.lr", 0, "--optim.lr_end", 0, "--finetune.patience", 2, "--run.epochs", 9)
    call(
        monkeypatch,
        *command(tones, tmp_path / "run", *still, "--finetune.encoder", encoder, "--finetune.keep_known", 0.8),
    )
    assert "no better for 2 epochs" in capsys.readouterr().out
    assert result(tmp_path / "run")["epochs"] < 9
    classifier = audiossl.load_classifier(tmp_path / "run" / "classifier")
    assert classifier.unknown_below > 1 / 3


def test_a_small_network_learns_from_a_larger_classifier(finished, tones, encoder, tmp_path, monkeypatch, capsys):
    flags = ("--finetune.encoder", encoder, "--finetune.teacher", finished / "classifier", "--run.epochs", 1)
    call(monkeypatch, *command(tones, tmp_path / "run", *flags))
    assert result(tmp_path / "run")["scores"]["validation"]["accuracy"] > 80
    words = tmp_path / "two"
    for name in ("low", "high"):
        (words / name).parent.mkdir(exist_ok=True)
        (words / name).symlink_to(tones / name)
    with pytest.raises(SystemExit):
        call(monkeypatch, *command(words, tmp_path / "other", *flags))
    assert "knows 3 labels (high, low, rise ...), and the clips have 2" in capsys.readouterr().err


def test_clips_of_several_labels(tones, encoder, tmp_path, monkeypatch):
    manifest = tmp_path / "several.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for path in sorted(tones.glob("*/*.wav")):
            speaker = int(path.name[:8], 16)
            labels = {"low": "low;tone", "high": "high;tone", "rise": ";"}[path.parent.name]
            writer.writerow([path, labels, {4: "validation", 5: "testing"}.get(speaker, "training")])
    flags = ("--method.multi_label", "--method.class_weights", "balanced", "--finetune.encoder", encoder)
    call(monkeypatch, *command(manifest, tmp_path / "run", *OUTSIDE, *flags))
    found = result(tmp_path / "run")
    assert found["scores"]["validation"]["map"] > 80
    assert found["scores"]["testing"]["confusion"] == []
    classifier = audiossl.load_classifier(tmp_path / "run" / "classifier")
    assert classifier.labels == ["high", "low", "tone"]
    labels = [row["label"] for row in classifier.predict([tones / "low" / "00000000_nohash_0.wav"]).table]
    assert labels[0].endswith("tone")
    assert "high" not in labels[0]


def test_probabilities_are_calibrated_on_validation_clips_and_decisions_stay(tones, encoder, tmp_path, monkeypatch):
    flags = ("--finetune.encoder", encoder, "--run.epochs", 1)
    call(monkeypatch, *command(tones, tmp_path / "plain", *flags, "--finetune.calibrate", "false"))
    call(monkeypatch, *command(tones, tmp_path / "scaled", *flags))
    plain, scaled = (audiossl.load_classifier(tmp_path / name / "classifier") for name in ("plain", "scaled"))
    ratio = plain.head.linear.weight / scaled.head.linear.weight
    torch.testing.assert_close(ratio, ratio.flatten()[0].expand_as(ratio))
    assert ratio.flatten()[0] != 1
    matrices = [result(tmp_path / name)["scores"]["testing"]["confusion"] for name in ("plain", "scaled")]
    assert matrices[0] == matrices[1]


def test_fold_by_fold(tones, encoder, tmp_path, monkeypatch, capsys):
    few = tmp_path / "few"
    for path in sorted(tones.glob("*/*_nohash_0.wav")):
        if int(path.name[:8], 16) < 3:
            (few / path.parent.name).mkdir(parents=True, exist_ok=True)
            (few / path.parent.name / path.name).symlink_to(path)
    for speaker in range(3):  # an encoder for each fold, which has not heard its test speaker
        (tmp_path / f"fold-{speaker:08x}").symlink_to(encoder)
    own = tmp_path / "{fold}"
    flags = ("--folds", "speaker", "--finetune.encoder", own, "--run.epochs", 1, "--run.batch_size", 3)
    call(monkeypatch, *command(few, tmp_path / "run", *flags))
    assert "| 3 folds | mean | deviation |" in capsys.readouterr().out
    found = json.loads((tmp_path / "run" / "folds.json").read_text())
    scores = [fold["scores"]["testing"]["accuracy"] for fold in found["folds"].values()]
    assert len(scores) == 3
    assert found["summary"]["classifier"]["mean"] == pytest.approx(np.mean(scores))
    call(monkeypatch, *command(few, tmp_path / "run", *flags, "--run.resume"))  # nothing is trained again
    assert (
        json.loads((tmp_path / "run" / "folds.json").read_text())["summary"]["classifier"]
        == (found["summary"]["classifier"])
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--finetune.scratch"], "--finetune.scratch keeps the network of an encoder"),
        (["--finetune.encoder", "nowhere"], "nowhere"),
        (["--finetune.keep_known", "0"], "--finetune.keep_known must be a share above 0"),
        (["--method.label_share", "0"], "--method.label_share is 0"),
        (["--optim.layer_decay", "0"], "--optim.layer_decay must be above 0"),
        (["--method.multi_label", "--method.labels_per_class", "3"], "--method.labels_per_class goes with neither"),
        (["--folds", "fold"], "--folds is 'fold': give speaker, or FILE.csv:COLUMN"),
    ],
)
def test_a_wrong_flag_is_one_sentence(tones, tmp_path, monkeypatch, capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, *command(tones, tmp_path / "run", *flags))
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_labels_that_training_lacks_and_a_single_label_are_refused(tones, encoder, tmp_path, monkeypatch, capsys):
    def refused(rows):
        manifest = tmp_path / "list.csv"
        manifest.write_text("path,label,split\n" + "\n".join(",".join(map(str, row)) for row in rows))
        with pytest.raises(SystemExit):
            call(monkeypatch, *command(manifest, tmp_path / "run", *OUTSIDE, "--finetune.encoder", encoder))
        error = capsys.readouterr().err.strip()
        assert len(error.splitlines()) == 1
        return error

    sounds = sorted(tones.glob("*/*.wav"))
    plain = [(path, path.parent.name, "training") for path in sounds[:40]]
    assert "the testing split has 1 label(s) that no training clip has, such as 'new'" in refused(
        [*plain, (sounds[41], "new", "testing")]
    )
    assert "'high'" in refused([row for row in plain if row[1] == "high"])


def test_sounds_that_cannot_be_read_are_named_in_the_report(tones, encoder, tmp_path, monkeypatch, capsys):
    root = tmp_path / "my sounds"
    shutil.copytree(tones, root)
    (root / "low" / "00000000_nohash_9.wav").write_text("no sound")
    call(monkeypatch, *command(root, tmp_path / "a run", "--finetune.encoder", encoder, "--run.epochs", 1))
    page = (tmp_path / "a run" / "report.html").read_text()
    assert "1 clips could not be read and were left out: low/00000000_nohash_9" in page
    assert f"--model '{tmp_path / 'a run' / 'classifier'}'" in capsys.readouterr().out


def test_fewer_clips_than_a_batch_is_a_sentence(tones, encoder, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        call(monkeypatch, *command(tones, tmp_path / "run", "--finetune.encoder", encoder, "--run.batch_size", 100))
    error = capsys.readouterr().err.strip()
    assert "--run.batch_size is 100" in error
    assert len(error.splitlines()) == 1


def test_two_processes_train_one_classifier(tones, encoder, tmp_path):
    launch = ["-m", "accelerate.commands.launch", "-q", "--multi_gpu", "--num_processes", "2", RECIPE]
    flags = command(tones, tmp_path / "run", "--finetune.encoder", encoder, "--finetune.patience", 1)
    env = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run([sys.executable, *launch, *flags], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "processes 2" in done.stdout
    assert done.stdout.count("classifier  ") == 1
    assert result(tmp_path / "run")["scores"]["testing"]["clips"] == 15


def test_a_data_set_of_the_hub_and_a_network_of_timm(tones, tmp_path, monkeypatch):
    import datasets

    files = sorted(tones.glob("*/*.wav"))
    labels = datasets.ClassLabel(names=["high", "low", "rise"])
    struct = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features({"audio": struct, "word": labels})
    for split, speakers in (("train", range(4)), ("validation", [4]), ("test", [5])):
        mine = [path for path in files if int(path.name[:8], 16) in speakers]
        rows = {
            "audio": [{"bytes": path.read_bytes(), "path": None} for path in mine],
            "word": [path.parent.name for path in mine],
        }
        folder = tmp_path / "hub" / "data"
        folder.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    picture = [word for key, value in PICTURE.items() for word in (f"--frontend.{key}", str(value))]
    flags = ("--data.name", "hub", "--data.label_column", "word", "--backbone.name", "timm/mobilenetv3_small_050")
    call(monkeypatch, *command(tmp_path / "hub", tmp_path / "run", *flags, *picture, "--run.epochs", 1))
    found = result(tmp_path / "run")
    assert found["about"]["labels"] == ["high", "low", "rise"]
    assert found["scores"]["testing"]["clips"] == 15
    classifier = audiossl.load_classifier(tmp_path / "run" / "classifier")
    assert classifier.encoder.config.backbone.name == "timm/mobilenetv3_small_050"


def test_a_label_with_one_clip_is_learned_or_refused_by_where_the_clip_is(
    tones, encoder, tmp_path, monkeypatch, capsys
):
    sounds = sorted(tones.glob("*/*.wav"))
    splits = ["training", "validation", "testing"]
    rows = [(path, path.parent.name, splits[number % 3]) for number, path in enumerate(sounds[:60])]
    for split in ("training", "testing"):
        manifest = tmp_path / f"{split}.csv"
        lines = [*rows, (sounds[-1], "once", split)]
        manifest.write_text("path,label,split\n" + "\n".join(",".join(map(str, row)) for row in lines))
        flags = command(manifest, tmp_path / split, *OUTSIDE, "--finetune.encoder", encoder, "--run.epochs", 1)
        if split == "training":
            call(monkeypatch, *flags)
            scores = {row["label"]: row for row in result(tmp_path / split)["scores"]["testing"]["labels"]}
            assert scores["once"]["clips"] == 0
        else:
            with pytest.raises(SystemExit):
                call(monkeypatch, *flags)
            assert "such as 'once'" in capsys.readouterr().err
