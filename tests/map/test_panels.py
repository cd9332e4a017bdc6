"""What is computed of each encoder before anything is written."""

from __future__ import annotations

import numpy as np
import pytest

from audiossl.errors import UserError
from audiossl.map.config import MapConfig
from audiossl.map.panels import Shown, names_of, panel, vote
from audiossl.map.points import Column, Points, from_clips
from audiossl.probes.knn import knn_predict


def quiet(text: str) -> None:
    """Say nothing."""


def test_points_are_named_as_the_knn_probe_names_them(clips, telling, blind):
    points = from_clips(clips, 1.0)
    rows = np.array([n for n, split in enumerate(clips.splits) if split == "validation"])
    training = np.array([split == "training" for split in clips.splits])
    for x in (telling, blind):
        named = vote(x, Shown.of(points, rows), k=20)
        expected = knn_predict(x[training], clips.label_ids[training], x[rows], 3)
        assert np.array_equal(named.labels, expected)


def test_a_training_clip_does_not_name_itself(clips):
    points = Points(["a", "b", "c"], [Column("label", texts=["x", "x", "y"])], lambda n: None, "three")
    x = np.array([[1, 0], [0, 1], [0.1, 1]], np.float32)
    named = vote(x, Shown.of(points, np.arange(3)), k=1)
    assert [named.names[n] for n in named.labels] == ["y", "y", "x"]


@pytest.mark.parametrize("projections", [["pca"], ["umap"]])
def test_neighbours_are_found_once_where_all_points_vote(clips, telling, monkeypatch, projections):
    labelled = Column("label", texts=clips.labels)  # without splits every label votes
    shown = Shown.of(Points(list(clips.ids), [labelled], lambda n: None, "all"), np.arange(len(clips)))
    expected = vote(telling, shown, k=20)
    monkeypatch.setattr("audiossl.map.panels.nearest", None)
    monkeypatch.setattr("audiossl.map.projections.nearest_of_all", None)
    config = MapConfig(projections=projections, neighbours=3)
    (frame,) = panel("mine", {"last": telling}, shown, config, quiet).frames
    assert np.array_equal(frame.named.labels, expected.labels)
    assert np.allclose(frame.named.sure, expected.sure, atol=1e-5)
    assert frame.nearest.rows.shape == frame.nearest.cosines.shape == (len(clips), 3)


def test_without_two_labels_nobody_is_named():
    points = Points(["a", "b"], [Column("label", texts=["x", None])], lambda n: None, "two")
    assert vote(np.eye(2, dtype=np.float32), Shown.of(points, np.arange(2)), k=5) is None


def test_frames_lie_as_the_one_after_them_does(clips, telling):
    turned = telling[:, ::-1].copy()  # other axes, the same shape
    points = from_clips(clips, 1.0)
    shown = Shown.of(points, np.arange(len(points)))
    found = panel("run", {"first": turned, "last": telling}, shown, MapConfig(projections=["pca"]), quiet)
    first, last = (frame.projections["pca"].xy for frame in found.frames)
    assert [frame.name for frame in found.frames] == ["first", "last"]
    assert np.abs(first - last).max() < 1e-3


def test_features_that_are_not_finite_are_refused_by_name(clips, telling):
    bad = telling.copy()
    bad[3] = np.nan
    points = from_clips(clips, 1.0)
    with pytest.raises(UserError, match="mine: the embeddings of last are not finite"):
        panel("mine", {"last": bad}, Shown.of(points, np.arange(90)), MapConfig(projections=["pca"]), quiet)


def test_short_names_tell_paths_apart():
    assert names_of(["runs/first/encoder"]) == {"first": "runs/first/encoder"}
    assert list(names_of(["a/x/encoder", "b/x/encoder"])) == ["a/x", "b/x"]
    with pytest.raises(UserError, match="same name"):
        names_of(["a=one", "a=two"])
