"""The panels of a map: what each encoder, or each checkpoint of a run, makes of the points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audiossl.errors import UserError
from audiossl.map.config import MapConfig
from audiossl.map.neighbours import Nearest, nearest_of_all, voted
from audiossl.map.points import Points
from audiossl.map.projections import UMAP_NEIGHBOURS, Projection, align, project
from audiossl.search import nearest

QUERIES = 1024  # points that look for voters at a time

Say = Callable[[str], None]


@dataclass(frozen=True)
class Named:
    """What the points are taken for: `labels` (N,) numbers of `names`, -1 for none, and how surely, from 0 to 1."""

    names: list[str]
    labels: np.ndarray
    sure: np.ndarray


@dataclass(frozen=True)
class Frame:
    """One encoder's view of N points: projections by kind, the nearest in `dim` dimensions, and what they are named."""

    name: str
    dim: int
    projections: dict[str, Projection]
    nearest: Nearest
    named: Named | None


@dataclass(frozen=True)
class Panel:
    """A plot of the page: one encoder, or the checkpoints of a run as frames, the last one first looked at."""

    name: str
    frames: list[Frame]


@dataclass(frozen=True)
class Shown:
    """Which of the embedded rows are points, `rows` (N,), and who may name them.

    label_ids (M,) of all rows, -1 for none, point into `label_names`; voters (M,) are labelled training clips.
    """

    rows: np.ndarray
    label_ids: np.ndarray
    label_names: list[str]
    voters: np.ndarray

    @property
    def all_vote(self) -> bool:
        """Whether the voters are the points that are shown, and nobody else."""
        return int(self.voters.sum()) == len(self.rows) and bool(self.voters[self.rows].all())

    @classmethod
    def of(cls, points: Points, rows: np.ndarray) -> Shown:
        """Labels and splits as the points have them; where nothing is said of splits, every label votes."""
        labels = points.texts("label") or [None] * len(points)
        names = sorted({label for label in labels if label is not None})
        number = {name: n for n, name in enumerate(names)}
        ids = np.array([-1 if label is None else number[label] for label in labels], dtype=np.int64)
        training = np.array([split == "training" for split in points.texts("split") or []], dtype=bool)
        voters = (ids >= 0) & (training if training.any() else True)
        return cls(rows, ids, names, voters)


def panel(name: str, features: Mapping[str, np.ndarray], shown: Shown, config: MapConfig, say: Say) -> Panel:
    """Project the features (M, D) of one or several frames, each so that it lies as the one after it does.

    Raises UserError for features that are not finite.
    """
    frames: list[Frame] = []
    for title, x in reversed(list(features.items())):
        if not np.isfinite(x).all():
            raise UserError(f"{name}: the embeddings of {title} are not finite: its weights are damaged.")
        after = {kind: found.xy for kind, found in frames[0].projections.items()} if frames else None
        frames.insert(0, _frame(title, x, shown, config, after, say))
    return Panel(name, frames)


def _frame(
    title: str, x: np.ndarray, shown: Shown, config: MapConfig, after: Mapping[str, np.ndarray] | None, say: Say
) -> Frame:
    here = x[shown.rows]
    say(f"{title}: nearest neighbours")
    # Found once for all that asks: the card, UMAP, and the vote where every point shown votes and nobody else.
    wanted = [config.neighbours, UMAP_NEIGHBOURS if "umap" in config.projections else 0]
    around = nearest_of_all(here, max(*wanted, config.k if shown.all_vote else 0))
    projections = project(
        here, config.projections, config.seed, after, lambda text: say(f"{title}: {text}"), nearest=around
    )
    if after is not None:
        projections = {
            kind: Projection(found.name, align(found.xy, after[kind]), found.about, found.preserved)
            for kind, found in projections.items()
        }
    named = vote(x, shown, config.k, around if shown.all_vote else None)
    return Frame(title, x.shape[1], projections, _first(around, config.neighbours), named)


def _first(around: Nearest, k: int) -> Nearest:
    return Nearest(around.rows[:, :k], around.cosines[:, :k])


def vote(x: np.ndarray, shown: Shown, k: int, around: Nearest | None = None) -> Named | None:
    """What each point is named by its `k` nearest voters, itself left out; None without two labels among them.

    around: the points' neighbours, where all of them vote and nobody else.
    """
    if len(np.unique(shown.label_ids[shown.voters])) < 2:
        return None
    if around is not None:
        near, label_ids, voters = _first(around, k), shown.label_ids[shown.rows], shown.voters[shown.rows]
    else:
        near, label_ids, voters = _nearest_voters(x, shown, k), shown.label_ids, shown.voters
    labels, sure = voted(near, label_ids, len(shown.label_names), voters)
    return Named(list(shown.label_names), labels, sure)


def _nearest_voters(x: np.ndarray, shown: Shown, k: int) -> Nearest:
    """The nearest voters of each point (N, k), by their rows in `x` (M, D), itself left out."""
    voters = np.flatnonzero(shown.voters)
    found = []
    for start in range(0, len(shown.rows), QUERIES):
        rows = shown.rows[start : start + QUERIES]
        near = nearest(x[voters], x[rows], k + 1)
        others = voters[near.rows]
        # Itself goes to the end, and then the last one goes: k others are left.
        order = np.argsort(others == rows[:, None], axis=1, kind="stable")[:, :k]
        found.append((np.take_along_axis(others, order, 1), np.take_along_axis(near.cosines, order, 1)))
    rows, cosines = (np.concatenate(parts) for parts in zip(*found, strict=True))
    alone = rows == shown.rows[:, None]  # a single voter has nobody else
    return Nearest(rows.astype(np.int32), np.where(alone, -np.inf, cosines).astype(np.float32))


def names_of(paths: Sequence[str]) -> dict[str, str]:
    """A short name for each of several paths, as short as tells them apart; NAME=PATH gives its own.

    Raises UserError where a name or a path stands twice.

    >>> names_of(["runs/a/encoder", "runs/b/encoder", "best=runs/c/encoder"])
    {'a': 'runs/a/encoder', 'b': 'runs/b/encoder', 'best': 'runs/c/encoder'}
    """
    own = [path.partition("=") if "=" in path else ("", "", path) for path in paths]
    parts = [[part for part in path.split("/") if part not in ("", ".", "encoder")] or [path] for _, _, path in own]
    short = [tail[-1] for tail in parts]
    length = 1
    while len(set(short)) < len(short) and length < max(map(len, parts)):
        length += 1
        short = ["/".join(tail[-length:]) for tail in parts]
    named = {name or short[n]: path for n, (name, _, path) in enumerate(own)}
    if len(named) < len(paths):
        raise UserError(
            f"--encoder: two have the same name in {', '.join(paths)}: give names, as --encoder first=PATH."
        )
    return named
