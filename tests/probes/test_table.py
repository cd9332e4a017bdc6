from __future__ import annotations

import json

import numpy as np
import pytest

from audiossl.errors import UserError
from audiossl.probes.features import extract
from audiossl.probes.few_shot import few_shot
from audiossl.probes.knn import knn_predict
from audiossl.probes.table import ALL_COLUMNS, QUICK_COLUMNS, probe_table


@pytest.fixture
def few_columns():
    return ("kNN", "LR", "1", "20")


def test_every_row_and_column_is_there(make_clips, encoder, few_columns):
    table = probe_table(encoder, make_clips(), random_seeds=(0, 1), columns=few_columns)
    assert [row.name for row in table.rows] == [
        "encoder",
        "same network, random weights",
        "log-mel mean + std",
        "log-mel, 8 time segments",
        "most frequent label",
        "chance",
    ]
    for row in table.rows[:4]:
        assert list(row.scores) == list(few_columns)
        assert all(0 <= cell.mean <= 100 for cell in row.scores.values())
    assert table.row("chance").scores["kNN"].mean == pytest.approx(100 / 3)
    assert table.row("log-mel mean + std").scores["LR"].mean > 90  # the bands are easy to hear


def test_cells_are_the_probes(make_clips, encoder):
    clips = make_clips()
    table = probe_table(encoder, clips, random_seeds=(0, 1, 2), columns=("kNN", "5"))

    def knn(network):
        data = extract(network, clips).probe_data()
        return 100 * np.mean(knn_predict(data.train.x, data.train.y, data.test.x) == data.test.y)

    assert table.row("encoder").scores["kNN"].mean == pytest.approx(knn(encoder))
    five = few_shot(extract(encoder, clips).probe_data(), 5)
    assert table.row("encoder").scores["5"].mean == pytest.approx(100 * five.mean)
    assert table.row("encoder").scores["5"].std == pytest.approx(100 * five.std)
    twins = [knn(encoder.randomised(seed)) for seed in (0, 1, 2)]
    cell = table.row("same network, random weights").scores["kNN"]
    assert (cell.mean, cell.low, cell.high) == pytest.approx((np.mean(twins), min(twins), max(twins)))


def test_markdown_says_what_was_measured(make_clips, encoder, few_columns):
    text = probe_table(encoder, make_clips(), random_seeds=(4,), columns=few_columns).markdown()
    lines = text.splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == [
        "features", "dim", "kNN", "LR", "1 a class", "20",
    ]  # fmt: skip
    assert len({len(line) for line in lines[:8]}) == 1  # columns stand below each other in a terminal too
    assert "60 / 30 / 30 labelled clips (by number)" in text
    assert "seeds 4" in text
    assert "unknown speakers" in text


def test_small_classes_are_named(make_clips, encoder):
    table = probe_table(encoder, make_clips(), random_seeds=(), columns=("100",))
    assert "Fewer than 100 training clips, used whole: band0, band1, band2." in table.markdown()
    assert table.about["short_labels"] == {"100": ["band0", "band1", "band2"]}


def test_json_holds_all_of_it(make_clips, encoder):
    table = probe_table(encoder, make_clips(), random_seeds=(0,), columns=("kNN", "LR"))
    content = json.loads(table.to_json())
    assert content["columns"] == ["kNN", "LR"]
    assert content["about"]["random_seeds"] == [0]
    assert content["rows"][0]["scores"]["LR"]["chosen"]["C"] > 0
    assert content["rows"][0]["dim"] == 5


def test_clips_that_cannot_be_probed_are_refused(make_clips, encoder):
    clips = make_clips()
    clips.label_ids = np.full(len(clips), -1)
    with pytest.raises(UserError, match="training split holds no labelled clip"):
        probe_table(encoder, clips)
    with pytest.raises(UserError, match="same label"):
        probe_table(encoder, make_clips(classes=1))
    with pytest.raises(UserError, match="no probe 'svm'"):
        probe_table(encoder, make_clips(), columns=("svm",))


def test_the_quick_form_is_a_part_of_the_whole():
    assert set(QUICK_COLUMNS) < set(ALL_COLUMNS)
