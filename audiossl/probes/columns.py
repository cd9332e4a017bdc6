"""The probes by the names of their columns, all measured on one kind of features.

"kNN" is the vote of 20 neighbours, "kNN 200" that of 200; all columns of kNN share one search. "linear" is the layer
by AdamW, "linear SGD" EsViT's, "LR" logistic regression, "one-vs-rest" one for each label, and a number means LR on so
many clips a class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from audiossl.errors import UserError
from audiossl.probes.config import LinearSGDConfig
from audiossl.probes.features import FeatureTable, ProbeData, ProbeScore, accuracy, top5_accuracy
from audiossl.probes.few_shot import FEW_LABELS, FewShotScore, few_shot
from audiossl.probes.knn import knn_rankings
from audiossl.probes.linear import linear_probe
from audiossl.probes.linear_sgd import linear_sgd
from audiossl.probes.logistic import logistic_probe, one_vs_rest_probe

ALL_COLUMNS = ("kNN", "linear", "LR", *(str(n) for n in FEW_LABELS))
QUICK_COLUMNS = ("kNN", "linear")
LINEAR_SGD = "linear SGD"
ONE_VS_REST = "one-vs-rest"
DEFAULT_K = 20
_KNN = re.compile(r"kNN(?: ([1-9]\d*))?")
_FEW = re.compile(r"[1-9]\d*")


def chosen_columns(ks: Sequence[int], linear_sgd: bool, quick: bool, one_vs_rest: bool = False) -> tuple[str, ...]:
    """The columns of a table in their order, for these numbers of neighbours.

    >>> chosen_columns([10, 20], linear_sgd=True, quick=True)
    ('kNN 10', 'kNN 20', 'linear', 'linear SGD')
    """
    kept = list(QUICK_COLUMNS if quick else ALL_COLUMNS)
    if list(ks) != [DEFAULT_K]:
        kept[:1] = [f"kNN {k}" for k in sorted(set(ks))]
    if linear_sgd:
        kept.insert(kept.index("linear") + 1, LINEAR_SGD)
    if one_vs_rest:
        kept.insert(kept.index("LR") + 1 if "LR" in kept else len(kept), ONE_VS_REST)
    return tuple(kept)


def neighbours(column: str) -> int | None:
    """The k of a column of kNN, None for any other.

    >>> neighbours("kNN"), neighbours("kNN 200"), neighbours("LR")
    (20, 200, None)
    """
    found = _KNN.fullmatch(column)
    return int(found[1] or DEFAULT_K) if found else None


def check_columns(columns: Sequence[str]) -> None:
    """Raise `UserError` when there is no probe of such a name."""
    known = ", ".join((*ALL_COLUMNS, LINEAR_SGD, ONE_VS_REST))
    for column in columns:
        named = column in ("linear", LINEAR_SGD, "LR", ONE_VS_REST)
        if not named and not _KNN.fullmatch(column) and not _FEW.fullmatch(column):
            raise UserError(f"there is no probe {column!r}: choose from {known}, or another k, such as kNN 200.")


def measure(
    table: FeatureTable,
    columns: Sequence[str],
    seed: int = 0,
    sgd: LinearSGDConfig | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, ProbeScore | FewShotScore]:
    """Score every column on the features; `seed` orders batches, `sgd` and `device` are those of "linear SGD"."""
    check_columns(columns)
    sgd = sgd or LinearSGDConfig()
    data = table.probe_data()
    scores: dict[str, ProbeScore | FewShotScore] = dict(_knn(data, columns))
    for column in columns:
        if column.isdigit():
            scores[column] = few_shot(data, int(column))
        elif column == "linear":
            scores[column] = linear_probe(data, seed=seed)
        elif column == LINEAR_SGD:
            scores[column] = linear_sgd(data if sgd.standardise else table.probe_data(False), sgd, seed, device)
        elif column == "LR":
            scores[column] = logistic_probe(data)
        elif column == ONE_VS_REST:
            scores[column] = one_vs_rest_probe(data)
    return {column: scores[column] for column in columns}


def _knn(data: ProbeData, columns: Sequence[str]) -> dict[str, ProbeScore]:
    ks = {column: k for column in columns if (k := neighbours(column)) is not None}
    if not ks:
        return {}
    # Under one name without a number it is the plain column, which ranks no labels.
    n_best = 5 if set(ks) != {"kNN"} else 1
    rankings = knn_rankings(
        data.train.x, data.train.y, data.test.x, sorted(set(ks.values())), n_best, n_classes=data.n_classes
    )
    scores = {}
    for column, k in ks.items():
        ranked = rankings[k]
        top5 = top5_accuracy(ranked, data.test.y, data.n_classes) if n_best > 1 else None
        scores[column] = ProbeScore(accuracy(ranked[:, 0], data.test.y), top5=top5, predicted=ranked[:, 0])
    return scores
