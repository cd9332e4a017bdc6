"""Means, metrics.jsonl, trackers, console."""

import json
import math

import pytest
import torch

from audiossl.errors import UserError
from audiossl.run.console import Console
from audiossl.run.tracking import Meter, MetricsFile, check_trackers, tracker_config


def test_meter_is_the_mean_and_survives_a_checkpoint():
    meter = Meter()
    meter.add({"loss": torch.tensor(1.0, requires_grad=True), "kl": 3})
    meter.add({"loss": torch.tensor(4.0, dtype=torch.bfloat16)})
    other = Meter()
    other.load_state_dict(meter.state_dict(), torch.device("cpu"))
    for one in (meter, other):
        assert one.mean() == {"loss": 2.5, "kl": 3.0}
    meter.clear()
    assert meter.mean() == {}
    assert other.mean() != {}


def test_meter_does_not_change_what_is_logged():
    loss = torch.tensor(1.0)
    meter = Meter()
    meter.add({"loss": loss})
    meter.add({"loss": loss})
    assert loss.item() == 1.0


def test_cut_drops_what_lies_behind_the_checkpoint(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    assert metrics.rows() == []
    rows = [
        {"kind": "step", "epoch": 0, "step": 2},
        {"kind": "epoch", "epoch": 0, "step": 3},
        {"kind": "step", "epoch": 1, "step": 4},
        {"kind": "step", "epoch": 1, "step": 6},
        {"kind": "epoch", "epoch": 1, "step": 6},
    ]
    for row in rows:
        metrics.append(row)
    with open(metrics.path, "a") as file:
        file.write('{"kind": "step", "ep')  # a kill in the middle of a line
    assert metrics.rows() == rows
    metrics.cut(epoch=1, step=6)  # checkpoint behind the last step, before the epoch's end
    assert metrics.rows() == rows[:4]
    metrics.cut(epoch=1, step=4)
    assert metrics.rows() == rows[:3]
    metrics.append({"kind": "step", "epoch": 1, "step": 6, "loss": math.nan})
    assert len(metrics.path.read_text().splitlines()) == 4
    metrics.cut(epoch=0, step=0)
    assert metrics.rows() == []


def test_unwritable_metrics_are_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written .*--run\.resume"):
        MetricsFile(tmp_path / "gone" / "metrics.jsonl").append({})


def test_trackers_are_checked():
    check_trackers(["tensorboard"])
    with pytest.raises(UserError, match=r"--run\.trackers tensorbord: .*did you mean tensorboard\?"):
        check_trackers(["tensorbord"])
    with pytest.raises(UserError, match=r"--run\.trackers aim: its package is not installed"):
        check_trackers(["aim"])


def test_tracker_config_is_flat_and_plain():
    flat = {"a": None, "b": [], "c": (1, 2), "d": {"x": 1}, "e": True, "f": 1e-3}
    plain = tracker_config(flat)
    assert plain == {"a": "none", "b": "", "c": "1, 2", "d": "{'x': 1}", "e": True, "f": 1e-3}
    json.dumps(plain)


def test_console_prints_a_row_and_a_line_a_minute(capsys):
    console = Console(silent=False, main=True)
    console.start(0, 3, 0, 10)
    console.advance(0, 1, 10, None)
    assert capsys.readouterr().out == ""
    console._spoke -= 61.0
    console.advance(0, 2, 10, 1.5)
    assert capsys.readouterr().out == "epoch 1, batch 2 of 10, loss 1.5000\n"
    console.row({"epoch": "1/3", "loss": 1.5, "lr": 1e-4, "clips_per_second": 812.3})
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["epoch", "loss", "lr"]
    assert row.split() == ["1/3", "1.500", "1.00e-04", "-", "-", "-", "812.3", "-", "-"]


def test_quiet_and_other_ranks(capsys):
    Console(silent=True, main=True).say("a")
    Console(silent=False, main=False).warn("b")
    assert capsys.readouterr().out == ""
    Console(silent=True, main=True).warn("c")
    assert capsys.readouterr().out == "c\n"
