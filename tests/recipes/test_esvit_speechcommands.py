"""The EsViT recipe as its users run it: to the end, in two processes, killed and resumed, and given wrong input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from audiossl.recipes.esvit_speechcommands import Config, build, run
from audiossl.transforms import FrontEndConfig, MultiCrop, build_frontend

import audiossl
from audiossl.config import parse, presets
from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.encoder import AudioEncoder, EncoderConfig

RATE = 8000
RECIPE = Path(__file__).parents[2] / "recipes" / "esvit_speechcommands.py"
# Pictures of 32 x 32 and narrow heads: seconds on one core.
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
    "views.local_s": 0.25,
    "views.n_locals": 1,
    "method.n_prototypes": 32,
    "method.hidden_dim": 32,
    "method.bottleneck_dim": 16,
    "run.batch_size": 16,
    "run.epochs": 2,
    "probe.quick": True,
    "probe.random_seeds": 0,
}
STILL = ("--optim.lr", "0", "--optim.lr_end", "0")
SMALL = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]


def command(tones, out, *flags):
    return ["--data.root", str(tones), "--run.out", str(out), *SMALL, *flags]


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["esvit_speechcommands.py", *map(str, arguments)])
    run()


def weights(out):
    return (Path(out) / "encoder" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def finished(tones, tmp_path_factory):
    """A run that nobody disturbed, in fp32, in a process of its own."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run([sys.executable, RECIPE, *command(tones, out, "--run.precision", "fp32")], check=True, timeout=300)
    return out


def test_a_run_leaves_all_that_is_promised(finished):
    names = {path.name for path in finished.iterdir()}
    expected = {"config.yaml", "metrics.jsonl", "environment.txt", "checkpoints", "encoder", "report.html"}
    assert expected <= names
    scores = json.loads((finished / "scores.json").read_text())
    rows = [row["name"] for row in scores["rows"]]
    assert rows[0] == "encoder"
    assert {"same network, random weights", "log-mel mean + std", "chance"} <= set(rows)
    assert scores["about"]["speakers"] == 6
    encoder = audiossl.load_model(finished / "encoder")
    assert encoder.sample_rate == RATE
    epochs = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in epochs if row["kind"] == "epoch"][-1]
    for name in ("loss", "loss_over_ln_k", "teacher_entropy", "kl", "feature_std", "rankme", "knn", "lr"):
        assert np.isfinite(last[name]), name
    first = next(row for row in epochs if row["kind"] == "epoch")
    assert first["knn_chance"] == pytest.approx(100 / 3)
    assert 0 <= first["knn_random"] <= 100
    assert first["knn_log_mel"] > 60  # three kinds of tones are no riddle
    page = (finished / "report.html").read_text()
    assert "log-mel" in page
    assert "view 1" in page


def test_the_encoder_of_a_run_embeds_new_audio(finished, tones):
    result = audiossl.featurize(tones / "low", model=finished / "encoder")
    assert result.embeddings.shape == (30, 512)
    assert np.isfinite(result.embeddings).all()


def test_a_run_killed_in_mid_epoch_ends_with_the_same_bytes(tones, finished, tmp_path, kill_in_second_epoch):
    out = tmp_path / "killed"
    flags = command(tones, out, "--run.precision", "fp32")
    kill_in_second_epoch(RECIPE, flags, out)
    subprocess.run([sys.executable, RECIPE, *flags, "--run.resume"], check=True, timeout=300)
    assert weights(out) == weights(finished)


def test_resuming_a_finished_run_changes_nothing(tones, finished):
    before = weights(finished)
    flags = command(tones, finished, "--run.precision", "fp32", "--run.resume")
    subprocess.run([sys.executable, RECIPE, *flags], check=True, timeout=300)
    assert weights(finished) == before


@pytest.mark.distributed
def test_two_processes_by_accelerate_launch(tones, tmp_path):
    out = tmp_path / "two"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    flags = command(tones, out, "--run.batch_size", "8", "--run.accumulate", "2", "--run.epochs", "1")
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    subprocess.run([*launch, RECIPE, *flags], check=True, timeout=400, env=environment)
    assert "processes: 2" in (out / "environment.txt").read_text()
    assert (out / "report.html").exists()
    assert audiossl.load_model(out / "encoder")


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_folder_without_labels_trains_and_leaves_the_table_out(tones, tmp_path, monkeypatch, precision):
    root = tmp_path / "sounds"
    root.mkdir()
    for path in tones.glob("*/*.wav"):
        (root / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    out = tmp_path / "run"
    call(monkeypatch, *command(root, out, "--data.name", "folder", "--run.epochs", 1, "--run.precision", precision))
    assert not (out / "scores.json").exists()
    assert (out / "report.html").exists()
    assert audiossl.featurize(root, model=out / "encoder").embeddings.shape == (90, 512)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--run.batchsize", "3"], "--run.batch_size"),
        (["--run.batch_size", "1000"], "--run.batch_size is 1000, but"),
        (["--method.n_prototypes", "many"], "n_prototypes"),
        (["--views.local_s", "9"], "--views.local_s 9"),
        (["--backbone.name", "resnet11"], "resnet10"),
        (["--data.sample_rate", "4000"], "--frontend.sample_rate"),
        (["--method.region_matching", "overlap", "--wave.shift_s", "0.1"], "--method.region_matching overlap"),
        (["--data.root", "/no/such/folder"], "/no/such/folder"),
        (["--config", "missing.yaml"], "missing.yaml"),
    ],
)
def test_a_wrong_flag_is_one_sentence_and_leaves_nothing(tones, tmp_path, monkeypatch, capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, *command(tones, tmp_path / "run", *flags))
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "Traceback" not in error
    assert len(error.splitlines()) == 1


def test_an_empty_folder_is_said_so(tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit):
        call(monkeypatch, *command(tmp_path / "empty", tmp_path / "run"))
    assert "empty" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # the folder of the run is not in use: the command may be given again
        call(monkeypatch, *command(tmp_path / "empty", tmp_path / "run"))
    assert "is not empty" not in capsys.readouterr().err


@pytest.mark.parametrize("preset", presets(RECIPE.stem))
def test_each_preset_makes_views_that_its_backbone_takes(preset):
    config = parse(Config, RECIPE.stem, ["--preset", preset])
    shape = EncoderConfig(config.frontend, config.backbone, config.data.clip_s)
    encoder = AudioEncoder.build(shape).eval()
    views = MultiCrop(config.views, encoder.image_size, encoder.clip_s)(torch.zeros(1, 1, *encoder.image_size))
    assert len(views.boxes) == 2 + config.views.n_locals * len(config.views.local_s)
    with torch.no_grad():
        for group in views.images:
            assert encoder.backbone(group[:1]).features.shape == (1, encoder.dim)


def test_a_second_stage_begins_with_the_weights_of_a_first(tones, finished, tmp_path, monkeypatch, capsys):
    # The published way to windows of 14: views alone, then regions as well, with a fresh optimiser.
    call(monkeypatch, *command(tones, tmp_path / "views", "--method.region_weight", "0", "--run.epochs", "1"))
    stage = ("--run.start_from", str(tmp_path / "views"))
    call(monkeypatch, *command(tones, tmp_path / "both", "--method.region_weight", "0.5", *stage, *STILL))
    first, second = (load_weights(tmp_path / name) for name in ("views", "both"))
    assert any(".region_head." in name for name in second)
    moved = [name for name in first if first[name].dtype.is_floating_point and "num_batches" not in name]
    student = [name for name in moved if name.startswith("student.") and "running_" not in name]
    assert len(student) > 20
    for name in student:  # at a rate of nothing the student stays where the first stage left it
        assert second[name].equal(first[name]), name
    with pytest.raises(SystemExit):
        call(monkeypatch, *command(tones, tmp_path / "none", "--run.start_from", str(tones)))
    assert f"--run.start_from {tones}: there is no checkpoint in it" in capsys.readouterr().err


def load_weights(folder):
    last = max((folder / "checkpoints").glob("epoch-*"))
    (weights,) = torch.load(last / "state.pt", weights_only=True)["models"]
    return weights


def test_help_shows_every_section_without_training(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, "--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--data.root", "--views.n_locals", "--method.n_prototypes", "--optim.lr", "--run.resume", "small"):
        assert flag in text
    assert Config().run.out in text


@pytest.fixture(scope="module")
def few_clips(tones, tmp_path_factory):
    config = DataConfig(root=str(tones), clip_s=0.5, limit=24, cache=str(tmp_path_factory.mktemp("cache")))
    return cache_clips(open_clips(config), config).split("training")


@pytest.mark.parametrize("kind", sorted(FrontEndConfig.get_known_choices()))
def test_every_front_end_makes_a_learning_step_by_flag_alone(few_clips, kind):
    own = {key: value for key, value in SETTINGS.items() if key.split(".")[0] in ("method", "views")}
    flags = [word for key, value in own.items() for word in (f"--{key}", str(value))]
    # As the small preset has them; a type that lacks one of them leaves it out.
    config = parse(Config, RECIPE.stem, ["--preset", "small", "--frontend.type", kind, "--data.clip_s", "0.5", *flags])
    encoder, views, method = build(config, few_clips)
    wave = next(few_clips.batches(8)).wave
    out = method(views([encoder.image(wave)], torch.Generator().manual_seed(0)), 0.04)
    out.loss.backward()
    assert out.loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    learned = list(encoder.frontend.parameters())
    assert bool(learned) == (kind == "leaf")
    assert all(p.grad.abs().sum() > 0 for p in learned)


def test_a_front_end_is_learned_with_the_rest_and_waves_are_augmented(tones, tmp_path, monkeypatch):
    drop = {"--frontend.n_fft", "--frontend.win_length"}  # a filter bank in the time domain has none
    pairs = zip(SMALL[::2], SMALL[1::2], strict=True)
    flags = [word for flag, value in pairs if flag not in drop for word in (flag, value)]
    out = tmp_path / "run"
    flags += ["--frontend.type", "leaf", "--wave.gain_db", "6", "--wave.noise", "0.5", "--run.epochs", "1"]
    call(monkeypatch, "--data.root", tones, "--run.out", out, *flags)
    learned = audiossl.load_model(out / "encoder").frontend
    fresh = build_frontend(learned.config)
    for (name, after), before in zip(learned.named_parameters(), fresh.parameters(), strict=True):
        assert not torch.equal(after, before), name
