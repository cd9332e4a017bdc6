"""The classifier's part of the report: what it shows, hostile names, many labels, damaged files."""

import json

import numpy as np
import pytest

from audiossl.data.cached import CachedClips, WaveRows
from audiossl.probes.classification import classification
from audiossl.run import files
from audiossl.run.classifier_page import SHOWN_LABELS, load, load_worst, save_worst, sections, worst_errors
from audiossl.run.report import write_report


def result(n_labels=3, n=60, multi_label=False, names=None):
    """Scores of random guesses as a run writes them."""
    random = np.random.default_rng(0)
    names = names or [f"label {k}" for k in range(n_labels)]
    probabilities = random.dirichlet(np.ones(n_labels), n)
    table = (
        (random.random((n, n_labels)) < 0.3).astype(float) if multi_label else np.eye(n_labels)[np.arange(n) % n_labels]
    )
    scores = classification(probabilities, table, names, multi_label).plain()
    about = {"name": "sounds", "clips": n, "labels": names, "split_rule": "by hand", "told": "with 60 labelled clips"}
    return {
        "about": {**about, "multi_label": multi_label},
        "scores": {"validation": scores, "testing": scores},
        "floors": {"most frequent label": 33.3},
        "unknown_below": 0.25,
        "epochs": 3,
    }


def clips(tmp_path, names):
    waves = np.arange(4 * 100, dtype=np.int16).reshape(4, 100)
    waves.tofile(tmp_path / "waves.bin")
    ids, none = [f"clip{i}" for i in range(4)], [None] * 4
    labels = [names[i % len(names)] for i in range(4)]
    rows = WaveRows(tmp_path / "waves.bin", 4, 100)
    return CachedClips(rows, np.full(4, 100), ids, labels, none, none, tuple(names), 100, "sounds", "by hand", [])


def test_all_parts_are_there_and_names_are_text(tmp_path):
    names = ["<b>yes", 'no"', "ナマケモノ"]
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    save_worst(tmp_path / files.WORST, clips(tmp_path, names), probabilities, [2, 0], names)
    worst = load_worst(tmp_path / files.WORST)
    assert worst["name"].tolist() == ["clip2", "clip0"]
    np.testing.assert_array_equal(worst["waves"][0], np.arange(200, 300))
    page = sections(result(names=names)) + worst_errors(worst)
    for words in (
        "What is taken for what",
        "Labels",
        "Calibration",
        "The worst errors",
        "below a probability of 0.250",
    ):
        assert words.lower() in page.lower(), words
    assert page.count("<audio") == 2
    assert "<b>yes" not in page
    assert "&lt;b&gt;yes" in page
    assert "ナマケモノ" in page


def test_without_an_error_or_a_matrix_the_page_is_shorter(tmp_path):
    save_worst(tmp_path / files.WORST, clips(tmp_path, ["a", "b"]), np.eye(2)[[0, 1, 0, 1]], [], ["a", "b"])
    page = sections(result()) + worst_errors(load_worst(tmp_path / files.WORST))
    assert "worst errors" not in page
    assert "mean average precision" in sections(result(multi_label=True))
    assert "What is taken for what" not in sections(result(multi_label=True))
    assert sections(None) == "" == worst_errors(None)


def test_of_many_labels_the_confused_ones_are_shown():
    page = sections(result(n_labels=70, n=700))
    assert f"The {SHOWN_LABELS} labels of 70 that are confused most." in page
    assert page.count('class="turned"') == SHOWN_LABELS


def test_the_report_takes_them_from_the_folder_and_names_damaged_ones(tmp_path):
    row = {"kind": "epoch", "epoch": 0, "step": 1, "loss": 1.0, "seconds": 1.0, "validation_accuracy": 50.0}
    (tmp_path / files.METRICS).write_text(json.dumps(row) + "\n")
    (tmp_path / files.CLASSIFICATION).write_text(json.dumps(result()))
    (tmp_path / files.WORST).write_bytes(b"no archive")
    page = write_report(tmp_path).read_text()
    assert "What is taken for what" in page
    assert "worst_errors.npz could not be read" in page
    assert "media-src data:" in page
    (tmp_path / files.CLASSIFICATION).write_text("{}")
    page = write_report(tmp_path).read_text()
    assert "What is taken for what" not in page
    assert "classification.json could not be read" in page
    with pytest.raises(ValueError, match="holds no scores of a classifier"):
        load(tmp_path / files.CLASSIFICATION)
