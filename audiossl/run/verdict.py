"""One plain sentence on a run that goes wrong: what is seen in its curves and what to try.

The signatures are those that users of DINO and EsViT report from their own data: a loss that sits at ln K
(uniform targets), one prototype for every clip, features at one point or on a line, NaN. The numbers behind
the thresholds stand beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

Row = Mapping[str, float]
Check = Callable[[list[dict[str, float]]], str | None]

# No warning in the first epoch, nor before this many steps: one epoch of a small data set can be 30 steps, and 30 steps
# say nothing.
PATIENCE_STEPS = 100
# Epochs that a loss has to lie at ln K, where every loss begins, one after the other.
PATIENCE_EPOCHS = 3
# loss / ln K above this and no longer falling: flat. The first sign of learning on 4,000 clips was 0.92.
FLAT_LOSS = 0.98
FLAT_FALL = 0.005
# Teacher entropy / ln K above this: the targets are uniform, there is nothing to learn from them.
UNIFORM_ENTROPY = 0.98
# Entropy and KL both below this share of ln K: one prototype takes every clip (Caron et al. 2021, figure 7:
# without centring the entropy goes to 0, and a KL of 0 means a constant output). A small entropy alone is a
# sure teacher.
POINT_SHARE = 0.02
# BYOL-A v2 alarms below 10 % of the isotropic spread. A network with random weights can start there
# (resnet10: 0.097, resnet18: 0.19, Swin and ViT: 0.63, measured on 400 spoken words), so a fall from the
# run's own best is needed too.
SMALL_STD = 0.10
FALLEN_STD = 0.5
POINT_STD = 0.02
# RankMe of the same random networks: resnet10 6, resnet18 23, ViT tiny 43, Swin tiny 137. Below 2 all clips
# lie on a line; below 10 and a quarter of the run's best, most directions have been lost.
SMALL_RANK = 2.0
LOW_RANK = 10.0
FALLEN_RANK = 0.25
# Accuracy on 500 clips has a standard error of up to 2 points.
KNN_ERROR = 2.0
KNN_PATIENCE_EPOCHS = 10
# Share of the way from the coding rate of a collapse (0) to the largest that there is (1), over so many steps: random
# weights begin at 0.35 to 0.97, a collapse was at 0.00 to 0.11 in the mean of its first 20 steps.
SMALL_RATE_SHARE = 0.15
COLLAPSE_STEPS = 20
# Spread of BYOL's targets over a batch, 1 if even, below which they are one point (Niizumi et al. 2023: 10 %).
SMALL_PROJECTION_STD = 0.10
POINT_STEPS = 40
# A rise of the loss by this share over its best epochs, while kNN does not improve.
RISEN_LOSS = 0.10
RISE_EPOCHS = 5


def verdict(history: Sequence[Row]) -> str | None:
    """One sentence on what is wrong with a run and what to try, or None when nothing is seen.

    Rows of one epoch are averaged, so step rows and epoch rows may be mixed, as in metrics.jsonl. Every key
    is optional: epoch, step, loss, loss_over_ln_k, teacher_entropy and kl (nats), feature_std, rankme, lr,
    knn, knn_random, knn_chance, training_accuracy, validation_accuracy (percent). A run with a training_accuracy
    learns from labels, and is judged by its validation_accuracy alone. Only a value that is not finite is
    reported in the first epoch.

    >>> verdict([{"epoch": 0, "loss": 5.5}]) is None
    True
    >>> verdict([{"epoch": 0, "loss": float("nan")}]).startswith("The loss is not a finite number")
    True
    """
    epochs = by_epoch(history)
    if not epochs:
        return None
    if message := _not_finite(epochs[-1]):
        return message
    late = _steps(epochs) >= PATIENCE_STEPS
    if len(epochs) < 2 or not late:
        return None
    checks: tuple[Check, ...] = (_one_point, _dimensional, _uniform, _rising, _knn)
    if any("training_accuracy" in row for row in epochs):
        # A classifier's features gather at one point a label, so they use few directions: that is no collapse.
        checks = (_classifier,)
    return next((message for check in checks if (message := check(epochs))), None)


def early_verdict(steps: Sequence[Row]) -> str | None:
    """One sentence when the rows of steps, within an epoch, show a collapse that need not be waited for, or None.

    Keys: step; rate_share, with coding_rate and collapse_rate (nats), the rate that clips which are all alike have;
    projection_std. A row stands for all steps since the one before it.

    >>> early_verdict([{"step": 20, "coding_rate": 4.3, "collapse_rate": 4.27, "rate_share": 0.0}])[:28]
    'Collapse: the coding rate is'
    >>> early_verdict([{"step": 20, "projection_std": 0.01}, {"step": 40, "projection_std": 0.01}])[:34]
    'Collapse: the directions of the ta'
    """
    if not steps:
        return None
    last = steps[-1]
    if _lasts(steps, lambda row: row.get("projection_std", math.inf) < SMALL_PROJECTION_STD) >= POINT_STEPS:
        return (
            f"Collapse: the directions of the targets spread by {last['projection_std']:.3f} at step "
            f"{last['step']:g}, and by 1 if they are even: try a lower --optim.lr, a warm-up, or batch norms in all "
            "heads."
        )
    if _lasts(steps, lambda row: row.get("rate_share", math.inf) < SMALL_RATE_SHARE) >= COLLAPSE_STEPS:
        return (
            f"Collapse: the coding rate is {last['coding_rate']:.1f} nats at step {last['step']:g}, and clips that "
            f"are all alike have {last['collapse_rate']:.1f}: try a lower --optim.lr and --optim.lr_1d, a warm-up, or "
            "a smaller --method.invariance."
        )
    return None


def _lasts(steps: Sequence[Row], bad: Callable[[Row], bool]) -> float:
    """For how many steps, up to the last, rows have been bad."""
    before = next((row["step"] for row in reversed(steps) if not bad(row)), 0.0)
    return steps[-1]["step"] - before


def by_epoch(history: Sequence[Row]) -> list[dict[str, float]]:
    """One row an epoch, in order: the mean of every number over the rows of that epoch (step: the last)."""
    groups: dict[float, dict[str, list[float]]] = {}
    for row in history:
        if isinstance(row.get("epoch"), int | float):
            group = groups.setdefault(row["epoch"], {})
            for key, value in row.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    group.setdefault(key, []).append(float(value))
    return [
        {key: max(values) if key == "step" else sum(values) / len(values) for key, values in groups[e].items()}
        for e in sorted(groups)
    ]


def _steps(epochs: list[dict[str, float]]) -> float:
    steps = [row["step"] for row in epochs if "step" in row]
    return steps[-1] if steps else math.inf


def _recent(epochs: list[dict[str, float]], key: str, n: int) -> list[float]:
    """The last n values of a key, which monitors may give every few epochs; nothing when there are fewer."""
    values = [row[key] for row in epochs if key in row][-n:]
    return values if len(values) == n else []


def _ln_k(row: Row) -> float | None:
    """Ln of the number of prototypes, which the two forms of the loss give away."""
    if row.get("loss_over_ln_k"):
        return row["loss"] / row["loss_over_ln_k"] if row.get("loss") else None
    return None


def _not_finite(row: Row) -> str | None:
    for key, name in (("loss", "loss"), ("feature_std", "spread of the features"), ("rankme", "RankMe")):
        if not math.isfinite(row.get(key, 0.0)):
            return (
                f"The {name} is not a finite number: start again from the last checkpoint with a lower "
                "learning rate or --run.precision fp32, and look for clips that are NaN or silent."
            )
    return None


def _one_point(epochs: list[dict[str, float]]) -> str | None:
    ln_k = _ln_k(epochs[-1])
    entropy, kl = _recent(epochs, "teacher_entropy", 2), _recent(epochs, "kl", 2)
    cure = "try Sinkhorn or stronger centring, a higher teacher temperature, or a spreading term (KoLeo)."
    if ln_k and entropy and kl and max(entropy + kl) < POINT_SHARE * ln_k:
        return (
            f"Collapse to one point: teacher entropy ({entropy[-1]:.3f}) and KL ({kl[-1]:.3f}) are near 0, "
            f"so one prototype takes every clip; {cure}"
        )
    spread = _recent(epochs, "feature_std", 2)
    best = max((row["feature_std"] for row in epochs if "feature_std" in row), default=0.0)
    if spread and (max(spread) < POINT_STD or max(spread) < min(SMALL_STD, FALLEN_STD * best)):
        return (
            f"Collapse to one point: the features' spread is {spread[-1]:.3f} (1 is isotropic), so all clips "
            f"look alike to the network; {cure}"
        )
    return None


def _dimensional(epochs: list[dict[str, float]]) -> str | None:
    ranks = _recent(epochs, "rankme", 2)
    best = max((row["rankme"] for row in epochs if "rankme" in row), default=0.0)
    if ranks and (max(ranks) < SMALL_RANK or max(ranks) < min(LOW_RANK, FALLEN_RANK * best)):
        return (
            f"Dimensional collapse: RankMe is {ranks[-1]:.1f}, so the features use hardly more than "
            f"{max(1, round(ranks[-1]))} direction(s); try a spreading term (KoLeo), more prototypes, a "
            "lower learning rate or less weight decay."
        )
    return None


def _uniform(epochs: list[dict[str, float]]) -> str | None:
    loss = _recent(epochs, "loss_over_ln_k", PATIENCE_EPOCHS)
    if not loss or min(loss) < FLAT_LOSS or loss[0] - loss[-1] > FLAT_FALL or _warming_up(epochs):
        return None
    ln_k, entropy = _ln_k(epochs[-1]), epochs[-1].get("teacher_entropy")
    if ln_k and entropy is not None and entropy < UNIFORM_ENTROPY * ln_k:
        return (
            f"The loss is flat at ln K ({loss[-1]:.2f} of it) though the teacher is not uniform: the student "
            "does not learn the targets; try a higher learning rate, fewer prototypes, a higher teacher "
            "momentum, or milder views."
        )
    return (
        f"The loss is flat at ln K ({loss[-1]:.2f} of it): the teacher's output is uniform and teaches "
        "nothing; try a lower teacher temperature, a lower teacher momentum (0.99 or less on small data), "
        "or fewer prototypes."
    )


def _warming_up(epochs: list[dict[str, float]]) -> bool:
    lr = _recent(epochs, "lr", PATIENCE_EPOCHS)
    return bool(lr) and all(later > earlier for earlier, later in pairwise(lr))


def _rising(epochs: list[dict[str, float]]) -> str | None:
    """A loss that climbs for epochs. BYOL's and DINO's may climb while features improve: kNN excuses it."""
    loss = _recent(epochs, "loss", RISE_EPOCHS + 1)
    if not loss or any(later <= earlier for earlier, later in pairwise(loss)):
        return None
    best = min(row["loss"] for row in epochs if "loss" in row)
    knn = _measured(epochs)
    if loss[-1] < (1 + RISEN_LOSS) * best or (knn and knn[-1][1] >= max(v for _, v in knn) - KNN_ERROR):
        return None
    return (
        f"The loss has risen for {RISE_EPOCHS} epochs, from {best:.3f} at its best to {loss[-1]:.3f}: try a "
        "lower learning rate, a longer warm-up, or a higher teacher momentum."
    )


def _measured(epochs: list[dict[str, float]], key: str = "knn") -> list[tuple[float, float]]:
    return [(row["epoch"], row[key]) for row in epochs if math.isfinite(row.get(key, math.nan))]


def _knn(epochs: list[dict[str, float]]) -> str | None:
    knn = _measured(epochs)
    if len(knn) < PATIENCE_EPOCHS:
        return None
    top_epoch, top = max(knn, key=lambda pair: pair[1])
    last = [value for _, value in knn[-PATIENCE_EPOCHS:]]
    if max(last) < top - 3 * KNN_ERROR:
        return (
            f"kNN has fallen from {top:.1f} % (epoch {top_epoch:g}) to {last[-1]:.1f} %: the features get "
            "worse; keep the best checkpoint and try a higher teacher momentum at the end, a lower learning "
            "rate, or fewer epochs."
        )
    floors = [
        (float(row[key]), name)
        for key, name in (("knn_chance", "chance"), ("knn_random", "random weights"))
        for row in epochs
        if key in row
    ]
    if not floors or epochs[-1]["epoch"] - epochs[0]["epoch"] < KNN_PATIENCE_EPOCHS:
        return None
    floor, name = max(floors)
    if max(last) <= floor + KNN_ERROR:
        return (
            f"kNN ({last[-1]:.1f} %) is not above {name} ({floor:.1f} %) after {len(epochs)} epochs: the "
            "views may share what should be ignored (level, room, speaker) or nothing is learnt; try other "
            "views, a lower teacher temperature, fewer prototypes, or more steps."
        )
    return None


def _classifier(epochs: list[dict[str, float]]) -> str | None:
    """A classifier that gets worse on validation clips, or never gets better than chance."""
    accuracy = _measured(epochs, "validation_accuracy")
    if len(accuracy) < KNN_PATIENCE_EPOCHS:
        return None
    top_epoch, top = max(accuracy, key=lambda pair: pair[1])
    last = [value for _, value in accuracy[-KNN_PATIENCE_EPOCHS:]]
    if max(last) < top - 3 * KNN_ERROR:
        return (
            f"Accuracy on validation clips has fallen from {top:.1f} % (epoch {top_epoch:g}) to {last[-1]:.1f} %: "
            "the training clips are learnt by heart; keep the best checkpoint and try stronger views, more weight "
            "decay, dropout, or fewer epochs."
        )
    chance = next((row["knn_chance"] for row in epochs if "knn_chance" in row), 0.0)
    if max(last) <= chance + KNN_ERROR:
        return (
            f"Accuracy on validation clips ({last[-1]:.1f} %) is not above chance ({chance:.1f} %) after "
            f"{len(epochs)} epochs: try another learning rate, milder views or more steps, and look whether the "
            "labels belong to the clips."
        )
    return None
