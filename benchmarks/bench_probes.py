"""Probes that share their work: a grid of learning rates in one pass, and several k in one search for neighbours.

    python benchmarks/bench_probes.py

4,000 training and 500 test rows of 768 numbers in 9 labels, about the size of Speech Commands' nine words; the
deviations stand below the tables.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from timing import compare

from audiossl.probes.features import Labelled
from audiossl.probes.knn import knn_predict, knn_rankings
from audiossl.probes.linear_sgd import train_grid

GRID = [(rate, 0.0) for rate in (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)]
KS = (10, 20, 100, 200)
CLASSES, EPOCHS, BATCH = 9, 5, 128


def rows(n: int, seed: int) -> Labelled:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    centres = np.random.default_rng(99).normal(size=(CLASSES, 768))
    return Labelled((0.3 * centres[y] + rng.normal(size=(n, 768))).astype(np.float32), y)


def versus_scikit_learn(train: Labelled, test: Labelled) -> None:
    """The same weighted vote of 20 neighbours, and plain SGD through the rows."""
    neighbours = KNeighborsClassifier(
        20, weights=lambda distance: np.exp((1 - distance) / 0.07), algorithm="brute", metric="cosine"
    )

    def theirs() -> np.ndarray:
        return neighbours.fit(train.x, train.y).predict(test.x)

    def ours() -> np.ndarray:
        return knn_predict(train.x, train.y, test.x, 20)

    compare("Weighted kNN, k 20", {"audiossl": ours, "scikit-learn": theirs}, "audiossl", device="cpu")
    print(f"\nLabels that agree: {100 * float((ours() == theirs()).mean()):.1f} %")
    sgd = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.001, max_iter=EPOCHS, tol=None, alpha=0.0)
    compare(
        f"A linear layer by SGD, one learning rate, {EPOCHS} epochs",
        {
            f"audiossl, batches of {BATCH}": lambda: train_grid(train, CLASSES, GRID[:1], EPOCHS, BATCH),
            "scikit-learn, a row a step, one label against the rest": lambda: sgd.fit(train.x, train.y),
        },
        f"audiossl, batches of {BATCH}",
        rounds=3,
        device="cpu",
    )


def main() -> None:
    train, test = rows(4000, 0), rows(500, 1)

    def grid(pairs):
        return train_grid(train, CLASSES, pairs, EPOCHS, BATCH)

    def neighbours(ks):
        return knn_rankings(train.x, train.y, test.x, ks, n_classes=CLASSES)

    compare(
        f"Linear evaluation by SGD, {len(GRID)} learning rates, {EPOCHS} epochs",
        {
            "one rate": lambda: grid(GRID[:1]),
            "each rate alone": lambda: [grid([pair]) for pair in GRID],
            "all in one pass": lambda: grid(GRID),
        },
        "each rate alone",
        rounds=7,
        device="cpu",
    )
    together, alone = grid(GRID)[0], torch.cat([grid([pair])[0] for pair in GRID], 1)
    print(f"\nLargest deviation of a weight: {float((together - alone).abs().max()):.1e}")
    compare(
        f"kNN with k {', '.join(map(str, KS))}",
        {"each k alone": lambda: [neighbours((k,)) for k in KS], "one search": lambda: neighbours(KS)},
        "each k alone",
        device="cpu",
    )
    one_search = neighbours(KS)
    same = all(np.array_equal(one_search[k], neighbours((k,))[k]) for k in KS)
    print(f"\nThe same rankings: {same}")
    versus_scikit_learn(train, test)


if __name__ == "__main__":
    main()
