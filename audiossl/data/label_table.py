"""Labels of clips as a table: which clip has which label, also where a clip has several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def label_names(labels: Sequence[str | None], separator: str | None = None) -> tuple[str, ...]:
    """Sorted names of the labels that occur; with `separator` a clip may have several of them.

    >>> label_names(["rain;wind", "rain", None], ";")
    ('rain', 'wind')
    """
    return tuple(sorted({name for label in labels if label is not None for name in parts_of(label, separator)}))


def label_table(labels: Sequence[str | None], names: Sequence[str], separator: str | None = None) -> np.ndarray:
    """Table (N, K) float32: 1 where a clip has the label of that column; rows of NaN where nothing is known.

    A label that is not among `names` has no column: such a clip's row is 0 there.

    >>> label_table(["wind", None, "rain;wind", ";"], ("rain", "wind"), ";").tolist()
    [[0.0, 1.0], [nan, nan], [1.0, 1.0], [0.0, 0.0]]
    """
    place = {name: column for column, name in enumerate(names)}
    table = np.zeros((len(labels), len(names)), np.float32)
    for row, label in enumerate(labels):
        if label is None:
            table[row] = np.nan
            continue
        for name in parts_of(label, separator):
            if name in place:
                table[row, place[name]] = 1.0
    return table


def parts_of(label: str, separator: str | None) -> list[str]:
    """The labels in one cell; a separator alone is a clip that has none of them.

    >>> parts_of("rain; wind", ";"), parts_of(";", ";"), parts_of("rain; wind", None)
    (['rain', 'wind'], [], ['rain; wind'])
    """
    if separator is None:
        return [label]
    return [part.strip() for part in label.split(separator) if part.strip()]
