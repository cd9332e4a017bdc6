"""Scores of features where labels are few or none."""

import numpy as np
import pytest

from audiossl.compare import measure
from audiossl.probes.features import FeatureTable


@pytest.fixture(autouse=True)
def without_an_encoder(monkeypatch):
    monkeypatch.setattr(measure, "label_free", lambda x, encoder, clips, device: {"RankMe": 3.0})


def table(label_ids, names):
    random = np.random.default_rng(0)
    y = np.array(label_ids)
    x = (random.standard_normal((len(y), 6)) + 4 * np.eye(6)[np.maximum(y, 0) % 6]).astype(np.float32)
    splits = [("training", "validation", "testing")[n % 3] for n in range(len(y))]
    return FeatureTable(x, y, [str(n) for n in range(len(y))], [None] * len(y), splits, names)


def test_two_labels_give_all_columns():
    scores = measure.scores_of(table([0, 0, 0, 1, 1, 1] * 10, ("a", "b")), None, None)
    assert {"kNN", "linear", "LR", "one-vs-rest", "1", "1 std", "100", "RankMe"} <= scores.keys()
    assert scores["LR"] > 90


def test_a_label_with_one_clip_does_not_stop_the_others():
    labels = [0, 0, 0, 1, 1, 1] * 10 + [2]  # its clip is for training
    scores = measure.scores_of(table(labels, ("a", "b", "c")), None, None)
    assert scores["LR"] > 90
    assert scores["20"] > 90
    assert np.isfinite(list(scores.values())).all()


@pytest.mark.parametrize("labels", [[0] * 30, [-1] * 30])
def test_one_label_or_none_leaves_the_columns_that_need_none(labels):
    assert measure.scores_of(table(labels, ("a",)), None, None) == {"RankMe": 3.0}
