"""Which labelled clips a supervised run learns from, and when it has learnt enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from audiossl.data.cached import CachedClips
from audiossl.errors import UserError
from audiossl.probes.few_shot import draw_few


def labelled_clips(training: CachedClips, per_class: int = 0, seed: int = 0, share: float = 1.0) -> CachedClips:
    """The clips of `training` that have a label, or `per_class` or a `share` of each label, drawn by `seed`.

    The draw is that of the few-label probes, so seed 0 learns from the clips of their first draw. Few clips are
    repeated, each as often as the others or once more, so that an epoch is as long as with all labels: runs with many
    and with few labels then take the same steps. Of a share, every label has at least one clip.

    Raises `UserError` when no clip has a label, or all have the same.
    """
    labels = np.asarray(training.label_ids)
    rows = np.flatnonzero(labels >= 0)
    if not len(rows):
        raise UserError(
            f"{training.name}: none of its {len(training)} training clips has a label, and this recipe learns from "
            "labels: give a --data.root with a folder a label or a manifest with a label column."
        )
    names = {training.label_names[label] for label in labels[rows]}
    if len(names) < 2:
        raise UserError(
            f"{training.name}: all of its {len(rows)} labelled training clips are {names.pop()!r}, and a classifier "
            "tells labels apart: give two or more."
        )
    drawn = rows
    if per_class:
        drawn = rows[draw_few(labels[rows], per_class, seed)]
    elif share < 1.0:
        drawn = rows[draw_share(labels[rows], share, seed)]
    times, rest = divmod(len(rows), len(drawn))
    by_label = drawn[np.argsort(labels[drawn], kind="stable")]
    more = by_label[np.linspace(0, len(drawn), rest, endpoint=False).astype(int)]  # of every label its share
    return training.subset(np.concatenate([np.tile(drawn, times), more]))


def draw_share(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Row numbers of a share of the clips of every class in `y` (N,), sorted; at least one of each.

    The clips of a smaller share are among those of a larger one.

    >>> [len(draw_share(np.array([0] * 30 + [1] * 2), share, 0)) for share in (0.01, 0.1, 1.0)]
    [2, 4, 32]
    """
    generator = np.random.default_rng(seed)
    rows = []
    for label in np.unique(y):
        order = generator.permutation(np.flatnonzero(y == label))
        rows.append(order[: max(1, round(share * len(order)))])
    return np.sort(np.concatenate(rows))


def enough(history: Sequence[Mapping[str, Any]], monitor: str, patience: int) -> bool:
    """Whether a monitor has not risen for `patience` of its last values (0: never); a function of the run's rows alone.

    >>> rows = [{"kind": "epoch", "accuracy": value} for value in (50.0, 70.0, 70.0, 69.0)]
    >>> enough(rows, "accuracy", 2), enough(rows, "accuracy", 3), enough(rows, "accuracy", 0)
    (True, False, False)
    """
    values = [row[monitor] for row in history if row.get("kind") == "epoch" and row.get(monitor) is not None]
    return bool(patience) and len(values) > patience and max(values[-patience:]) <= max(values[:-patience])
