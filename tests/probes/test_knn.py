from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from audiossl.errors import UserError
from audiossl.probes import knn
from audiossl.probes.knn import knn_predict, knn_rankings


def blobs(n, d=6, classes=4, seed=0, spread=1.5):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    centres = np.random.default_rng(99).normal(size=(classes, d))
    return (centres[y] + spread * rng.normal(size=(n, d))).astype(np.float32), y


@pytest.mark.parametrize("k", [1, 5, 20])
def test_equals_scikit_learn_with_the_same_weights(k):
    x, y = blobs(300)
    queries, _ = blobs(200, seed=1)
    oracle = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    expected = oracle.fit(x.astype(np.float64), y).predict(queries.astype(np.float64))
    assert np.array_equal(knn_predict(x, y, queries, k=k), expected)


def test_plain_formula_for_one_query():
    x, y = blobs(50)
    query = np.ones((1, 6), dtype=np.float32)
    similarity = x @ query[0] / np.linalg.norm(x, axis=1) / np.sqrt(6)
    votes = np.zeros(4)
    for row in np.argsort(-similarity)[:20]:
        votes[y[row]] += np.exp(similarity[row] / 0.07)
    assert knn_predict(x, y, query)[0] == votes.argmax()


def test_chunks_do_not_matter():
    x, y = blobs(300)
    queries, _ = blobs(101, seed=1)
    assert np.array_equal(knn_predict(x, y, queries, chunk=7), knn_predict(x, y, queries, chunk=5000))


def test_more_neighbours_than_rows_lets_all_vote():
    x, y = blobs(7)
    queries, _ = blobs(30, seed=1)
    assert np.array_equal(knn_predict(x, y, queries, k=100), knn_predict(x, y, queries, k=7))


def test_of_equal_rows_the_first_votes():
    x = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (40, 1))
    y = np.array([2] * 3 + [1] * 37)
    queries = np.array([[1.0, 0.0]], dtype=np.float32)
    assert knn_predict(x, y, queries, k=5)[0] == 2  # rows 0 to 4 vote: three of label 2, two of label 1
    assert knn_predict(x, y, queries, k=7)[0] == 1  # rows 0 to 6: three against four


def test_equal_votes_go_to_the_first_label_and_zero_rows_are_allowed():
    x = np.zeros((4, 3), dtype=np.float32)
    assert knn_predict(x, np.array([3, 1, 3, 1]), np.zeros((2, 3), dtype=np.float32)).tolist() == [1, 1]


def test_a_tiny_temperature_stays_finite_and_is_the_nearest_neighbour():
    x, y = blobs(100)
    queries, _ = blobs(50, seed=1)
    assert np.array_equal(knn_predict(x, y, queries, temperature=1e-4), knn_predict(x, y, queries, k=1))


def test_labels_without_training_rows_and_no_queries():
    x, y = blobs(20)
    assert knn_predict(x, y, x[:3], k=1, n_classes=50).tolist() == y[:3].tolist()
    assert knn_predict(x, y, x[:0]).shape == (0,)


def test_no_training_rows_is_said():
    with pytest.raises(UserError, match="training"):
        knn_predict(np.zeros((0, 3)), np.zeros(0), np.zeros((1, 3)))


def plain_rankings(x, y, queries, k, classes):
    """Neighbours by similarity, then by row number; labels by votes, then by number."""
    unit = [rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (x, queries)]
    similarity = unit[1] @ unit[0].T
    ranked = []
    for row in similarity:
        votes = np.zeros(classes)
        for i in np.argsort(-row, kind="stable")[:k]:
            votes[y[i]] += np.exp((row[i] - row.max()) / 0.07)
        ranked.append(np.argsort(-votes, kind="stable")[:5])
    return np.array(ranked)


@pytest.mark.parametrize("repeated", [1, 4])  # copies of every row: ties at each k
def test_one_search_gives_what_every_k_gives_alone(repeated):
    x, y = blobs(90, classes=7)
    x, y = np.repeat(x, repeated, axis=0), np.random.default_rng(3).permutation(np.repeat(y, repeated))
    queries, _ = blobs(40, classes=7, seed=1)
    together = knn_rankings(x, y, queries, (10, 20, 50, 200), n_classes=7)
    for k, ranked in together.items():
        assert np.array_equal(ranked, knn_rankings(x, y, queries, (k,), n_classes=7)[k])
        assert np.array_equal(ranked[:, 0], knn_predict(x, y, queries, k=k, n_classes=7))
        assert np.array_equal(ranked, plain_rankings(x, y, queries, k, 7))


def test_one_query_many_neighbours_and_few_classes():
    x, y = blobs(30, classes=2)
    rankings = knn_rankings(x, y, x[:1], (10, 200))
    assert {k: ranked.shape for k, ranked in rankings.items()} == {10: (1, 2), 200: (1, 2)}
    assert np.array_equal(rankings[200], knn_rankings(x, y, x[:1], (30,))[30])


def test_memory_is_bounded_and_the_answer_is_the_same(monkeypatch):
    x, y = blobs(300)
    queries, _ = blobs(50, seed=1)
    expected = knn_rankings(x, y, queries, (10, 100))
    rows = []
    monkeypatch.setattr(knn, "MAX_SIMILARITIES", 1500)
    search = knn._neighbours
    monkeypatch.setattr(knn, "_neighbours", lambda part, *rest: rows.append(len(part)) or search(part, *rest))
    for k, ranked in knn_rankings(x, y, queries, (10, 100)).items():
        assert np.array_equal(ranked, expected[k])
    assert set(rows) == {5}


@pytest.mark.parametrize("ks", [(), (0,), (20, -1)])
def test_no_neighbours_is_said(ks):
    x, y = blobs(10)
    with pytest.raises(UserError, match="k must be at least 1"):
        knn_rankings(x, y, x, ks)
