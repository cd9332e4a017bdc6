"""The supervised recipe as its users run it: to the end, killed and resumed, from few labels, and given wrong input."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from audiossl.recipes.supervised_speechcommands import Config, build, run
from audiossl.transforms import FrontEndConfig

import audiossl
from audiossl.config import parse, presets
from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.encoder import AudioEncoder
from audiossl.errors import UserError
from audiossl.run.labels import labelled_clips
from audiossl.run.monitors import classifier_accuracy

RATE = 8000
RECIPE = Path(__file__).parents[2] / "recipes" / "supervised_speechcommands.py"
# Pictures of 32 x 32: seconds on one core.
SETTINGS = {
    "data.sample_rate": RATE,
    "data.clip_s": 0.5,
    "frontend.sample_rate": RATE,
    "frontend.n_fft": 256,
    "frontend.win_length": 256,
    "frontend.hop_length": 129,
    "frontend.n_bins": 32,
    "frontend.f_max": 3800,
    "views.global_s": 0.5,
    "optim.lr": 0.02,
    "run.batch_size": 8,
    "run.epochs": 2,
    "probe.quick": True,
    "probe.random_seeds": 0,
}
SMALL = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]


def command(tones, out, *flags):
    return ["--data.root", str(tones), "--run.out", str(out), *SMALL, *flags]


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["supervised_speechcommands.py", *map(str, arguments)])
    run()


def epochs(out):
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "epoch"]


@pytest.fixture(scope="module")
def finished(tones, tmp_path_factory):
    """A run that nobody disturbed, in fp32, in a process of its own, long enough to learn three kinds of tones."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    flags = command(tones, out, "--run.precision", "fp32", "--run.epochs", "8")
    subprocess.run([sys.executable, RECIPE, *flags], check=True, timeout=300)
    return out


def test_a_run_learns_the_labels_and_leaves_all_that_is_promised(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "environment.txt", "checkpoints", "encoder", "report.html"} <= names
    last = epochs(finished)[-1]
    assert last["training_accuracy"] > 80
    assert last["validation_accuracy"] > 80  # three kinds of tones are no riddle, other speakers or not
    for name in ("loss", "feature_std", "rankme", "knn", "lr"):
        assert np.isfinite(last[name]), name
    scores = json.loads((finished / "scores.json").read_text())
    assert scores["columns"][0] == "classifier"
    cell = scores["rows"][0]["scores"]["classifier"]
    assert cell["mean"] > 50  # chance is 33; the test speaker's voice is the highest, beyond those that were heard
    assert cell["chosen"]["validation"] == pytest.approx(last["validation_accuracy"])
    assert "with 60 labels of 3 classes" in (finished / "encoder" / "README.md").read_text()


def test_the_report_reads_as_one_of_a_classifier(finished):
    page = (finished / "report.html").read_text()
    for words in ("Classifier, validation", "Accuracy, validation, %", "Accuracy, training views, %", "view 1"):
        assert words in page, words
    assert "The monitors give no warning." in page
    assert "teacher" not in page.lower()


def test_the_best_checkpoint_is_that_of_the_best_validation_accuracy(finished):
    kept = {path.parent.name for path in finished.glob("checkpoints/*/position.json")}
    best = max(epochs(finished), key=lambda row: row["validation_accuracy"])
    assert f"epoch-{best['epoch'] + 1:04d}_batch-00000" in kept


def test_the_classifier_is_in_the_checkpoints_and_fits_the_encoder(finished, tones, tmp_path):
    last = max((finished / "checkpoints").glob("epoch-*"))
    (weights,) = torch.load(last / "state.pt", weights_only=True)["models"]
    encoder = audiossl.load_model(finished / "encoder")
    head = torch.nn.Linear(encoder.dim, 3)
    head.load_state_dict({name: weights[f"head.linear.{name}"] for name in ("weight", "bias")})
    config = DataConfig(root=str(tones), sample_rate=RATE, clip_s=0.5, cache=str(tmp_path))
    clips = cache_clips(open_clips(config), config)
    scores = json.loads((finished / "scores.json").read_text())
    accuracy = classifier_accuracy(encoder, head, clips.split("testing"))
    assert accuracy == pytest.approx(scores["rows"][0]["scores"]["classifier"]["mean"])


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_ends_with_the_same_bytes(tones, finished, tmp_path, kill_in_second_epoch):
    out = tmp_path / "killed"
    flags = command(tones, out, "--run.precision", "fp32", "--run.epochs", "8")
    kill_in_second_epoch(RECIPE, flags, out)
    subprocess.run([sys.executable, RECIPE, *flags, "--run.resume"], check=True, timeout=300)
    ended = [(folder / "encoder" / "model.safetensors").read_bytes() for folder in (out, finished)]
    assert ended[0] == ended[1]


def test_few_labels_balanced_on_an_unlabelled_background(tones, tmp_path, monkeypatch, capsys):
    # A manifest of the tones in which one take of each speaker has a label, and "low" is rare.
    rows = ["path,label,split"]
    for path in sorted(tones.glob("*/*.wav")):
        word, speaker, take = path.parent.name, int(path.name[:8], 16), int(path.stem[-1])
        split = {4: "validation", 5: "testing"}.get(speaker, "training")
        known = take == 0 and (word != "low" or speaker in (0, 4, 5))
        rows.append(f"{path},{word if known else ''},{split}")
    manifest = tmp_path / "some.csv"
    manifest.write_text("\n".join(rows))
    few = (
        "--data.outside",
        "true",
        "--method.labels_per_class",
        2,
        "--method.class_weights",
        "balanced",
        "--run.batch_size",
        4,
    )
    call(monkeypatch, *command(manifest, tmp_path / "run", *few, "--run.epochs", 1, "--wave.gain_db", 6))
    assert "60 training clips, with 5 labels of 3 classes" in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("source", [".", "encoder"])
def test_it_fine_tunes_the_network_of_another_run(tones, finished, tmp_path, monkeypatch, source):
    out = tmp_path / "tuned"
    still = ("--optim.lr", 0, "--optim.lr_end", 0, "--run.epochs", 1, "--run.precision", "fp32")
    call(monkeypatch, *command(tones, out, "--run.start_from", finished / source, *still))
    tuned, first = (audiossl.load_model(folder / "encoder") for folder in (out, finished))
    for (name, after), before in zip(tuned.named_parameters(), first.parameters(), strict=True):
        assert torch.equal(after, before), name


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method.label_smoothing", "2"], "--method.label_smoothing must be from 0 to below 1"),
        (["--method.class_weights", "even"], "class_weights"),
        (["--method.labels_per_class", "-3"], "--method.labels_per_class is -3"),
        (["--method.multi_label"], "--method.multi_label is for recipes/finetune.py"),
        (["--data.sample_rate", "4000"], "--frontend.sample_rate"),
        (["--run.batch_size", "1000"], "--run.batch_size is 1000, but"),
    ],
)
def test_a_wrong_flag_is_one_sentence(tones, tmp_path, monkeypatch, capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, *command(tones, tmp_path / "run", *flags))
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_folder_without_labels_and_one_with_a_single_label_are_refused(tones, tmp_path, monkeypatch, capsys):
    for name, message in (("", "has a label, and this recipe learns from labels"), ("low", "clips are 'low'")):
        root = tmp_path / f"sounds{name}"
        (root / name).mkdir(parents=True)
        for i in range(20):
            soundfile.write(root / name / f"{i}.wav", np.full(RATE // 2, 0.01 * i), RATE)
        with pytest.raises(SystemExit):
            call(monkeypatch, *command(root, tmp_path / f"run{name}", "--data.name", "folder"))
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize("preset", presets(RECIPE.stem))
def test_each_preset_builds(tones, preset, tmp_path):
    config = parse(Config, RECIPE.stem, ["--preset", preset, "--data.root", str(tones)])
    data = DataConfig(root=str(tones), limit=40, cache=str(tmp_path))
    training = cache_clips(open_clips(data), data).split("training")
    encoder, views, method = build(config, training, labelled_clips(training))
    assert isinstance(encoder, AudioEncoder)
    wave = next(training.batches(8))
    out = method(views(encoder.image(wave.wave)), torch.from_numpy(training.label_ids)[wave.index])
    assert out.loss.isfinite()
    assert config.run.best == "validation_accuracy"


def test_a_learned_front_end_gets_gradients(tones, tmp_path):
    assert "leaf" in FrontEndConfig.get_known_choices()
    config = parse(Config, RECIPE.stem, ["--preset", "small", "--frontend.type", "leaf", "--data.clip_s", "0.5"])
    data = DataConfig(root=str(tones), clip_s=0.5, limit=40, cache=str(tmp_path))
    training = cache_clips(open_clips(data), data).split("training")
    config.views.global_s = 0.5
    encoder, views, method = build(config, training, labelled_clips(training))
    wave = next(training.batches(8))
    out = method(views(encoder.image(wave.wave)), torch.from_numpy(training.label_ids)[wave.index])
    out.loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in encoder.frontend.parameters())


def test_the_clips_must_have_the_front_end_s_rate(tones, tmp_path):
    data = DataConfig(root=str(tones), sample_rate=RATE, limit=40, cache=str(tmp_path))
    training = cache_clips(open_clips(data), data).split("training")
    with pytest.raises(UserError, match=r"--frontend\.sample_rate is 16000 and --data\.sample_rate is 8000"):
        build(Config(), training, training)
