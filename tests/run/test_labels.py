"""Which clips a supervised run learns from, how its classifier is measured, judged and shown."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from audiossl.data.cached import CachedClips, WaveRows
from audiossl.errors import UserError
from audiossl.probes.few_shot import draw_few
from audiossl.probes.table import Cell, ProbeRow, ProbeTable
from audiossl.run.conclude import with_classifier
from audiossl.run.console import Console
from audiossl.run.labels import draw_share, enough, labelled_clips
from audiossl.run.monitors import classifier_accuracy
from audiossl.run.verdict import verdict

LABELS = ["b", "a", None, "a", "b", "b", "c", None, "a", "b", "b", "a"]


def clips(tmp_path, labels=LABELS):
    """Clips of eight samples whose first two are the number of the label and of the clip."""
    names = tuple(sorted({label for label in labels if label}))
    waves = np.zeros((len(labels), 8), np.int16)
    waves[:, 0] = [names.index(label) if label else -1 for label in labels]
    waves[:, 1] = np.arange(len(labels))
    waves.tofile(tmp_path / "waves.bin")
    n = len(labels)
    ids = [f"clip{i}" for i in range(n)]
    rows = WaveRows(tmp_path / "waves.bin", *waves.shape)
    return CachedClips(rows, np.full(n, 8), ids, labels, [None] * n, [None] * n, names, 8, "letters", "none", [])


def test_clips_without_a_label_are_left_out(tmp_path):
    taught = labelled_clips(clips(tmp_path))
    assert taught.ids == [f"clip{i}" for i, label in enumerate(LABELS) if label]
    assert (taught.label_ids == taught.waves[:][:, 0]).all()


@pytest.mark.parametrize("per_class", [1, 2])
def test_few_clips_a_class_are_those_of_the_probes_and_are_repeated_alike(tmp_path, per_class):
    training = clips(tmp_path)
    labelled = labelled_clips(training)
    for seed in range(3):
        taught = labelled_clips(training, per_class, seed)
        drawn = draw_few(labelled.label_ids, per_class, seed)
        assert set(taught.ids) == {labelled.ids[row] for row in drawn}
        counts = {name: taught.ids.count(name) for name in taught.ids}
        assert len(taught) == len(labelled)
        assert set(counts.values()) <= {len(labelled) // len(drawn), len(labelled) // len(drawn) + 1}
        assert (taught.label_ids == taught.waves[:][:, 0]).all()
    draws = {tuple(sorted(set(labelled_clips(training, per_class, seed).ids))) for seed in range(8)}
    assert len(draws) > 1


def test_no_label_and_one_label_are_refused(tmp_path):
    with pytest.raises(UserError, match="letters: none of its 3 training clips has a label"):
        labelled_clips(clips(tmp_path, [None] * 3))
    with pytest.raises(UserError, match="letters: all of its 2 labelled training clips are 'a'"):
        labelled_clips(clips(tmp_path, ["a", None, "a"]))


class First(nn.Module):
    """The number of the label that is written in a clip's first sample; wrong on purpose in training mode."""

    def forward(self, wave):
        assert not self.training
        return wave[:, :1] * 32768.0


class Near(nn.Module):
    """Puts the class first whose number plus `off` is nearest to the feature."""

    def __init__(self, off):
        super().__init__()
        self.centres = nn.Parameter(torch.arange(3.0) + off)

    def forward(self, features):
        assert not self.training
        return -(features - self.centres).abs()


def test_the_accuracy_of_a_classifier_counts_labelled_clips_alone(tmp_path):
    letters, encoder = clips(tmp_path), First()
    assert classifier_accuracy(encoder, Near(0.0), letters, batch_size=5) == 100.0
    head = Near(1.0)  # takes 1 for 0 and 2 for 1, and only 0 for what it is
    assert classifier_accuracy(encoder, head, letters) == pytest.approx(100 * LABELS.count("a") / 10)
    assert encoder.training
    assert head.training
    assert np.isnan(classifier_accuracy(encoder, head, clips(tmp_path, [None, None])))
    assert np.isnan(classifier_accuracy(encoder, head, letters.subset([])))


def epochs(accuracy, **more):
    rows = [{"epoch": i, "step": 100 * (i + 1), "loss": 1.0, "validation_accuracy": a} for i, a in enumerate(accuracy)]
    return [{**row, "training_accuracy": 90.0, "knn_chance": 11.1, **more} for row in rows]


def test_a_classifier_whose_features_use_few_directions_is_healthy():
    sick = {"feature_std": 0.01, "rankme": 1.5}
    rows = epochs(np.linspace(20, 95, 20), **sick)
    assert verdict(rows) is None
    untaught = [{key: value for key, value in row.items() if key != "training_accuracy"} for row in rows]
    assert verdict(untaught).startswith("Collapse to one point")


def test_a_classifier_that_forgets_and_one_that_never_learns_are_told():
    assert "fallen from 90.0 % (epoch 5) to 70.0 %" in verdict(epochs([50, 60, 70, 80, 85, 90] + 12 * [70]))
    assert verdict(epochs([50, 60, 70, 80, 85, 90] + 12 * [86])) is None
    assert "not above chance (11.1 %)" in verdict(epochs(12 * [12.0]))
    assert verdict(epochs(5 * [12.0])) is None  # too early to say


def test_the_table_gets_a_column_for_the_classifier():
    rows = [ProbeRow("encoder", 4, {"kNN": Cell(50.0)}), ProbeRow("chance", None, {"kNN": Cell(10.0)})]
    about = {
        "protocol": "as ever",
        "name": "letters",
        "clips": 3,
        "speakers": 0,
        "labels": ["a", "b"],
        "split_rule": "none",
        "split_clips": {"training": 1, "validation": 1, "testing": 1},
        "random_seeds": [],
        "short_labels": {},
    }
    table = with_classifier(ProbeTable(rows, ("kNN",), about), {"validation": 70.0, "testing": 65.0}, "with 9 labels")
    assert table.columns == ("classifier", "kNN")
    assert table.row("encoder").scores["classifier"] == Cell(65.0, chosen={"validation": 70.0})
    assert "classifier" not in table.row("chance").scores
    assert "65.0" in table.markdown()
    assert "with 9 labels" in json.loads(table.to_json())["about"]["protocol"]
    assert dataclasses.replace(table.row("encoder"), scores={}) == dataclasses.replace(rows[0], scores={})


def test_the_console_shows_the_accuracy_of_those_that_have_one(capsys):
    Console(False, True).row({"epoch": "1/2", "loss": 1.0, "knn": 40.0})
    assert "valid. %" not in capsys.readouterr().out
    console = Console(False, True)
    console.row({"epoch": "1/2", "loss": 1.0, "knn": 40.0, "validation_accuracy": 81.25})
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[:7] == ["epoch", "loss", "lr", "valid.", "%", "kNN", "%"]
    assert row.split()[3] == "81.2"


def test_a_share_has_every_label_and_is_part_of_a_larger_one():
    y = np.repeat(np.arange(4), [100, 40, 10, 1])
    for seed in range(3):
        few, more = draw_share(y, 0.05, seed), draw_share(y, 0.5, seed)
        assert np.bincount(y[few]).tolist() == [5, 2, 1, 1]
        assert np.bincount(y[more]).tolist() == [50, 20, 5, 1]
        assert set(few) <= set(more)
    assert not np.array_equal(draw_share(y, 0.05, 0), draw_share(y, 0.05, 1))
    assert draw_share(y, 1.0, 0).tolist() == list(range(151))


def test_a_share_of_the_labels_keeps_the_length_of_an_epoch(tmp_path):
    training = clips(tmp_path)
    taught = labelled_clips(training, share=0.3, seed=1)
    assert set(taught.labels) == {"a", "b", "c"}
    for share in (0.01, 0.3, 0.6, 0.99, 1.0):
        taught = labelled_clips(training, share=share, seed=1)
        assert len(taught) == len(labelled_clips(training))
        counts = [taught.ids.count(name) for name in set(taught.ids)]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("order", ["aabbcc", "abcabc"])
def test_clips_that_come_once_more_are_of_all_labels_alike(tmp_path, order):
    training = clips(tmp_path, sorted(order * 50) if order == "aabbcc" else list(order * 50))
    for share in (0.6, 0.75, 0.9):
        taught = labelled_clips(training, share=share)
        assert [taught.labels.count(name) for name in "abc"] == pytest.approx([100] * 3, abs=1)
        first = labelled_clips(training, share=share).ids[: len(set(taught.ids))]
        assert len(set(first)) == len(first)  # each once, and then some again


def test_enough_is_a_function_of_the_rows():
    def rows(*values):
        return [{"kind": "epoch", "score": value} for value in values]

    assert not enough([], "score", 3)
    assert not enough(rows(50, 60, 70), "score", 1)
    assert enough(rows(50, 60, 60), "score", 1)
    assert not enough(rows(50, 60, 55, 61), "score", 2)
    assert enough(rows(50, 60, 55, 60), "score", 2)
    assert not enough(rows(50, None, None, None), "score", 2)  # epochs without a monitor say nothing
