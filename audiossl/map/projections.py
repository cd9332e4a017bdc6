"""Rows of many numbers laid out in a plane: PCA, t-SNE, UMAP; and how much of the neighbourhoods each of them keeps.

All three look at directions alone, as the search does: rows are brought to unit length first, so that what is near is
what has a high cosine (the squared distance of two such rows is 2 - 2 cosine). All three are drawn from a seed and on
one thread where the number of threads would change the sums, so that the same rows give the same bytes.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

from audiossl.errors import UserError
from audiossl.map.config import PROJECTIONS
from audiossl.map.neighbours import Nearest, nearest_of_all
from audiossl.search import largest, unit

NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
# Fewer points have no neighbourhoods that t-SNE and UMAP could lay out.
FEWEST = 4
# scikit-learn's t-SNE takes minutes for so many points, and half an hour for 100,000.
MOST_TSNE = 10_000
PERPLEXITY = 30.0
UMAP_NEIGHBOURS = 15
# Nearest of each point that are looked for again in the plane.
PRESERVED_K = 15
# Unit rows in float32 that differ by less than this are the same.
SAME = 1e-6
# Numbers in float64 that exist at a time, 32 MB of them.
BLOCK = 2**22


@dataclass(frozen=True)
class Projection:
    """Points in a plane.

    name: "PCA", "t-SNE" or "UMAP".
    xy: (N, 2) float32, finite, centred, and scaled so that the larger of both standard deviations is 1.
    about: how it was made, a phrase.
    preserved: share of the neighbourhoods that it keeps, from 0 to 1 (`preserved`); NaN for fewer than 3 points.
    """

    name: str
    xy: np.ndarray
    about: str
    preserved: float


@contextlib.contextmanager
def _threads_kept() -> Iterator[None]:
    """Leave torch its number of threads: it shares OpenMP with scikit-learn, and with numba under UMAP."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_threads_kept()
def project(
    x: np.ndarray,
    kinds: Sequence[str],
    seed: int = 0,
    start: Mapping[str, np.ndarray] | None = None,
    say: Callable[[str], None] | None = None,
    nearest: Nearest | None = None,
) -> dict[str, Projection]:
    """Lay the rows of `x` (N, D) out in a plane by each of `kinds`, in their order.

    Args:
        x: finite numbers; rows of zeros are allowed.
        kinds: some of `PROJECTIONS`.
        seed: of t-SNE and UMAP, and of the rows by which `preserved` is measured.
        start: by kind, where t-SNE and UMAP begin (N, 2): at the places of an earlier checkpoint, say, so that points
            stay where they are unless they have a reason to move. Else they begin at PCA's places.
        say: called with a sentence before each projection.
        nearest: the neighbours of `x`, 14 or more a row, where they are known already; UMAP looks for them otherwise.

    Raises `UserError` for an unknown kind, where umap-learn is not installed, and for more points than t-SNE can lay
    out in minutes.
    """
    check_kinds(kinds, len(x))
    points = unit(x)
    flat, share = _pca(points)
    found = {}
    for kind in kinds:
        if say is not None:
            say(f"{NAMES[kind]} of {len(points):,} points")
        begin = None if start is None else start.get(kind)
        if not flat.any():
            xy, about = flat, "all points are the same"
        elif kind == "pca":
            xy, about = flat, f"{share:.0%} of the variance of unit-length rows"
        elif len(points) < FEWEST:
            xy, about = flat, f"PCA: {NAMES[kind]} needs {FEWEST} points"
        elif kind == "tsne":
            xy, about = _tsne(points, flat, begin, seed)
        else:
            xy, about = _umap(x, flat, begin, seed, nearest)
        xy = _standardised(xy).astype(np.float32)
        found[kind] = Projection(NAMES[kind], xy, about, preserved(points, xy, seed=seed))
    return found


def check_kinds(kinds: Sequence[str], n_points: int) -> None:
    """Raise `UserError`, before any work, for what `project` cannot do with so many points."""
    for kind in kinds:
        if kind not in PROJECTIONS:
            raise UserError(f"projection {kind!r} is unknown: choose some of {', '.join(PROJECTIONS)}.")
    if "tsne" in kinds and n_points > MOST_TSNE:
        raise UserError(
            f"t-SNE takes too long for {n_points:,} points, more than {MOST_TSNE:,}: give --projections pca,umap."
        )


def _pca(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Places (N, 2) on the first two principal components, and their share of the variance; 0 where all is the same.

    The point that lies farthest out on an axis lies on its positive side: eigenvectors come with either sign.
    """
    from scipy.linalg import eigh

    n, dim = points.shape
    places = np.zeros((n, 2))
    centre = points.mean(axis=0, dtype=np.float64)
    size = max(1, BLOCK // max(n, dim))
    blocks = [slice(first, first + size) for first in range(0, max(n, dim), size)]
    small = n < dim
    # The smaller of the products of the centred rows (N, N) and of their columns (D, D): both have the same spectrum.
    product = np.zeros((min(n, dim),) * 2)
    for block in blocks:
        part = points[:, block] - centre[block] if small else (points[block] - centre).T
        product += part @ part.T
    n_axes = min(2, len(product))
    values, vectors = eigh(product, subset_by_index=[len(product) - n_axes, len(product) - 1])
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    if values[0] <= n * SAME**2:
        return places, 0.0
    if small:
        places[:, :n_axes] = vectors * np.sqrt(values)
    else:
        for block in blocks:
            places[block, :n_axes] = (points[block] - centre) @ vectors
    farthest = places[np.abs(places).argmax(axis=0), [0, 1]]
    return places * np.where(farthest < 0, -1.0, 1.0), float(values.sum() / np.trace(product))


def _tsne(points: np.ndarray, flat: np.ndarray, begin: np.ndarray | None, seed: int) -> tuple[np.ndarray, str]:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    # Small beginnings, as scikit-learn's own: large ones do not move any more.
    init = (1e-4 * _begun(flat if begin is None else begin, seed)).astype(np.float32)
    # Exaggeration finds clusters by throwing points about, which those that have their places shall not be.
    tsne = TSNE(init=init, perplexity=perplexity, early_exaggeration=12 if begin is None else 1, random_state=seed)
    # Sums over threads come in the order in which they end.
    with threadpool_limits(1):
        xy = tsne.fit_transform(points)
    return xy, f"perplexity {perplexity:.3g}, {_from(begin)}, seed {seed}, scikit-learn {version('scikit-learn')}"


def _umap(
    x: np.ndarray, flat: np.ndarray, begin: np.ndarray | None, seed: int, nearest: Nearest | None
) -> tuple[np.ndarray, str]:
    try:
        from umap import UMAP
    except ImportError:
        raise UserError("UMAP needs umap-learn: pip install umap-learn, or give --projections pca,tsne.") from None
    k = min(UMAP_NEIGHBOURS, len(x) - 1)  # UMAP counts the point itself
    if nearest is None or nearest.rows.shape[1] < k - 1:
        nearest = nearest_of_all(x, k - 1)
    rows = np.column_stack([np.arange(len(x), dtype=np.int32), nearest.rows[:, : k - 1]])
    distances = np.column_stack([np.zeros(len(x), np.float32), 1 - nearest.cosines[:, : k - 1]])
    # Exact neighbours instead of UMAP's own search, and no distance at which a point is cut off and has no place.
    umap = UMAP(
        n_neighbors=k,
        min_dist=0.1,
        metric="cosine",
        init=_begun(flat if begin is None else begin, seed).astype(np.float32),
        learning_rate=1.0 if begin is None else 0.3,
        random_state=seed,
        n_jobs=1,
        precomputed_knn=(rows, distances.clip(min=0)),
        disconnection_distance=np.inf,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn")  # new points cannot be placed: none will be
        xy = umap.fit_transform(unit(x))
    about = f"{k} neighbours by cosine, min_dist 0.1, {_from(begin)}, seed {seed}, umap-learn {version('umap-learn')}"
    return xy, about


def _from(begin: np.ndarray | None) -> str:
    return "from PCA" if begin is None else "from the places before"


def _begun(begin: np.ndarray, seed: int) -> np.ndarray:
    """Places to begin at, of deviation 1 and shaken a little: points on a line, or on one another, could not part."""
    return _standardised(begin) + 1e-3 * np.random.default_rng(seed).standard_normal(begin.shape)


def _standardised(xy: np.ndarray) -> np.ndarray:
    """Centred, and scaled so that the larger of both deviations is 1; zeros where all points are one."""
    xy = np.asarray(xy, np.float64)
    xy = xy - xy.mean(axis=0)
    deviation = xy.std(axis=0).max()
    return xy / deviation if deviation > 0 else xy


def align(xy: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Turn, mirror and shift `xy` (N, 2) so that it lies best on `to` (N, 2), the same points elsewhere.

    >>> align(np.array([[0, 1], [0, 2], [0, 4]]), np.array([[1, 0], [2, 0], [4, 0]])).round(3).tolist()
    [[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]
    """
    own, other = np.asarray(xy, np.float64), np.asarray(to, np.float64)
    middle = other.mean(axis=0)
    own = own - own.mean(axis=0)
    left, _, right = np.linalg.svd(own.T @ (other - middle))  # orthogonal Procrustes, Schönemann 1966
    return (own @ (left @ right) + middle).astype(np.float32)


def preserved_k(n: int, k: int = PRESERVED_K) -> int:
    """Neighbours by which `preserved` measures `n` points: half of the others at most, since all would always be kept.

    >>> preserved_k(1000), preserved_k(18)
    (15, 8)
    """
    return min(k, (n - 1) // 2)


def preserved(x: np.ndarray, xy: np.ndarray, k: int = PRESERVED_K, sample: int = 2000, seed: int = 0) -> float:
    """Mean share of a row's `k` nearest in the plane that are among its `k` nearest by cosine, from 0 to 1.

    What is exactly as near as the k-th nearest counts as one of them: of equal rows none is nearer. `k` is lowered as
    `preserved_k` says. NaN for fewer than 3 rows.

    Args:
        x: (N, D).
        xy: (N, 2), their places.
        k: neighbours.
        sample: rows whose neighbours are looked at, drawn from `seed` where there are more.
        seed: of the draw.
    """
    n = len(x)
    if n < 3:
        return float("nan")
    k = preserved_k(n, k)
    points, places = unit(x), np.asarray(xy, np.float64)
    chosen = np.arange(n) if n <= sample else np.sort(np.random.default_rng(seed).permutation(n)[:sample])
    size, kept = max(1, BLOCK // n), 0
    for first in range(0, len(chosen), size):
        rows = chosen[first : first + size]
        own = np.arange(len(rows)), rows
        cosines = points[rows] @ points.T
        cosines[own] = -np.inf
        least = np.partition(cosines, n - k, axis=1)[:, n - k, None]
        closeness = -np.square(places[rows, None, 0] - places[:, 0]) - np.square(places[rows, None, 1] - places[:, 1])
        closeness[own] = -np.inf
        kept += int((np.take_along_axis(cosines, largest(closeness, k), 1) >= least - SAME).sum())
    return kept / (len(chosen) * k)
