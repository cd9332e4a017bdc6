"""Score an encoder on the four sets of recordings that the cards of `pretrained/` name, beside floors and a peer.

    python benchmarks/score_encoder.py DATA ENCODER [--into pretrained/cards/NAME.md]
    python benchmarks/score_encoder.py DATA ENCODER --validation

DATA holds `speech-commands-9w` (its own lists), `speech-commands-35w-mini` (five folds by speaker), `fsdd` (one
speaker left out after the other) and `esc10` (its five folds; pictures of the whole five seconds). Features are frozen
and standardised on training clips. Folds: multinomial logistic regression whose C is the best of 0.003, 0.03 and 0.3 on
15 % of the training groups, fitted again to all of them; nothing is chosen on a fold's test clips. With --validation
the nine words' validation clips stand in the place of their test clips, for choices: no test clip is read.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from sklearn.model_selection import BaseCrossValidator, GroupKFold, GroupShuffleSplit, LeaveOneGroupOut
from summarise_runs import show

from audiossl.data import CachedClips, DataConfig, cache_clips, open_clips
from audiossl.encoder import AudioEncoder, load_model
from audiossl.errors import errors_for_people
from audiossl.probes.columns import measure
from audiossl.probes.features import FeatureTable, ProbeScore, accuracy, standardise
from audiossl.probes.logistic import fit_logistic
from audiossl.probes.rows import ENCODER, RANDOM, feature_rows

WORDS = ("kNN", "LR", "1", "5", "20", "100")
FOLDS = ("35w-mini", "fsdd", "esc10")
C_GRID = (0.003, 0.03, 0.3)
INNER = GroupShuffleSplit(1, test_size=0.15, random_state=0)
# BYOL-A v1 (512 numbers, pretrained on 5,400 hours of AudioSet), and a supervised keyword embedding (0.33 M parameters,
# labelled keywords; fsdd may be among what it knows), on the same files: the peers' measurements, docs/comparison.md.
PEERS = {
    "BYOL-A v1, AudioSet": dict(
        zip(WORDS + FOLDS, (83.2, 96.4, 27.6, 58.3, 82.7, 93.2, 48.8, 69.3, 92.8), strict=True)
    ),
    "a supervised keyword embedding": dict(
        zip(WORDS + FOLDS, (97.8, 98.2, 86.3, 95.7, 97.3, 97.8, 86.2, 96.9, 81.0), strict=True)
    ),
}

Scores = dict[str, list[float]]  # by column: one score, or one a fold


def cached(root: Path, encoder: AudioEncoder, clip_s: float = 1.0) -> CachedClips:
    """The clips of a set at the encoder's rate."""
    data = DataConfig(root=str(root), sample_rate=encoder.sample_rate, clip_s=clip_s)
    return cache_clips(open_clips(data), data)


def by_lists(table: FeatureTable) -> Scores:
    """The probes of the nine words."""
    scores = measure(table, WORDS)
    return {
        name: [100 * (score.test if isinstance(score, ProbeScore) else score.mean)] for name, score in scores.items()
    }


def by_folds(column: str, groups: np.ndarray, splitter: BaseCrossValidator) -> Callable[[FeatureTable], Scores]:
    """What scores features (N, D) fold by fold; no group (N,) is on both sides."""

    def score(table: FeatureTable) -> Scores:
        found = []
        for train, test in splitter.split(table.x, groups=groups):
            fit, check = next(INNER.split(train, groups=groups[train]))
            best = max(C_GRID, key=lambda c: regression(table, train[fit], train[check], c))
            found.append(100 * regression(table, train, test, best))
        return {column: found}

    return score


def regression(table: FeatureTable, train: np.ndarray, test: np.ndarray, c: float) -> float:
    """Accuracy on the rows `test` of a logistic regression fitted to the rows `train`."""
    scaled, held_out = standardise(table.x[train], table.x[test])
    model = fit_logistic(scaled, table.label_ids[train], c)
    return accuracy(model.predict(held_out), table.label_ids[test])


def esc10_folds(root: Path, clips: CachedClips) -> np.ndarray:
    """The official fold of each clip, (N,)."""
    with open(root / "esc10.csv", newline="", encoding="utf-8") as file:
        fold = {row["path"]: int(row["fold"]) for row in csv.DictReader(file)}
    return np.array([fold[id_] for id_ in clips.ids])


def validation_for_testing(table: FeatureTable) -> FeatureTable:
    """The same features without test clips; the validation clips are read in their place."""
    kept = [i for i, split in enumerate(table.splits) if split != "testing"]
    twice = [*kept, *(i for i in kept if table.splits[i] == "validation")]
    splits = [table.splits[i] for i in kept] + ["testing"] * (len(twice) - len(kept))
    names = [table.ids[i] for i in twice], [table.speakers[i] for i in twice]
    return FeatureTable(table.x[twice], table.label_ids[twice], *names, splits, table.label_names)


def rows_of(
    encoder: AudioEncoder, clips: CachedClips, score: Callable[[FeatureTable], Scores], seeds: Sequence[int]
) -> Iterable[tuple[str, Scores]]:
    """Scores of the encoder, its random twins and the statistics of pictures, by the row's name."""
    for name, table in feature_rows(encoder, clips, seeds):
        yield name, score(table)


def measured(data: Path, encoder: AudioEncoder, seeds: Sequence[int]) -> dict[str, Scores]:
    """All rows, each with all columns; `seeds` are those of the random twins."""
    mini = cached(data / "speech-commands-35w-mini", encoder)
    digits = cached(data / "fsdd", encoder)
    sounds = cached(data / "esc10", encoder, 5.0)
    tasks = [
        (cached(data / "speech-commands-9w", encoder), by_lists),
        (mini, by_folds("35w-mini", np.array(mini.speakers), GroupKFold(5))),
        (digits, by_folds("fsdd", np.array(digits.speakers), LeaveOneGroupOut())),
        (sounds, by_folds("esc10", esc10_folds(data / "esc10", sounds), LeaveOneGroupOut())),
    ]
    found: dict[str, Scores] = {}
    for clips, score in tasks:
        for name, scores in rows_of(encoder, clips, score, seeds):
            found.setdefault(name, {}).update(scores)
    return found


def table(found: dict[str, Scores]) -> str:
    """Markdown: the encoder, its random twins as one row with their range, the floors, the peers."""
    twins = [scores for name, scores in found.items() if name.startswith(RANDOM)]
    lines = ["| features | " + " | ".join(WORDS + FOLDS) + " |", "|---|" + "---:|" * len(WORDS + FOLDS)]
    lines.append(f"| **this model** | {cells(found[ENCODER])} |")
    if twins:
        means = [[float(np.mean(twin[column])) for twin in twins] for column in WORDS + FOLDS]
        ranges = [f"{np.mean(v):.1f}" + (f" ({min(v):.1f}-{max(v):.1f})" if len(v) > 1 else "") for v in means]
        lines.append("| same network, random weights | " + " | ".join(ranges) + " |")
    floors = {name: scores for name, scores in found.items() if name != ENCODER and not name.startswith(RANDOM)}
    lines += [f"| {name} | {cells(scores)} |" for name, scores in floors.items()]
    lines += [
        f"| {name} | " + " | ".join(f"{one:.1f}" for one in scores.values()) + " |" for name, scores in PEERS.items()
    ]
    return "\n".join(lines)


def cells(scores: Scores) -> str:
    """Mean, and deviation over folds where there are some."""
    found = [scores[column] for column in WORDS + FOLDS]
    return " | ".join(f"{np.mean(v):.1f}" + (f" ± {np.std(v, ddof=1):.1f}" if len(v) > 1 else "") for v in found)


@errors_for_people
def main() -> None:
    """Print the table, or put it into a card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the four sets")
    parser.add_argument("encoder", help="folder or name of an encoder")
    parser.add_argument("--validation", action="store_true", help="for choices: no test clip is read")
    parser.add_argument("--random_seeds", type=int, nargs="+", default=[0, 1, 2], help="of the rows of random weights")
    parser.add_argument("--into", type=Path, help="card whose marked part is replaced")
    parser.add_argument("--mark", default="scores", help="name of that part")
    given = parser.parse_args()
    encoder = load_model(given.encoder)
    if given.validation:
        clips = cached(given.data / "speech-commands-9w", encoder)
        (_, features), *_ = feature_rows(encoder, clips, random_seeds=())
        print({name: round(value, 1) for name, (value,) in by_lists(validation_for_testing(features)).items()})
        return
    show(table(measured(given.data, encoder, given.random_seeds)), given.into, given.mark)


if __name__ == "__main__":
    main()
