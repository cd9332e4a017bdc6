"""Neighbours among millions of rows, nearly always the right ones, by a graph that is built once (usearch's HNSW).

Exact search reads every row for every query, a second for a million rows of 256 numbers; this one reads some hundred.

A graph is read by a library that trusts it: the file is kept in the cache of this user, and not beside embeddings,
which may be other people's, and begins with its own checksum.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from audiossl.embeddings import written
from audiossl.errors import UserError
from audiossl.search import Neighbours, check_searchable, unit

CHECKSUM_BYTES = hashlib.blake2b().digest_size
CANDIDATES = 128  # rows that a query looks at closely, at least; more are slower and surer


def nearly_nearest(
    embeddings: np.ndarray, queries: np.ndarray, k: int = 10, keep_in: str | os.PathLike[str] | None = None
) -> Neighbours:
    """Find about the `k` nearest rows of `embeddings` (N, D) to `queries` (Q, D), as `audiossl.search.nearest` does.

    The graph is kept as a file in the folder `keep_in`, under a hash of the rows, and read from there the next time; a
    damaged one is made anew. Give a folder that nobody else writes to.
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
    index = Index(ndim=rows.shape[1], metric="cos", dtype="f32", expansion_add=wide, expansion_search=wide)
    if (kept := _read(place)) is not None:
        index.load(kept)
    else:
        index.add(np.arange(len(rows)), rows)
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            content = bytes(index.save() or b"")
            with written(place) as part:
                part.write_bytes(hashlib.blake2b(content).digest() + content)
    found = index.search(unit(queries), min(k, len(good)))
    places = np.asarray(found.keys, dtype=np.int64).reshape(len(queries), -1)
    distances = np.asarray(found.distances, dtype=np.float32).reshape(len(queries), -1)
    return Neighbours(good[places], 1 - distances)


def _read(place: Path | None) -> bytes | None:
    """The graph in a file, None where there is none, or a damaged one."""
    if place is None or not place.is_file():
        return None
    found = place.read_bytes()
    checksum, content = found[:CHECKSUM_BYTES], found[CHECKSUM_BYTES:]
    return content if hashlib.blake2b(content).digest() == checksum else None
