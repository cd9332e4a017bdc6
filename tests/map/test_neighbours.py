"""Neighbours of all rows against the definition and the search, ties, odd numbers of rows; votes against the probe."""

import numpy as np
import pytest

from audiossl import search
from audiossl.map import neighbours
from audiossl.map.neighbours import Nearest, nearest_of_all, voted
from audiossl.probes.knn import knn_predict
from audiossl.search import largest


def rows(n: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize("pairs", [1, 200 * 7, 2**23])
def test_neighbours_are_those_of_the_search_without_the_row_itself(monkeypatch, pairs):
    monkeypatch.setattr(neighbours, "PAIRS", pairs)
    x = rows(200)
    found, known = nearest_of_all(x, k=6), search.nearest(x, x, k=7)
    assert known.rows[:, 0].tolist() == list(range(200))
    assert found.rows.tolist() == known.rows[:, 1:].tolist()
    assert np.allclose(found.cosines, known.cosines[:, 1:], atol=1e-6)
    assert (found.rows.dtype, found.cosines.dtype) == (np.int32, np.float32)


def test_equal_rows_come_first_and_in_their_order():
    x = rows(40)
    x[[3, 11, 12, 30]] = x[7] * np.array([[1], [2], [0.5], [4]])
    found = nearest_of_all(x, k=5)
    assert found.rows[7, :4].tolist() == [3, 11, 12, 30]
    assert found.rows[12, :4].tolist() == [3, 7, 11, 30]
    assert found.cosines[12, :4].tolist() == [1.0] * 4
    beside = found.rows[int(found.rows[7, 4])].tolist()
    assert [row for row in beside if row in (3, 7, 11, 12, 30)] == sorted(set(beside) & {3, 7, 11, 12, 30})


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_where_all_rows_are_equal_the_first_are_nearest(value):
    found = nearest_of_all(np.full((5, 3), value), k=3)
    assert found.rows.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]]
    assert (found.cosines == value).all()


def test_silent_rows_are_as_far_from_all():
    x = rows(30)
    x[[4, 9]] = 0
    x[9] = -0.0
    found = nearest_of_all(x, k=4)
    assert found.rows[4].tolist() == [0, 1, 2, 3]
    assert found.rows[9].tolist() == [0, 1, 2, 3]
    assert found.cosines[[4, 9]].tolist() == [[0] * 4] * 2
    assert np.isfinite(found.cosines).all()


@pytest.mark.parametrize(("n", "k"), [(1, 0), (2, 1), (3, 2), (11, 10), (12, 10)])
def test_few_rows_have_as_many_neighbours_as_there_are_others(n, k):
    found = nearest_of_all(rows(n), k=10)
    assert found.rows.shape == found.cosines.shape == (n, k)
    assert all(row not in others and len(set(others)) == k for row, others in enumerate(found.rows.tolist()))


def test_progress_counts_every_row_once(monkeypatch):
    monkeypatch.setattr(neighbours, "PAIRS", 300)
    x, done = rows(100), []
    x[50:] = x[0]
    nearest_of_all(x, k=3, progress=done.append)
    assert sum(done) == 100
    assert len(done) > 3


def test_the_largest_are_found_wherever_they_stand():
    generator = np.random.default_rng(0)
    for n_columns in (3, 64, 1000, 2049):
        values = generator.integers(0, 50, (7, n_columns)).astype(np.float32)  # full of ties
        assert largest(values, 3).tolist() == np.argsort(-values, axis=1, kind="stable")[:, :3].tolist()


@pytest.mark.parametrize("votes", [1, 2**23])
def test_votes_are_those_of_the_nearest_neighbour_probe(monkeypatch, votes):
    monkeypatch.setattr(neighbours, "VOTES", votes)
    x, labels = rows(120), np.random.default_rng(1).integers(0, 4, 120)
    winner, share = voted(nearest_of_all(x, k=20), labels, 4, np.ones(120, bool))
    others = [np.flatnonzero(np.arange(120) != row) for row in range(120)]
    known = [knn_predict(x[o], labels[o], x[row : row + 1], k=20, n_classes=4)[0] for row, o in enumerate(others)]
    assert winner.tolist() == known
    assert ((share > 0.25) & (share <= 1)).all()


def test_only_labelled_voters_vote():
    near = Nearest(np.array([[1, 2], [0, 2], [0, 1]], np.int32), np.array([[0.9, 0.5], [0.9, 0.8], [0.5, 0.8]]))
    labels, voters = np.array([0, 1, -1]), np.array([True, False, True])
    winner, share = voted(near, labels, 2, voters)
    assert winner.tolist() == [-1, 0, 0]
    assert share.tolist() == [0, 1, 1]
    assert (winner.dtype, share.dtype) == (np.int64, np.float32)


def test_the_share_is_that_of_the_weights():
    near = Nearest(np.array([[1, 2, 3]] * 4, np.int32), np.array([[0.9, 0.83, 0.83]] * 4))
    winner, share = voted(near, np.array([0, 1, 0, 0]), 2, np.ones(4, bool))
    assert winner[0] == 1
    assert share[0] == pytest.approx(1 / (1 + 2 * np.exp(-1)))


@pytest.mark.parametrize("temperature", [1e-6, 0.07, 1e6])
def test_votes_stay_finite_at_any_temperature(temperature):
    x = rows(30)
    winner, share = voted(nearest_of_all(x, 5), np.arange(30) % 3, 3, np.arange(30) < 20, temperature)
    assert np.isfinite(share).all()
    assert ((winner == -1) == (share == 0)).all()


def test_one_row_and_no_labels_have_no_vote():
    assert voted(nearest_of_all(rows(1)), np.array([0]), 1, np.ones(1, bool))[0].tolist() == [-1]
    assert voted(nearest_of_all(rows(3)), np.full(3, -1), 0, np.ones(3, bool))[0].tolist() == [-1] * 3
