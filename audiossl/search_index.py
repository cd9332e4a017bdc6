"""Neighbours among millions of rows, nearly always the right ones, by a graph that is built once (usearch's HNSW).

Exact search reads every row for every query, a second for a million rows of 256 numbers; this one reads some hundred.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from audiossl.embeddings import written
from audiossl.errors import UserError
from audiossl.search import Neighbours, check_searchable, unit

CANDIDATES = 128  # rows that a query looks at closely, at least; more are slower and surer


def nearly_nearest(
    embeddings: np.ndarray, queries: np.ndarray, k: int = 10, keep_in: str | os.PathLike[str] | None = None
) -> Neighbours:
    """Find about the `k` nearest rows of `embeddings` (N, D) to `queries` (Q, D), as `audiossl.search.nearest` does.

    The graph is kept as a file in the folder `keep_in`, under a hash of the rows, and read from there the next time.
    Raises `UserError` where usearch is not installed, and as `nearest` does.
    """
    try:
        from usearch.index import Index
    except ImportError:
        raise UserError('an approximate search needs usearch: pip install "audiossl-toolkit[search]".') from None
    good = check_searchable(embeddings, queries)
    rows = unit(embeddings[good])
    place = (
        None if keep_in is None else Path(keep_in) / f"index-{hashlib.blake2b(rows.data, digest_size=8).hexdigest()}"
    )
    wide = max(CANDIDATES, 2 * k)
    if place is not None and place.is_file():
        index = Index(ndim=rows.shape[1], metric="cos", dtype="f32", expansion_search=wide)
        index.load(os.fspath(place))
    else:
        index = Index(ndim=rows.shape[1], metric="cos", dtype="f32", expansion_add=wide, expansion_search=wide)
        index.add(np.arange(len(rows)), rows)
        if place is not None:
            with written(place) as part:
                index.save(os.fspath(part))
    found = index.search(unit(queries), min(k, len(good)))
    places = np.asarray(found.keys, dtype=np.int64).reshape(len(queries), -1)
    distances = np.asarray(found.distances, dtype=np.float32).reshape(len(queries), -1)
    return Neighbours(good[places], 1 - distances)
