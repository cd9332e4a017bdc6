"""The comparison's cells, budget, tables and page from fabricated results; and a small one from start to end."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audiossl.recipes import compare

from audiossl.compare.cells import all_cells
from audiossl.compare.config import DEFAULT_METHODS, METHODS, CompareConfig
from audiossl.compare.page import write_comparison
from audiossl.compare.run import CellFailed, Runner
from audiossl.compare.table import Row, csv_text, floor_row, learned_row, markdown, row_name
from audiossl.config import parse
from audiossl.data import DataConfig
from audiossl.errors import UserError

RATE = 8000
RECIPE = Path(compare.__file__)
# Pictures of 32 x 16 and half a second: an epoch takes a blink.
TINY = (
    "--frontend.n_fft 256 --frontend.win_length 256 --frontend.hop_length 250 --frontend.f_max 3800 "
    "--frontend.n_bins 32 --run.batch_size 8 --run.threads 1 --backbone.stages 2"
)


def config(**settings):
    return CompareConfig(**{"epochs": 1, "data": DataConfig(root="somewhere"), **settings})


# -- cells ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_is_a_recipe_that_takes_its_flags(method):
    (cell,) = all_cells(config(methods=[method], seeds=[7]), [])
    settings = cell.settings()
    assert settings.run.seed == 7
    assert cell.recipe.is_file()
    if not method.startswith("byola"):
        assert (settings.backbone.name, settings.backbone.stages, settings.backbone.zero_init) == ("resnet10", 3, False)
        assert (settings.frontend.n_bins, settings.frontend.hop_length) == (32, 334)


def test_cells_are_the_grid_with_every_rows_first_seed_before_any_second():
    cells = all_cells(config(frontends=["mel", "cqt"], backbones=["resnet10", "swin_micro"], seeds=[0, 1]), [])
    assert len(cells) == 2 * 2 * 2 * len(DEFAULT_METHODS)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert len({(cell.row, cell.seed) for cell in cells}) == len(cells)
    assert {cell.settings().backbone.name for cell in cells} == {"resnet10", "swin_micro"}


def test_a_published_recipe_keeps_its_own_front_end_and_network():
    cells = all_cells(config(methods=["byola_v1"], frontends=["mel", "cqt"], seeds=[0]), [])
    assert [cell.row for cell in cells] == [("byola_v1", "own", "own")]
    assert cells[0].settings().backbone.name == "audiontt_2020"


def test_other_rates_and_lengths_reach_front_end_and_views():
    data = DataConfig(root="somewhere", sample_rate=8000, clip_s=2.0)
    for cell in all_cells(config(data=data, seeds=[0]), []):
        settings = cell.settings()
        assert (settings.data.sample_rate, settings.frontend.sample_rate, settings.frontend.hop_length) == (
            8000,
            8000,
            167,
        )
        assert settings.frontend.f_max == 3900
        lengths = {getattr(settings.views, name) for name in ("view_s", "global_s") if hasattr(settings.views, name)}
        assert lengths in ({2.0}, set())
        if cell.method == "emp_ssl":
            assert settings.views.patch_s == 1.0


def test_a_folder_is_another_for_every_setting_that_matters_and_the_same_elsewhere(tmp_path):
    (cell,) = all_cells(config(methods=["byol"], seeds=[0]), [])
    (moved,) = all_cells(config(methods=["byol"], seeds=[0], data=DataConfig(root="elsewhere")), [])
    (other,) = all_cells(config(methods=["byol"], seeds=[0], flags="--optim.lr 0.5"), [])
    assert cell.folder(tmp_path, 3) == moved.folder(tmp_path, 3)
    assert len({cell.folder(tmp_path, 3), cell.folder(tmp_path, 4), other.folder(tmp_path, 3)}) == 3
    assert cell.folder(tmp_path, 3).name.startswith("byol-mel-resnet10-seed0-")


def test_flags_of_one_method_come_from_a_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("byol: --optim.lr 0.125 --views.fader 0.25\n")
    byol, supervised = all_cells(config(methods=["byol", "supervised"], seeds=[0], settings=str(path)), [])
    assert byol.settings().optim.lr == 0.125
    assert supervised.settings().optim.lr != 0.125


def test_flags_of_one_front_end_come_from_the_same_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("emd: --frontend.cache pictures\n")
    mel, emd = all_cells(config(methods=["byol"], frontends=["mel", "emd"], seeds=[0], settings=str(path)), [])
    assert emd.settings().frontend.cache == "pictures"
    assert mel.settings().frontend.type == "mel"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ["moco"]}, "--methods has 'moco': choose from supervised"),
        ({"seeds": []}, "--seeds is empty"),
        ({"seeds": [1, 1]}, "--seeds is 1,1; give each value once"),
        ({"epochs": 0}, "needs one budget, --minutes, --epochs or --steps, and was given none"),
        ({"minutes": 2.0}, "was given --minutes 2, --epochs 1"),
        ({"flags": "'"}, "--flags .* cannot be split"),
    ],
)
def test_wrong_settings_are_one_sentence(settings, message):
    with pytest.raises(UserError, match=message):
        config(**settings)


def test_a_flag_that_a_recipe_does_not_know_is_said_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match=r"--optim\.rl"):
        all_cells(config(methods=["byol"], flags="--optim.rl 0.5"), [])
    (tmp_path / "s.yaml").write_text("moco: --optim.lr 1\n")
    with pytest.raises(UserError, match="has 'moco'"):
        all_cells(config(settings=str(tmp_path / "s.yaml")), [])
    with pytest.raises(UserError, match="cannot be read"):
        all_cells(config(settings=str(tmp_path / "none.yaml")), [])


# -- budget --------------------------------------------------------------------------------------------------


def test_steps_and_minutes_become_epochs(tmp_path):
    (cell,) = all_cells(config(methods=["contrastive"], seeds=[0]), [])
    per_epoch = 1000 // cell.settings().run.batch_size
    steps = Runner(config(epochs=0, steps=5 * per_epoch + 1, out=str(tmp_path)), 1000, print)
    assert steps.epochs(cell) == 5
    minutes = Runner(config(epochs=0, minutes=2.0, out=str(tmp_path)), 1000, print)
    (tmp_path / "timing.json").write_text(json.dumps({cell.setting(): 50.0}))
    assert minutes.epochs(cell) == 6  # 120 s x 50 clips a second / 1,000 clips
    (tmp_path / "timing.json").write_text(json.dumps({cell.setting(): 0.5}))
    assert minutes.epochs(cell) == 1


@pytest.mark.parametrize("content", ["{", "[]", '{"SETTING": null}', 3000 * "["])
def test_a_damaged_timing_is_measured_again(tmp_path, monkeypatch, content):
    (cell,) = all_cells(config(methods=["contrastive"], seeds=[0]), [])
    (tmp_path / "timing.json").write_text(content.replace("SETTING", cell.setting()))
    runner = Runner(config(epochs=0, minutes=2.0, out=str(tmp_path)), 1000, print)
    monkeypatch.setattr(runner, "_call", lambda *_: None)
    monkeypatch.setattr("audiossl.compare.run.epoch_rows", lambda _: [{"clips_per_second": 50.0}])
    monkeypatch.setattr("audiossl.compare.run.speed", lambda row: row["clips_per_second"])
    assert runner.epochs(cell) == 6
    assert json.loads((tmp_path / "timing.json").read_text()) == {cell.setting(): 50.0}


# -- tables --------------------------------------------------------------------------------------------------


def result(method="byol", seed=0, fold=None, frontend="mel", **scores):
    costs = {
        "epochs": 3,
        "steps": 90,
        "seconds": 90.0,
        "passes": 2e6,
        "memory_gb": 1.5,
        "parameters": 1.2e6,
        "dim": 256,
    }
    place = {"method": method, "frontend": frontend, "backbone": "resnet10", "seed": seed, "fold": fold}
    return {**place, "folder": f"{method}-{seed}", "scores": scores, "costs": costs, "network": "n"}


def test_a_row_is_the_mean_and_range_over_seeds():
    row = learned_row("BYOL", "byol", [result(kNN=60.0), result(seed=1, kNN=70.0)], [])
    assert str(row.scores["kNN"]) == "65.0 (60.0-70.0)"
    assert row.costs["minutes"] == 1.5
    assert row.kind == "learned"


def test_over_folds_it_is_the_deviation_of_their_means():
    results = [result(fold=fold, seed=seed, kNN=value) for fold, seed, value in
               [("a", 0, 50.0), ("a", 1, 52.0), ("b", 0, 70.0), ("b", 1, 72.0)]]  # fmt: skip
    score = learned_row("BYOL", "byol", results, []).scores["kNN"]
    assert score.mean == 61.0
    assert score.std == pytest.approx(np.std([51.0, 71.0], ddof=1))
    floor = floor_row("random", [[{"kNN": 10.0}, {"kNN": 20.0}], [{"kNN": 40.0}]]).scores["kNN"]
    assert floor.mean == pytest.approx((15 + 40) / 2)


def test_the_best_of_those_without_labels_is_bold_and_failures_say_why():
    rows = [
        Row("supervised", "supervised", learned_row("s", "supervised", [result(kNN=90.0)], []).scores),
        learned_row("BYOL", "byol", [result(kNN=60.0)], []),
        learned_row("SimSiam", "simsiam", [result("simsiam", kNN=50.0)], []),
        learned_row("EsViT", "esvit", [], ["--views.x is wrong (exit code 2; see log)"]),
        floor_row("log-mel", [[{"kNN": 95.0}]]),
    ]
    text = markdown(rows, "Small print.")
    assert "| supervised | 90.0 |" in text
    assert "| BYOL | **60.0** |" in text
    assert "| SimSiam | 50.0 |" in text
    assert "| EsViT | failed: --views.x is wrong" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1
    assert text.endswith("Small print.\n")


def test_names_leave_out_what_all_rows_share():
    rows = [("byol", "mel", "resnet10"), ("simsiam", "mel", "resnet10")]
    assert [row_name(row, rows) for row in rows] == ["BYOL", "SimSiam"]
    rows = [("byol", "mel", "resnet10"), ("byola_v1", "own", "own")]
    assert [row_name(row, rows) for row in rows] == ["BYOL, mel, resnet10", "BYOL-A v1"]


def test_csv_holds_every_number_by_itself():
    text = csv_text([result(kNN=60.0), result(seed=1, kNN=70.0)], [floor_row("chance", [[{"kNN": 10.0}]])])
    rows = list(csv.DictReader(io.StringIO(text)))
    knn = [row for row in rows if row["column"] == "kNN"]
    assert [(row["method"], row["seed"], row["value"]) for row in knn] == [
        ("byol", "0", "60"), ("byol", "1", "70"), ("chance", "", "10"),
    ]  # fmt: skip
    assert sum(row["column"] == "passes" for row in rows) == 2


def test_the_page_shows_all_rows_and_loads_nothing(tmp_path):
    rows = [
        learned_row("BYOL <1>", "byol", [result(kNN=60.0), result(seed=1, kNN=70.0)], []),
        learned_row("EsViT", "esvit", [], ["no clips & no luck"]),
        floor_row("chance", [[{"kNN": 10.0}]]),
    ]
    page = write_comparison(tmp_path / "c.html", "nine words", rows, "Small.", [("byol-0", "cells/byol-0/report.html")])
    text = page.read_text()
    assert "BYOL &lt;1&gt;" in text
    assert "failed: no clips &amp; no luck" in text
    assert text.count("<rect") == 2
    assert text.count("<circle") == 2  # accuracy over minutes, and over passes
    assert 'href="cells/byol-0/report.html"' in text
    assert "http" not in text.replace("http-equiv", "")


# -- from start to end ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Two "words" by four "speakers": low and high tones in noise."""
    root, random = tmp_path_factory.mktemp("words"), np.random.default_rng(0)
    t = np.arange(RATE // 2) / RATE
    for word, pitch in (("low", 300), ("high", 1800)):
        (root / word).mkdir()
        for speaker in range(4):
            for take in range(6):
                wave = 0.3 * np.sin(2 * np.pi * pitch * (1 + 0.1 * speaker) * t) + 0.05 * random.standard_normal(len(t))
                soundfile.write(root / word / f"{speaker:08x}_nohash_{take}.wav", wave, RATE)
    for name, speaker in (("validation", 2), ("testing", 3)):
        lines = [f"{word}/{speaker:08x}_nohash_{take}.wav" for word in ("low", "high") for take in range(6)]
        (root / f"{name}_list.txt").write_text("\n".join(lines))
    return root


def command(root, out, *flags, tiny=TINY):
    fixed = ["--data.root", str(root), "--data.sample_rate", str(RATE), "--data.clip_s", "0.5", "--out", str(out)]
    return [*fixed, "--seeds", "0", "--epochs", "1", "--random_seeds", "0", f"--flags={tiny}", *flags]


def call(*arguments):
    return compare.main(parse(CompareConfig, RECIPE.name, [*map(str, arguments)]))


def test_a_comparison_is_done_once_and_a_cell_that_fails_leaves_the_others_alone(words, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "s.yaml").write_text("byol: --run.batch_size 500\n")  # more than there are clips
    flags = command(words, out, "--methods", "contrastive,byol", "--settings", tmp_path / "s.yaml")
    assert call(*flags) == 1
    text = (out / "comparison.md").read_text()
    assert "| contrastive (NT-Xent) | **" in text
    assert "| BYOL | failed: --run.batch_size is 500" in text
    for row in ("random weights", "log-mel mean + std", "MFCC mean + std", "chance"):
        assert f"| {row} |" in text
    assert "48 clips, 4 speakers, 2 labels" in text
    assert (out / "comparison.html").exists()
    (done,) = (out / "cells").glob("*/cell.json")
    before = done.stat().st_mtime_ns
    (tmp_path / "s.yaml").write_text("byol: --run.batch_size 8\n")  # mended: the other one is not run again
    capsys.readouterr()
    assert call(*flags) == 0
    assert done.stat().st_mtime_ns == before
    said = capsys.readouterr().out
    assert "training byol" in said
    assert "training contrastive" not in said
    rows = list(csv.DictReader((out / "comparison.csv").open()))
    assert {row["method"] for row in rows} >= {"contrastive", "byol"}


def test_clips_without_labels_keep_the_columns_that_need_none(words, tmp_path):
    root = tmp_path / "sounds"
    root.mkdir()
    for path in words.glob("*/*.wav"):
        (root / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    out = tmp_path / "out"
    assert call(*command(root, out, "--methods", "contrastive", "--data.name", "folder")) == 0
    head = (out / "comparison.md").read_text().splitlines()[0]
    assert "| agreement | RankMe | spread, % |" in head
    assert "kNN" not in head
    assert "random weights" in (out / "comparison.md").read_text()


@pytest.mark.slow
def test_every_speaker_is_tested_once(words, tmp_path):
    out = tmp_path / "out"
    assert call(*command(words, out, "--methods", "contrastive", "--folds", "speaker")) == 0
    assert len(list((out / "cells").glob("*/cell.json"))) == 4
    text = (out / "comparison.md").read_text()
    assert "in the first of 4 folds by speaker, mean ± deviation over them" in text


def test_a_signal_reaches_the_cell_and_the_comparison_goes_on_later(words, tmp_path):
    out = tmp_path / "out"
    flags = command(words, out, "--methods", "contrastive", tiny=f"{TINY} --run.checkpoint_minutes 0.00001")
    flags[flags.index("--epochs") + 1] = "400"
    process = subprocess.Popen([sys.executable, RECIPE, *map(str, flags)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    end = time.monotonic() + 120
    while not list(out.glob("cells/*/checkpoints/epoch-0001*")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    (folder,) = (path for path in (out / "cells").iterdir() if path.is_dir())
    assert "stopped by signal 15" in (out / "cells" / f"{folder.name}.log.txt").read_text()
    assert not (folder / "cell.json").exists()


def test_a_program_that_dies_is_a_failed_cell(words, tmp_path, monkeypatch):
    (cell,) = all_cells(config(methods=["contrastive"], seeds=[0]), [])
    monkeypatch.setattr("audiossl.compare.run.ONE_PROCESS", "--no_such_flag")
    with pytest.raises(CellFailed, match="exit code"):
        Runner(config(out=str(tmp_path)), 100, print).run(cell)


def test_it_is_not_launched_in_several_processes(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="a comparison is one process that launches its cells"):
        call("--data.root", tmp_path, "--epochs", "1")


def test_rows_of_random_weights_are_named_by_what_tells_their_networks_apart():
    from audiossl.compare.result import Results

    def names(settings, results):
        found = Results(config(**settings), all_cells(config(**settings), []), {}, None)
        for one in results:
            found.add(one)
        return found._network_names()

    pictures = [result(frontend=kind) | {"network": kind} for kind in ("mel", "cqt")]
    assert names({"methods": ["byol"], "frontends": ["mel", "cqt"]}, pictures) == {"mel": " (mel)", "cqt": " (cqt)"}
    methods = [result("byol"), result("esvit"), result("emp_ssl") | {"network": "bag"}]
    assert names({"methods": ["byol", "esvit", "emp_ssl"]}, methods) == {"n": "", "bag": " (EMP-SSL)"}
