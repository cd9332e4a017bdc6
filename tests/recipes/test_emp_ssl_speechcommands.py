"""The EMP-SSL recipe as its users run it: to the end, killed and resumed, with any bag, given wrong input."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from audiossl.recipes.emp_ssl_speechcommands import Config, build, run
from audiossl.transforms import FrontEndConfig

import audiossl
from audiossl.config import parse, presets
from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.encoder import AudioEncoder, EncoderConfig

RATE = 8000
RECIPE = Path(__file__).parents[2] / "recipes" / "emp_ssl_speechcommands.py"
# Pictures of 32 x 32, patches of 32 x 16: seconds on one core.
SETTINGS = {
    "data.sample_rate": RATE,
    "data.clip_s": 0.5,
    "frontend.sample_rate": RATE,
    "frontend.n_fft": 256,
    "frontend.win_length": 256,
    "frontend.hop_length": 129,
    "frontend.n_bins": 32,
    "frontend.f_max": 3800,
    "views.n_patches": 6,
    "views.patch_s": 0.25,
    "backbone.stages": 2,
    "bag.n_patches": 4,
    "bag.feature_dim": 64,
    "bag.projection_dim": 64,
    "run.batch_size": 16,
    "run.epochs": 3,
    "run.log_steps": 1,
    "probe.quick": True,
    "probe.random_seeds": 0,
}


def command(tones, out, *flags):
    small = [word for key, value in SETTINGS.items() for word in (f"--{key}", str(value))]
    return ["--data.root", str(tones), "--run.out", str(out), *small, *map(str, flags)]


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["emp_ssl_speechcommands.py", *map(str, arguments)])
    run()


def rows(out, kind):
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.fixture(scope="module")
def finished(tones, tmp_path_factory):
    """A run that nobody disturbed, in fp32, in a process of its own."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    subprocess.run([sys.executable, RECIPE, *command(tones, out, "--run.precision", "fp32")], check=True, timeout=300)
    return out


def test_a_run_leaves_all_that_is_promised(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "environment.txt", "checkpoints", "encoder", "report.html"} <= names
    first, *_, last = rows(finished, "step")
    assert last["loss"] < first["loss"]
    for name in ("invariance", "coding_rate", "rate_share", "effective_rank", "silent_patches", "lr"):
        assert np.isfinite(last[name]), name
    assert 0.0 < last["rate_share"] < 1.0
    assert (finished / "encoder" / "README.md").read_text().count("4 patches of 0.25 s, the features of each") == 1
    page = (finished / "report.html").read_text()
    assert "The monitors give no warning." in page
    assert "view 1" in page


def test_the_encoder_of_a_run_embeds_new_audio_of_any_length(finished, tones):
    encoder = audiossl.load_model(finished / "encoder")
    with torch.no_grad():
        short, long = encoder(torch.randn(2, RATE // 2)), encoder.output(torch.randn(1, 2 * RATE))
    assert short.shape == (2, 4 * 64)  # four segments of time
    assert long.patches.shape[1] > 4 * 3
    result = audiossl.featurize(tones / "low", model=str(finished / "encoder"))
    assert result.embeddings.shape == (30, 4 * 64)
    assert np.isfinite(result.embeddings).all()


@pytest.mark.slow
def test_a_run_killed_in_mid_epoch_ends_with_the_same_bytes(tones, finished, tmp_path, kill_in_second_epoch):
    out = tmp_path / "killed"
    flags = command(tones, out, "--run.precision", "fp32")
    kill_in_second_epoch(RECIPE, flags, out)
    subprocess.run([sys.executable, RECIPE, *flags, "--run.resume"], check=True, timeout=300)
    ended = [(folder / "encoder" / "model.safetensors").read_bytes() for folder in (out, finished)]
    assert ended[0] == ended[1]


@pytest.mark.parametrize(
    "flags",
    [
        ("--bag.pool", "ordered", "--bag.output", "projection", "--method.spread", "uniformity"),
        ("--method.groups", 3, "--views.patch_band", 0.5, "--views.band_channel", "true", "--bag.pool", "mean_std"),
        ("--wave.gain_db", 6, "--bag.batch_norm", "false", "--bag.activation", "tanh", "--backbone.name", "swin_micro"),
    ],
)
def test_every_kind_of_bag_trains_by_flags_alone(tones, tmp_path, monkeypatch, flags):
    if "swin_micro" in flags:  # which has no stages to leave out
        flags = (*flags, "--backbone.stages", 0)
    call(monkeypatch, *command(tones, tmp_path / "run", "--run.epochs", 1, *flags))
    assert (tmp_path / "run" / "report.html").exists()
    assert all(np.isfinite(row["loss"]) for row in rows(tmp_path / "run", "step"))


def test_the_projector_of_a_run_stands_still_in_another(tones, finished, tmp_path, monkeypatch, capsys):
    call(monkeypatch, *command(tones, tmp_path / "run", "--run.epochs", 1, "--method.projector", finished))
    weights = [
        torch.load(max(folder.glob("checkpoints/epoch-*")) / "state.pt", weights_only=True)["models"][0]
        for folder in (finished, tmp_path / "run")
    ]
    projector = [name for name in weights[0] if name.startswith("projector.")]
    assert len(projector) > 5
    assert all(weights[0][name].equal(weights[1][name]) for name in projector)
    assert not weights[0]["bag.head.0.weight"].equal(weights[1]["bag.head.0.weight"])
    capsys.readouterr()
    for flag, value, message in (
        ("--bag.projection_dim", 32, f"--method.projector {finished} has a projector of other shapes"),
        ("--bag.activation", "tanh", f"--method.projector {finished} was trained with --bag.activation relu"),
    ):
        with pytest.raises(SystemExit):
            call(monkeypatch, *command(tones, tmp_path / "other", flag, value, "--method.projector", finished))
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1


def test_a_collapse_is_named_within_fifty_steps(tones, tmp_path, monkeypatch, capsys):
    flags = ("--method.invariance", 100, "--optim.lr_1d", 0.3, "--optim.warmup_share", 0)
    # Rows of 20 steps, as by default.
    call(monkeypatch, *command(tones, tmp_path / "run", *flags, "--run.epochs", 18, "--run.log_steps", 20))
    out = capsys.readouterr().out
    assert "warning: Collapse: the coding rate is" in out
    step = int(out.split("nats at step ")[1].split(",")[0])
    assert step <= 50
    assert rows(tmp_path / "run", "step")[0]["lr"] > 0.2  # two thirds of 0.3 by the cosine: no warm-up


def test_a_finished_run_takes_other_probes_and_other_test_patches(tones, finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished, tmp_path / "run")
    scores, drawn = (tmp_path / "run" / name for name in ("scores.json", "map.html"))
    before = scores.read_bytes(), drawn.stat().st_mtime_ns
    same = ("--run.resume", "--run.precision", "fp32")
    call(monkeypatch, *command(tones, tmp_path / "run", *same))
    assert (scores.read_bytes(), drawn.stat().st_mtime_ns) == before  # nothing is done twice
    capsys.readouterr()
    others = ("--bag.n_patches", 8, "--probe.calibrate_random", "true")
    call(monkeypatch, *command(tones, tmp_path / "run", *same, *others))
    assert "bag.n_patches is now 8 (was 4)" in capsys.readouterr().out
    names = [row["name"] for row in json.loads(scores.read_text())["rows"]]
    assert any("calibrated" in name for name in names)
    assert drawn.stat().st_mtime_ns > before[1]
    assert audiossl.load_model(tmp_path / "run" / "encoder").config.bag.n_patches == 8


def test_the_projector_of_an_encoder_stands_still_in_a_run(tones, tmp_path, monkeypatch, capsys):
    call(monkeypatch, *command(tones, tmp_path / "one", "--run.epochs", 1, "--bag.output", "projection"))
    flags = ("--run.epochs", 1, "--method.projector", tmp_path / "one" / "encoder")
    call(monkeypatch, *command(tones, tmp_path / "two", *flags))
    assert (tmp_path / "two" / "report.html").exists()
    with pytest.raises(SystemExit):
        call(monkeypatch, *command(tones, tmp_path / "three", *flags, "--bag.activation", "none"))
    assert "encoder was trained with --bag.activation relu: give that, in place of none." in capsys.readouterr().err


@pytest.mark.parametrize("preset", presets(RECIPE.stem))
def test_each_preset_builds(preset, tones, tmp_path):
    config = parse(Config, RECIPE.stem, ["--preset", preset, "--bag.feature_dim", "32"])
    shape = EncoderConfig(config.frontend, config.backbone, config.data.clip_s, config.bag, config.views)
    encoder = AudioEncoder.build(shape).eval()
    with torch.no_grad():
        assert encoder(torch.zeros(1, 16000)).shape == (1, encoder.dim)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method.eps", "0"], "--method.eps must be above 0, found 0"),
        (["--views.patch_s", "9"], "--views.patch_s 9 is longer than a clip"),
        (["--run.batch_size", "500"], "500"),
        (["--run.batch_size", "1", "--views.n_patches", "1"], "one patch at a time has no statistics for batch norm"),
        (["--run.batch_size", "1", "--method.spread", "uniformity"], "batches of at least 2 (--run.batch_size)"),
        (["--method.projector", "nowhere"], "--method.projector nowhere: there is no checkpoint in it"),
    ],
)
def test_a_wrong_flag_is_one_sentence(tones, tmp_path, monkeypatch, capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, *command(tones, tmp_path / "run", *flags))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_front_ends_of_all_families_give_patches_and_a_learned_one_learns(tones, tmp_path):
    config = DataConfig(root=str(tones), sample_rate=RATE, clip_s=0.5, limit=24, cache=str(tmp_path))
    training = cache_clips(open_clips(config), config).split("training")
    for kind in ("mel", "cqt", "stft", "leaf"):
        assert kind in FrontEndConfig.get_known_choices()
        own = ["--frontend.type", kind, "--frontend.sample_rate", str(RATE), "--data.clip_s", "0.5"]
        own += ["--backbone.stages", "2", "--bag.feature_dim", "16", "--views.patch_s", "0.25"]
        own += ["--frontend.f_max", "3800", *([] if kind == "stft" else ["--frontend.n_bins", "32"])]
        encoder, patches, method = build(parse(Config, RECIPE.stem, own), training)
        wave = next(iter(training.batches(4))).wave
        method(patches(encoder.image(wave), torch.Generator().manual_seed(0))).loss.backward()
        learned = [] if method.frontend is None else list(method.frontend.parameters())
        assert bool(learned) == (kind == "leaf")
        assert all(parameter.grad is not None for parameter in learned)
