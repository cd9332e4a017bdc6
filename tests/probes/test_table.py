from __future__ import annotations

import json

import numpy as np
import pytest

from audiossl.errors import UserError
from audiossl.probes.columns import chosen_columns
from audiossl.probes.config import LinearSGDConfig
from audiossl.probes.features import extract
from audiossl.probes.few_shot import few_shot
from audiossl.probes.knn import knn_predict
from audiossl.probes.linear_sgd import linear_sgd
from audiossl.probes.logistic import one_vs_rest_probe
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
        "MFCC mean + std",
        "most frequent label",
        "chance",
    ]
    for row in table.rows[:5]:
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
    assert len({len(line) for line in lines[:9]}) == 1  # columns stand below each other in a terminal too
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
    with pytest.raises(UserError, match="no probe 'kNN 0'"):
        probe_table(encoder, make_clips(), columns=("kNN 0",))


def test_the_quick_form_is_a_part_of_the_whole():
    assert set(QUICK_COLUMNS) < set(ALL_COLUMNS)


def test_columns_are_chosen_by_flags():
    assert chosen_columns([20], linear_sgd=False, quick=False) == ALL_COLUMNS
    assert chosen_columns([20], linear_sgd=False, quick=True) == QUICK_COLUMNS
    assert chosen_columns([200, 10, 10], linear_sgd=True, quick=True) == ("kNN 10", "kNN 200", "linear", "linear SGD")
    assert chosen_columns([5], linear_sgd=False, quick=True) == ("kNN 5", "linear")
    quick = chosen_columns([20], linear_sgd=True, quick=True, one_vs_rest=True)
    assert quick == ("kNN", "linear", "linear SGD", "one-vs-rest")
    whole = chosen_columns([20], linear_sgd=False, quick=False, one_vs_rest=True)
    assert whole == ("kNN", "linear", "LR", "one-vs-rest", "1", "5", "20", "100")


def test_one_vs_rest_is_a_column_where_it_is_asked_for(make_clips, encoder):
    table = probe_table(encoder, make_clips(), random_seeds=(), columns=("one-vs-rest",))
    expected = one_vs_rest_probe(extract(encoder, make_clips()).probe_data())
    cell = table.row("encoder").scores["one-vs-rest"]
    assert cell.mean == pytest.approx(100 * expected.test)
    assert cell.chosen == {**expected.chosen, "validation": 100 * expected.validation}
    assert "one-vs-rest: a logistic regression for each label" in table.markdown()
    assert "one-vs-rest" not in ALL_COLUMNS
    assert "one-vs-rest" not in probe_table(encoder, make_clips(), random_seeds=(), columns=("kNN",)).markdown()


def test_several_k_are_what_each_gives_and_too_large_ones_are_said(make_clips, encoder):
    clips = make_clips(classes=6)
    table = probe_table(encoder, clips, random_seeds=(), columns=("kNN 10", "kNN 20", "kNN 200"))
    data = extract(encoder, clips).probe_data()
    for k in (10, 20, 200):
        cell = table.row("encoder").scores[f"kNN {k}"]
        predicted = knn_predict(data.train.x, data.train.y, data.test.x, k=k)
        assert cell.mean == pytest.approx(100 * np.mean(predicted == data.test.y))
        assert cell.mean <= cell.top5 <= 100
    text = table.markdown()
    assert "k 10, 20, 200, weight" in text
    assert "Of kNN 200 all 60 training clips vote." in text
    assert "Top-5 of the encoder: kNN 10 " in text


def test_the_plain_table_says_nothing_of_what_was_not_asked_for(make_clips, encoder):
    table = probe_table(encoder, make_clips(classes=6), random_seeds=(), columns=("kNN",))
    assert "kNN: cosine, k 20, weight exp(similarity / 0.07)" in table.markdown()
    for word in ("Top-5", "SGD", "blocks", "label by label", "all 60"):
        assert word not in table.markdown()
    assert "per_class" not in json.loads(table.to_json())


@pytest.mark.parametrize("standardise", [True, False])
def test_linear_sgd_is_a_column_with_its_settings(make_clips, encoder, standardise):
    config = LinearSGDConfig([0.1, 1.0], epochs=20, standardise=standardise)
    table = probe_table(encoder, make_clips(), random_seeds=(), columns=("linear SGD",), seed=3, sgd=config)
    expected = linear_sgd(extract(encoder, make_clips()).probe_data(standardise), config, seed=3)
    cell = table.row("encoder").scores["linear SGD"]
    assert cell.mean == pytest.approx(100 * expected.test)
    assert cell.chosen == {**expected.chosen, "validation": 100 * expected.validation}
    assert "learning rate 0.1, 1 per 256 clips, chosen on validation" in table.markdown()
    assert ("features as they are" in table.markdown()) is not standardise
    assert json.loads(table.to_json())["about"]["sgd"]["epochs"] == 20


def test_labels_one_by_one_add_up_to_the_whole(make_clips, encoder):
    columns = ("kNN", "LR", "5")
    table = probe_table(encoder, make_clips(), random_seeds=(), columns=columns, with_per_class=True)
    assert list(table.per_class) == ["kNN", "LR"]
    for column, scores in table.per_class.items():
        assert sum(score.test_clips for score in scores) == 30
        right = 100 * sum(score.right for score in scores) / 30
        assert right == pytest.approx(table.row("encoder").scores[column].mean)
    assert "| band0 |       20 |      10 |" in table.markdown()
    written = json.loads(table.to_json())["per_class"]["LR"][1]
    assert (written["label"], written["training_clips"]) == ("band1", 20)
    assert written["accuracy"] == table.per_class["LR"][1].accuracy


def test_features_that_are_known_are_not_computed_again(make_clips, encoder):
    clips, known = make_clips(), {}
    first = probe_table(encoder, clips, random_seeds=(0,), columns=("kNN",), known=known)
    assert {name: x.shape for name, x in known.items()} == {"encoder": (120, 5), "random weights, seed 0": (120, 5)}
    encoder.forward = None  # whoever calls it fails
    again = probe_table(encoder, clips, random_seeds=(), columns=("kNN",), known=known)
    assert again.row("encoder") == first.row("encoder")
