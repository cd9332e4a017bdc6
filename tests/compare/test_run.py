"""What a cell is told, how long it is trained, and how its end is read; the clips that a comparison is of."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from audiossl.transforms import FrontEndConfig, build_frontend

from audiossl.compare.cells import all_cells
from audiossl.compare.config import CompareConfig
from audiossl.compare.measure import Floors, clips_key, refuse_other_clips
from audiossl.compare.run import Runner, _last_words, _passing_signals_on, _wait_for_all, speed
from audiossl.compare.table import best_of, floor_row, learned_row, markdown
from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.errors import UserError

PICTURES = sorted(set(FrontEndConfig.get_known_choices()) - {"stack"})  # which has parts of its own to name


def config(**settings):
    return CompareConfig(**{"epochs": 1, "seeds": [0], "data": DataConfig(root="somewhere"), **settings})


def one_cell(**settings):
    (cell,) = all_cells(config(**{"methods": ["byol"], **settings}), [])
    return cell


# -- flags and budget ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("kind", PICTURES)
def test_every_picture_has_48_frames_a_second_at_every_rate(kind, rate):
    cell = one_cell(frontends=[kind], data=DataConfig(root="somewhere", sample_rate=rate))
    frontend = build_frontend(cell.settings().frontend)
    assert abs(frontend.n_frames(rate) - 48) <= 1
    assert max(frontend.frequencies) <= rate / 2
    if hasattr(cell.settings().frontend, "n_bins"):
        assert frontend.n_bins == 32


def test_speed_is_shared_by_seeds_and_folds_and_by_no_other_setting(tmp_path):
    folds = [tmp_path / "fold-a", tmp_path / "fold-b"]
    cells = all_cells(config(methods=["byol"], seeds=[0, 1]), folds)
    assert len(cells) == 4
    assert len({cell.setting() for cell in cells}) == 1
    others = [one_cell(flags="--run.batch_size 7"), one_cell(frontends=["cqt"]), one_cell(methods=["simsiam"])]
    assert len({cell.setting() for cell in [one_cell(), *others]}) == 4


def test_steps_are_counted_over_all_processes(tmp_path):
    cell = one_cell(flags="--run.batch_size 10 --run.accumulate 2")

    def epochs(launch):
        return Runner(config(epochs=0, steps=100, launch=launch, out=str(tmp_path)), 1000, print).epochs(cell)

    assert epochs("") == 2  # 50 steps an epoch
    assert epochs("--multi_gpu --num_processes 5") == 10
    assert epochs("--multi_gpu --num-processes=5") == 10


def test_a_speed_is_of_so_many_processes(tmp_path, monkeypatch):
    cell, timed = one_cell(), []
    monkeypatch.setattr(Runner, "_call", lambda self, cell, folder, flags: timed.append((folder.name, flags)))
    monkeypatch.setattr("audiossl.compare.run.epoch_rows", lambda folder: [{"clips_per_second": 50.0}])
    for launch in ("", "--num_processes 40", ""):
        settings = config(epochs=0, minutes=1.0, launch=launch, out=str(tmp_path))
        assert Runner(settings, 1000, print).epochs(cell) == 3  # 60 s x 50 clips a second / 1,000 clips
    assert [name for name, _ in timed] == [cell.setting(), f"{cell.setting()}-40processes"]
    clips = [int(flags[flags.index("--data.limit") + 1]) for _, flags in timed]
    assert clips == [1024, 8 * 40 * cell.settings().run.batch_size]  # enough for some steps of all processes


def test_on_a_cpu_speed_is_by_its_clock():
    assert speed({"clips_per_second": 50.0, "clips_per_cpu_second": 80.0}) == 80.0
    assert speed({"clips_per_second": 50.0}) == 50.0  # a GPU's work is not on it


@pytest.mark.parametrize("launch", ["--multi_gpu", "--num_processes all", "--num_machines 1"])
def test_a_launch_must_say_how_many_processes(launch):
    with pytest.raises(UserError, match=r"does not say how many processes: add --num_processes N"):
        config(launch=launch)


# -- the end of a cell ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "code", "said"),
    [
        ("audiossl: error: --run.x is wrong.\ntorch.distributed ChildFailedError: \nexitcode: 1\n", 1, "--run.x is"),
        ("[rank0]: audiossl: error: --run.x is wrong.\n", 1, "--run.x is wrong. (exit code 1"),
        ("Traceback (most recent call last):\n  x()\nKeyError: 'x'\nsome other line\n", 1, "KeyError: 'x' (exit code"),
        ("starting\n", -9, "starting (ended by signal 9"),
        ("", 3, " (exit code 3"),
    ],
)
def test_the_reason_is_the_programs_own_sentence(tmp_path, log, code, said):
    path = tmp_path / "cell.log.txt"
    path.write_text(log)
    assert _last_words(path, code).startswith(said)


def test_a_stopped_comparison_waits_for_what_the_launcher_started(tmp_path):
    # A launcher that dies of the signal, and a training that takes a second to write its checkpoint.
    training = "import signal, sys, time, pathlib; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), "
    training += "pathlib.Path(sys.argv[1]).touch(), sys.exit())); pathlib.Path(sys.argv[2]).touch(); time.sleep(60)"
    launcher = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    written, begun = tmp_path / "written", tmp_path / "begun"
    words = [sys.executable, "-c", launcher, training, str(written), str(begun)]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
    with child, _passing_signals_on(child) as stopped:
        while not begun.exists():
            time.sleep(0.01)
        subprocess.run([sys.executable, "-c", "import os, signal; os.kill(os.getppid(), signal.SIGTERM)"], check=True)
        assert child.wait() == -15
        assert stopped == [15]
        _wait_for_all(child)
        assert written.exists()


# -- what is shown -------------------------------------------------------------------------------------------


def result(seed, **scores):
    costs = dict.fromkeys(("epochs", "steps", "seconds", "passes", "memory_gb", "parameters", "dim"), 1.0)
    return {"method": "byol", "seed": seed, "fold": None, "scores": scores, "costs": costs}


def test_a_seed_that_failed_is_told_beside_the_scores_of_the_others():
    row = learned_row("BYOL", "byol", [result(0, kNN=60.0), result(2, kNN=70.0)], ["the disk | is full"])
    text = markdown([row], "Small print.")
    assert "| BYOL | **65.0 (60.0-70.0)** |" in text
    assert "\nBYOL is of 2 cells: failed: the disk | is full\n" in text


def test_a_reason_with_a_bar_does_not_tear_the_table():
    lines = markdown([learned_row("BYOL", "byol", [], ["a | b"])], "").splitlines()
    assert lines[2].replace("\\|", "").count("|") == lines[0].count("|")


def test_nothing_is_called_best_for_measures_that_have_no_better():
    rows = [learned_row("BYOL", "byol", [result(0, kNN=60.0, RankMe=9.0)], [])]
    assert best_of(rows, ["kNN", "RankMe"]) == {"kNN": "BYOL"}


# -- clips ---------------------------------------------------------------------------------------------------


@pytest.fixture
def clips_of(tmp_path):
    """Make clips of noise from a manifest of (label, split)."""
    import soundfile

    random = np.random.default_rng(0)

    def make(rows, name="some"):
        folder = tmp_path / name
        folder.mkdir()
        lines = ["path,label,split"]
        for number, (label, split) in enumerate(rows):
            path = folder / f"{number}.wav"
            soundfile.write(path, (0.1 * random.standard_normal(4000)).astype(np.float32), 8000)
            lines.append(f"{path},{label},{split}")
        (folder / "clips.csv").write_text("\n".join(lines))
        data = DataConfig(root=str(folder / "clips.csv"), sample_rate=8000, clip_s=0.5, cache=str(tmp_path / "cache"))
        return cache_clips(open_clips(data), data)

    return make


SPLITS = ("training", "validation", "testing")
TWO = [(label, split) for label in "ab" for split in SPLITS for _ in range(4)]


def test_a_comparison_is_of_one_set_of_clips(tmp_path, clips_of):
    first, other = clips_of(TWO), clips_of(TWO[::-1], "other")
    refuse_other_clips(tmp_path, {None: first})
    refuse_other_clips(tmp_path, {None: first})
    with pytest.raises(UserError, match="is a comparison on other clips"):
        refuse_other_clips(tmp_path, {None: other})
    refuse_other_clips(tmp_path, {tmp_path / "fold-a": other})  # folds are clips of their own
    assert json.loads((tmp_path / "clips.json").read_text()) == {"": clips_key(first), "fold-a": clips_key(other)}


def floors_of(out, clips):
    return Floors(out, [0], None, lambda text: None).of_clips(clips)


def test_floors_are_measured_once(tmp_path, clips_of):
    clips, said = clips_of(TWO), []
    floors = Floors(tmp_path, [0], None, said.append)
    rows = floors.of_clips(clips)
    assert rows["chance"][0]["kNN"] == 50.0
    assert {"kNN", "20", "20 std", "RankMe"} <= set(rows["MFCC mean + std"][0])
    assert "agreement" not in rows["MFCC mean + std"][0]
    assert floors.of_clips(clips) == rows
    assert len(said) == 1


@pytest.mark.parametrize("rows", [[("a", split) for split in SPLITS for _ in range(4)], [("", "")] * 12])
def test_one_class_or_none_keeps_the_columns_that_need_no_labels(tmp_path, clips_of, rows):
    found = floors_of(tmp_path, clips_of(rows))
    assert "chance" not in found
    assert all(set(scores[0]) == {"RankMe", "spread, %"} for scores in found.values())
    row = floor_row("log-mel", [found["log-mel mean + std"]])
    assert np.isfinite(row.scores["RankMe"].mean)


@pytest.mark.parametrize("split", SPLITS)
def test_a_class_with_one_clip_is_no_obstacle(tmp_path, clips_of, split):
    found = floors_of(tmp_path, clips_of([*TWO, ("rare", split)]))
    assert {"kNN", "LR", "one-vs-rest", "1", "100"} <= set(found["log-mel mean + std"][0])
