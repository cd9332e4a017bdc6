"""BYOL and the contrastive baseline as their users run them: to the end, killed and resumed, by preset, wrongly."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from audiossl.recipes import byol_speechcommands, contrastive_speechcommands
from audiossl.transforms import FrontEndConfig, TwoViews

import audiossl
from audiossl.config import parse, presets
from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.encoder import AudioEncoder, EncoderConfig

RATE = 8000
RECIPES = {"byol": byol_speechcommands, "contrastive": contrastive_speechcommands}
FILES = {name: Path(__file__).parents[2] / "recipes" / f"{name}_speechcommands.py" for name in RECIPES}
# Pictures of 32 x 32, narrow heads and a short memory: seconds on one core.
SETTINGS = {
    "data.sample_rate": RATE,
    "data.clip_s": 0.5,
    "frontend.sample_rate": RATE,
    "frontend.n_fft": 256,
    "frontend.win_length": 256,
    "frontend.hop_length": 129,
    "frontend.n_bins": 32,
    "frontend.f_max": 3800,
    "views.view_s": 0.5,
    "views.memory": 40,
    "method.hidden_dim": 32,
    "method.projection_dim": 16,
    "run.batch_size": 16,
    "run.epochs": 2,
    "probe.quick": True,
    "probe.random_seeds": 0,
}
SMALL = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]


def command(tones, out, *flags):
    return ["--data.root", str(tones), "--run.out", str(out), *SMALL, *flags]


def call(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [FILES[name].name, *map(str, arguments)])
    RECIPES[name].run()


def weights(out):
    return (Path(out) / "encoder" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module", params=list(RECIPES))
def finished(request, tones, tmp_path_factory):
    """A run that nobody disturbed, in fp32, in a process of its own: the recipe's name and the run's folder."""
    out = tmp_path_factory.mktemp("runs") / request.param
    flags = command(tones, out, "--run.precision", "fp32")
    subprocess.run([sys.executable, FILES[request.param], *flags], check=True, timeout=300)
    return request.param, out


def test_a_run_leaves_all_that_is_promised(finished, tones):
    _, out = finished
    names = {path.name for path in out.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "checkpoints", "encoder", "report.html", "scores.json"} <= names
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["kind"] == "epoch"][-1]
    for name in ("loss", "feature_std", "rankme", "knn", "lr", "passes"):
        assert np.isfinite(last[name]), name
    assert "view 1" in (out / "report.html").read_text()
    result = audiossl.featurize(tones / "low", model=out / "encoder")
    assert result.embeddings.shape == (30, audiossl.load_model(out / "encoder").dim)


def test_a_run_killed_in_mid_epoch_ends_with_the_same_bytes(tones, finished, tmp_path, kill_in_second_epoch):
    # With it the memory of past clips, from which backgrounds are drawn.
    name, whole = finished
    out = tmp_path / "killed"
    flags = command(tones, out, "--run.precision", "fp32")
    kill_in_second_epoch(FILES[name], flags, out)
    subprocess.run([sys.executable, FILES[name], *flags, "--run.resume"], check=True, timeout=300)
    assert weights(out) == weights(whole)


def test_the_memory_of_past_clips_counts(tones, finished, tmp_path, monkeypatch):
    name, whole = finished
    call(monkeypatch, name, *command(tones, tmp_path / "other", "--run.precision", "fp32", "--views.memory", "20"))
    assert weights(tmp_path / "other") != weights(whole)


def test_another_run_begins_with_its_weights(tones, finished, tmp_path, monkeypatch):
    name, whole = finished
    still = ("--optim.lr", "0", "--optim.lr_end", "0", "--run.epochs", "1")
    call(monkeypatch, name, *command(tones, tmp_path / "next", "--run.start_from", str(whole), *still))
    before, after = (audiossl.load_model(folder / "encoder").state_dict() for folder in (whole, tmp_path / "next"))
    learned = [key for key in before if key.startswith("backbone.") and key.endswith("weight")]
    assert len(learned) > 10
    for key in learned:
        assert torch.equal(before[key], after[key]), key


@pytest.fixture(scope="module")
def few_clips(tones, tmp_path_factory):
    config = DataConfig(root=str(tones), clip_s=0.5, limit=24, cache=str(tmp_path_factory.mktemp("cache")))
    return cache_clips(open_clips(config), config).split("training")


@pytest.mark.parametrize("kind", sorted(FrontEndConfig.get_known_choices()))
def test_every_front_end_makes_a_learning_step_by_flag_alone(few_clips, kind):
    flags = ["--frontend.type", kind, "--data.clip_s", "0.5", "--views.view_s", "0.5", "--method.hidden_dim", "16"]
    config = parse(byol_speechcommands.Config, FILES["byol"].stem, ["--preset", "small", *flags])
    encoder, views, method = byol_speechcommands.build(config, few_clips)
    wave = next(few_clips.batches(8)).wave
    for _ in range(2):  # the second time with backgrounds
        out = method(views([encoder.image(wave), encoder.image(wave)], torch.Generator().manual_seed(0)))
    out.loss.backward()
    assert out.loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    learned = list(encoder.frontend.parameters())
    assert bool(learned) == (kind == "leaf")
    assert all(p.grad.abs().sum() > 0 for p in learned)


@pytest.mark.parametrize("preset", presets(FILES["byol"].stem))
def test_each_preset_makes_views_that_its_backbone_takes(preset):
    config = parse(byol_speechcommands.Config, FILES["byol"].stem, ["--preset", preset])
    shape = EncoderConfig(config.frontend, config.backbone, config.data.clip_s)
    encoder = AudioEncoder.build(shape).eval()
    seen = TwoViews(config.views, encoder.image_size, encoder.clip_s)(torch.zeros(2, 1, *encoder.image_size))
    with torch.no_grad():
        assert encoder.backbone(seen.images[0][:1]).features.shape == (1, encoder.dim)


def test_the_presets_of_byol_a_are_its_numbers():
    for preset, size, dim in (("byola_v1", (64, 96), 512), ("byola_v2", (64, 96), 3072)):
        config = parse(byol_speechcommands.Config, FILES["byol"].stem, ["--preset", preset])
        encoder = AudioEncoder.build(EncoderConfig(config.frontend, config.backbone, config.data.clip_s))
        seen = TwoViews(config.views, encoder.image_size, encoder.clip_s)(torch.zeros(2, 1, *encoder.image_size))
        assert tuple(seen.images[0].shape[2:]) == size
        assert encoder.dim == dim
        assert (config.method.momentum, config.method.momentum_end) == (0.99, 0.99)
        assert (config.run.batch_size, config.optim.weight_decay) == (256, 0.0)


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("byol", ["--method.teacher", "slow"], "teacher"),
        ("byol", ["--views.view_s", "9"], "--views.view_s 9"),
        ("byol", ["--run.batch_size", "1000"], "--run.batch_size is 1000, but"),
        ("contrastive", ["--method.temperature", "0"], "--method.temperature"),
    ],
)
def test_a_wrong_flag_is_one_sentence(tones, tmp_path, monkeypatch, capsys, name, flags, message):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, name, *command(tones, tmp_path / "run", *flags))
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
