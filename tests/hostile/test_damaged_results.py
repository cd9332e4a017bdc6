"""What a run or a comparison kept for itself, damaged since: it is made again, or refused by name."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from audiossl.compare import measure
from audiossl.errors import UserError
from audiossl.run import files
from audiossl.run.checkpoint import Checkpoints, Position, read_position, read_state
from audiossl.run.conclude_classifier import probe_scores
from audiossl.run.tracking import MetricsFile


@pytest.fixture
def checkpoint(tmp_path):
    state = {"models": [{"weight": torch.arange(1000.0)}], "config": {}}
    return Checkpoints(tmp_path, keep=2, best="knn").save(state, Position(epoch=1, monitors={"knn": 3.0}))


@pytest.mark.parametrize(
    "position", [[], {"epoch": "1"}, {"epoch": -1}, {"step": 1.5}, {"monitors": {"knn": "high"}}, {"monitors": []}]
)
def test_a_position_of_other_kinds_is_refused(checkpoint, position):
    (checkpoint / "position.json").write_text(json.dumps(position))
    with pytest.raises(UserError, match=r"position\.json is damaged"):
        read_position(checkpoint)


@pytest.mark.parametrize("state", [{"models": 3}, {"models": [], "rng": {}}, {"models": [], "config": None}, [], 7])
def test_a_state_of_other_kinds_is_refused(checkpoint, state):
    torch.save(state, checkpoint / "state.pt")
    with pytest.raises(UserError, match=r"state\.pt cannot be read"):
        read_state(checkpoint)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_damaged_result_of_a_cell_is_measured_again(tmp_path, monkeypatch, content):
    (tmp_path / measure.RESULT).write_bytes(content)
    monkeypatch.setattr(measure, "load_model", lambda folder: (_ for _ in ()).throw(UserError("measured anew")))
    with pytest.raises(UserError, match="measured anew"):
        measure.measured_cell(tmp_path, SimpleNamespace(), SimpleNamespace(), None)  # type: ignore[arg-type]


def test_a_comparison_that_forgot_its_clips_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "clips_key", lambda clips: "a")
    measure.refuse_other_clips(tmp_path, {None: None})  # type: ignore[dict-item]
    (tmp_path / "clips.json").write_text("{")
    with pytest.raises(UserError, match=r"clips\.json is damaged"):
        measure.refuse_other_clips(tmp_path, {None: None})  # type: ignore[dict-item]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"extra": 3}', '{"extra": {"scores": 7}}'])
def test_a_damaged_linear_probe_has_no_scores(tmp_path, content):
    (tmp_path / files.LINEAR_PROBE).mkdir()
    (tmp_path / files.LINEAR_PROBE / "config.json").write_text(content)
    assert probe_scores(tmp_path) == {}


def test_lines_of_metrics_that_are_no_rows_are_left_out(tmp_path):
    good = {"kind": "step", "epoch": 0, "step": 3}
    lines = ["7", "[]", "{", "{}", '{"kind": "epoch"}', '{"kind": "step", "step": "x"}', json.dumps(good)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.cut(epoch=1, step=3)
    assert metrics.rows() == [good]
