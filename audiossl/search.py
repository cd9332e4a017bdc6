"""The nearest sounds among embeddings, and those that are all but the same: exact, by cosine, in blocks of rows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from audiossl.embeddings import FeaturizeResult
from audiossl.errors import UserError

if TYPE_CHECKING:
    from audiossl.encoder import AudioEncoder

BLOCK = 1024  # rows whose similarities with all others are in memory at a time: 400 MB of them for 100,000 rows
# Columns of which only the largest is looked at to find where the k-th largest lies.
STRIPE = 64
NEARLY_SAME = 0.9999  # cosine above which two sounds are reported as one


class Neighbours(NamedTuple):
    """Row numbers (Q, k) of the nearest rows, the nearest first, and their cosines (Q, k)."""

    rows: np.ndarray
    cosines: np.ndarray


class Repeats(NamedTuple):
    """Groups of rows whose embeddings are all but the same, each sorted, and the share of rows that are in one."""

    groups: list[list[int]]
    share: float


def nearest(embeddings: np.ndarray, queries: np.ndarray, k: int = 10) -> Neighbours:
    """Find the `k` rows of `embeddings` (N, D) that are nearest to each of `queries` (Q, D); rows of NaN never are.

    Of rows that are equally near the first come first. Raises `UserError` when the lengths of the vectors differ, a
    query is not finite, or no row can be found.

    >>> nearest(np.eye(3), np.array([[0.1, 2.0, 0.2]]), k=2).rows.tolist()
    [[1, 2]]
    """
    good = check_searchable(embeddings, queries)
    wanted, k = unit(queries), min(k, len(good))
    best = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(good), BLOCK * 16):
        here = good[start : start + BLOCK * 16]
        best = np.concatenate([best, wanted @ unit(embeddings[here]).T], axis=1)
        rows = np.concatenate([rows, np.broadcast_to(here, (len(queries), len(here)))], axis=1)
        order = largest(best, min(k, best.shape[1]))
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
    return Neighbours(rows, best)


def largest(values: np.ndarray, k: int) -> np.ndarray:
    """Columns (B, k) of the largest of `values` (B, N) in each row, the largest first; of equals, the first.

    >>> largest(np.array([[1.0, 3.0, 2.0, 3.0]]), 3).tolist()
    [[1, 3, 2]]
    """
    n_rows, n_columns = values.shape
    # The k-th largest of the stripes' maxima is at most the k-th largest of all, and found in a fraction of the time.
    height = max(1, min(STRIPE, n_columns // (4 * k)))
    n_stripes = n_columns // height
    maxima = values[:, : height * n_stripes].reshape(n_rows, height, n_stripes).max(axis=1)
    least = np.partition(maxima, n_stripes - k, axis=1)[:, n_stripes - k]
    found = np.empty((n_rows, k), np.int64)
    for row, (these, at_least) in enumerate(zip(values, least, strict=True)):
        candidates = np.flatnonzero(these >= at_least)
        found[row] = candidates[np.argsort(-these[candidates], kind="stable")[:k]]
    return found


def check_searchable(embeddings: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Numbers of the rows that can be found; raises `UserError` as `nearest` does."""
    if not np.isfinite(queries).all():
        raise UserError("a query is no embedding: its recording could not be read.")
    if embeddings.shape[1] != queries.shape[1]:
        raise UserError(
            f"the query has {queries.shape[1]} numbers and the embeddings have {embeddings.shape[1]}: embed it as they "
            "were."
        )
    good = np.flatnonzero(np.isfinite(embeddings).all(1))
    if not len(good):
        raise UserError("there is no embedding to search: all rows are errors.")
    return good


def repeats(embeddings: np.ndarray, threshold: float = NEARLY_SAME) -> Repeats:
    """Group rows of `embeddings` (N, D) whose cosine is at least `threshold`, directly or by others between them.

    All pairs are compared, so that twice the rows take four times as long.

    >>> repeats(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    Repeats(groups=[[0, 2]], share=0.6666666666666666)
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    good = np.flatnonzero(np.isfinite(embeddings).all(1))
    rows = unit(embeddings[good])
    label = first = np.arange(len(rows))
    for start in range(0, len(rows), BLOCK):
        similar = rows[start : start + BLOCK] @ rows[start:].T >= threshold
        one, other = np.nonzero(np.triu(similar, 1))
        # What was together before is one pair a row, to the first of its group: no more than a block's pairs are held.
        one, other = np.append(one + start, np.arange(len(rows))), np.append(other + start, first[label])
        graph = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(len(rows), len(rows)))
        label = connected_components(graph, directed=False)[1]
        first = np.unique(label, return_index=True)[1]
    ends = np.cumsum(np.bincount(label, minlength=1))
    together = np.split(np.argsort(label, kind="stable"), ends[:-1])
    groups = [good[part].tolist() for part in together if len(part) > 1]
    return Repeats(groups, sum(map(len, groups)) / max(1, len(good)))


def unit(x: np.ndarray) -> np.ndarray:
    """Rows (N, D) of length 1, float32."""
    x = np.asarray(x, dtype=np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.float32(1e-12))


def embed_query(
    found: FeaturizeResult,
    inputs: Any,
    model: str | os.PathLike[str] | AudioEncoder | None = None,
    sample_rate: int | None = None,
    device: str | None = None,
) -> FeaturizeResult:
    """Embed recordings as `found` was, one row each: with its model (or where that has moved, `model`) and settings.

    Raises `UserError` when the model is not there, or another one, and for recordings that cannot be read.
    """
    from audiossl.encoder import load_model
    from audiossl.featurize import featurize

    meta, place = found.meta, model
    if meta["normalize"] == "dataset":
        raise UserError("these embeddings are normalised by their own data set: to search, make them by the model's.")
    if place is None:
        name = str(meta["model"])
        try:
            place = load_model(name)
        except UserError as error:
            reason = f"the model {name} of these embeddings cannot be opened ({error})"
            raise UserError(f"{reason}: say where it is with --model.") from None
    frames = meta["level"] == "frame"
    query = featurize(
        inputs,
        place,
        sample_rate,
        level="frame" if frames else "clip",
        window_s=meta["window_s"],
        hop_s=None if frames else meta["hop_s"],
        pool=meta["pool"],
        layers=meta["layers"],
        channels="mix" if meta["channels"] == "each" else meta["channels"],
        normalize=meta["normalize"],
        device=device,
        errors="raise",
    )
    if query.meta["model_sha256"] != meta["model_sha256"]:
        raise UserError(f"{place} is not the model that these embeddings were made with: its weights are others.")
    return _one_row_each(query) if frames else query


def _one_row_each(query: FeaturizeResult) -> FeaturizeResult:
    """Means of a recording's frames."""
    names = query.column("file")
    first = {name: n for n, name in reversed(list(enumerate(names)))}
    kept = sorted(first.values())
    means = [query.embeddings[[n for n, other in enumerate(names) if other == names[at]]].mean(0) for at in kept]
    return FeaturizeResult(np.stack(means), [query.table[at] for at in kept], query.meta)
