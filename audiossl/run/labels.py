"""Which labelled clips a supervised run learns from."""

from __future__ import annotations

import numpy as np

from audiossl.data.cached import CachedClips
from audiossl.errors import UserError
from audiossl.probes.few_shot import draw_few


def labelled_clips(training: CachedClips, per_class: int = 0, seed: int = 0) -> CachedClips:
    """The clips of `training` that have a label, or `per_class` of each label, drawn by `seed`.

    The draw is that of the few-label probes, so seed 0 learns from the clips of their first draw. Few clips are
    repeated, each as often as the others, so that an epoch is about as long as with all labels: runs with many and
    with few labels then take the same steps.

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
    if per_class:
        drawn = rows[draw_few(labels[rows], per_class, seed)]
        rows = np.tile(drawn, len(rows) // len(drawn))
    return training.subset(rows)
