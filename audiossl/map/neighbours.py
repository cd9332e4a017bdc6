"""The nearest neighbours of every row among the others, by cosine and exact; and the label that they vote for.

All pairs are compared, in blocks of rows: memory is bounded, and twice the rows take four times as long. Rows that
are equal, silent clips say, are compared once: they are the same distance from everything, whatever the rounding of a
matrix product, and the first of them come first.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from audiossl.search import largest, unit

# Cosines that exist at a time, 32 MB of them: 80 rows with all others where there are 100,000.
PAIRS = 2**23
# Votes that exist at a time, 64 MB of them.
VOTES = 2**23


class Nearest(NamedTuple):
    """Row numbers (N, k) int32 of the nearest other rows, the nearest first, and their cosines (N, k) float32."""

    rows: np.ndarray
    cosines: np.ndarray


def nearest_of_all(x: np.ndarray, k: int = 10, progress: Callable[[int], None] | None = None) -> Nearest:
    """Find the `k` rows of `x` (N, D) that are nearest to each of its rows, itself left out; of equals, the first.

    Rows of zeros have a cosine of 0 to all others.

    Args:
        x: finite numbers.
        k: lowered to N - 1 where there are fewer rows.
        progress: called with the number of rows that are done since the last call, N together.

    >>> nearest_of_all(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]), k=1).rows.tolist()
    [[2], [2], [0]]
    """
    points, k = unit(x), min(k, len(x) - 1)
    if k < 1:
        return Nearest(np.empty((len(x), 0), np.int32), np.empty((len(x), 0), np.float32))
    points += 0.0  # makes -0 a 0: equal rows are found by their bytes
    group = _groups(points)
    first, members = _members(group, k + 1)
    wanted = min(k + 1, len(first))
    near = np.empty((len(first), wanted), np.int32)
    cosines = np.empty((len(first), wanted), np.float32)
    sizes = np.bincount(group)
    points = points if len(first) == len(points) else points[first]
    block = max(1, PAIRS // len(first))
    for start in range(0, len(first), block):
        here = slice(start, start + block)
        similar = points[here] @ points.T
        own = np.arange(start, start + len(similar))
        # Exactly 1 for what is equal: the rounded sum may lie below that of a row that is nearly equal.
        np.minimum(similar, 1.0, out=similar)
        similar[own - start, own] = np.einsum("nd,nd->n", points[here], points[here]).round()
        near[here] = best = largest(similar, wanted)
        cosines[here] = np.take_along_axis(similar, best, 1)
        if progress is not None:
            progress(int(sizes[here].sum()))
    return _without_themselves(group, members, near, cosines, k)


def _groups(points: np.ndarray) -> np.ndarray:
    """The group (N,) of each row, equal rows in one: numbered in the order of their first rows."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(blake2b(row, digest_size=16).digest(), len(seen)) for row in points])


def _members(group: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The first row (G,) of each group, and its first rows, at most `most` (G, M), with -1 where there are no more."""
    by_group = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(group)) - starts[group[by_group]]
    members = np.full((len(sizes), min(most, int(sizes.max()))), -1, np.int64)
    kept = place < members.shape[1]
    members[group[by_group][kept], place[kept]] = by_group[kept]
    return members[:, 0], members


def _without_themselves(
    group: np.ndarray, members: np.ndarray, near: np.ndarray, cosines: np.ndarray, k: int
) -> Nearest:
    """The nearest rows of each row, from the nearest groups (G, k + 1) of each group."""
    rows = np.empty((len(group), k), np.int32)
    values = np.empty((len(group), k), np.float32)
    block = max(1, PAIRS // (near.shape[1] * members.shape[1]))
    for start in range(0, len(group), block):
        own = np.arange(start, min(start + block, len(group)))
        of_groups = near[group[own]]
        candidates = members[of_groups].reshape(len(own), -1)
        closeness = np.repeat(cosines[group[own]], members.shape[1], axis=1)
        closeness[(candidates == own[:, None]) | (candidates < 0)] = -np.inf
        order = np.lexsort((candidates, -closeness), axis=1)[:, :k]
        rows[own] = np.take_along_axis(candidates, order, 1)
        values[own] = np.take_along_axis(closeness, order, 1)
    return Nearest(rows, values)


def voted(
    nearest: Nearest, label_ids: np.ndarray, n_labels: int, voters: np.ndarray, temperature: float = 0.07
) -> tuple[np.ndarray, np.ndarray]:
    """Label each row by the vote of its neighbours, weighted exp(cosine / temperature) as in `probes.knn_predict`.

    Returns the labels (N,) int64 and their share of all votes (N,) float32: -1 and 0 where no neighbour votes. Of
    equally strong labels the first wins.

    Args:
        nearest: of `nearest_of_all`.
        label_ids: (N,) from 0 to `n_labels` - 1, -1 for none.
        n_labels: number of labels.
        voters: (N,) bool, who votes: the labelled training clips. Who has no label does not.
        temperature: the lower, the more the nearest of the nearest decide.

    >>> near = Nearest(np.array([[1, 2], [0, 2], [0, 1]]), np.array([[0.9, 0.1], [0.9, 0.2], [0.1, 0.2]]))
    >>> voted(near, np.array([0, 1, -1]), 2, np.array([True, True, True]))[0].tolist()
    [1, 0, 1]
    """
    label_ids, voters = np.asarray(label_ids), np.asarray(voters, dtype=bool)
    winner = np.full(len(nearest.rows), -1, np.int64)
    share = np.zeros(len(nearest.rows), np.float32)
    block = max(1, VOTES // max(1, n_labels))
    for start in range(0, len(nearest.rows) if nearest.rows.shape[1] and n_labels else 0, block):
        here = slice(start, start + block)
        labels = label_ids[nearest.rows[here]]
        votes = voters[nearest.rows[here]] & (labels >= 0)
        # Weights relative to the nearest voter: the same vote, and exp never leaves the range of floats.
        closeness = np.where(votes, nearest.cosines[here].astype(np.float64), -np.inf)
        best = closeness.max(axis=1, keepdims=True)
        weights = np.exp((closeness - np.where(np.isfinite(best), best, 0.0)) / temperature)
        place = np.arange(len(labels))[:, None] * n_labels + np.maximum(labels, 0)
        counted = np.bincount(place.ravel(), weights.ravel(), len(labels) * n_labels).reshape(len(labels), n_labels)
        total = counted.sum(axis=1)
        winner[here] = np.where(total > 0, counted.argmax(axis=1), -1)
        share[here] = counted.max(axis=1) / np.where(total > 0, total, 1.0)
    return winner, share
