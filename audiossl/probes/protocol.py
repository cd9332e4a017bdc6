"""The sentences below a table: how its columns were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from audiossl.probes.columns import DEFAULT_K, LINEAR_SGD, ONE_VS_REST, neighbours
from audiossl.probes.config import LinearSGDConfig
from audiossl.probes.few_shot import FEW_LABELS_C


def protocol(columns: Sequence[str], sgd: LinearSGDConfig) -> str:
    """What was done for which column, in one line."""
    ks = sorted({k for column in columns if (k := neighbours(column)) is not None}) or [DEFAULT_K]
    text = (
        "accuracy in percent on the test split, read once after all choices; features standardised on training; "
        f"kNN: cosine, k {', '.join(map(str, ks))}, weight exp(similarity / 0.07); linear: one layer by AdamW, "
        "learning rate and decay chosen on validation; LR: multinomial logistic regression, C chosen on validation; "
        f"1 to 100: LR on so many clips a class of the training split, C {FEW_LABELS_C}, mean ± deviation of 5 draws"
    )
    if ONE_VS_REST in columns:
        text += f"; {ONE_VS_REST}: a logistic regression for each label, the surest decides, C chosen on validation"
    return f"{text}; {_linear_sgd(sgd)}" if LINEAR_SGD in columns else text


def _linear_sgd(sgd: LinearSGDConfig) -> str:
    rates = ", ".join(f"{rate:g}" for rate in sgd.learning_rates)
    several = len(sgd.learning_rates) * len(sgd.weight_decays) > 1
    return (
        f"{LINEAR_SGD}: one layer by SGD with momentum 0.9, {sgd.epochs} epochs, batch {sgd.batch_size}, learning rate "
        f"{rates} per 256 clips{', chosen on validation' if several else ''}, cosine"
        + ("" if sgd.standardise else ", features as they are")
    )


def capped_k(columns: Sequence[str], n_training: int) -> list[str]:
    """A sentence for each column of kNN that asks for more neighbours than there are training clips.

    >>> capped_k(["kNN 10", "kNN 200"], 120)
    ['Of kNN 200 all 120 training clips vote.']
    """
    return [
        f"Of {column} all {n_training} training clips vote."
        for column in columns
        if (neighbours(column) or 0) > n_training
    ]


def short_label_sentences(short: Mapping[str, Sequence[str]]) -> list[str]:
    """A sentence for each number of clips that labels do not have, from `short_labels`.

    >>> short_label_sentences({"20": ["cat", "dog"]})
    ['Fewer than 20 training clips, used whole: cat, dog.']
    """
    return [f"Fewer than {n} training clips, used whole: {', '.join(labels)}." for n, labels in short.items()]


def last_blocks_sentence(about: Mapping[str, Any]) -> str:
    """What the features are, where they are not the encoder's embedding."""
    if not about.get("last_blocks"):
        return ""
    patches = ", and the mean of its last patches" if about["avgpool_patchtokens"] else ""
    return f"Features of the encoder and of random weights: last {about['last_blocks']} blocks, pooled{patches}."
