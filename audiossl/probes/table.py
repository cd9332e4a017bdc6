"""The table beside every encoder: its probes, and what the same probes say of features that learnt nothing.

Rows: the encoder, the same network with random weights (mean and range over seeds), two log-mel statistics,
the most frequent label, chance. Columns: kNN, linear probe, logistic regression on all labels, and on 1, 5,
20, 100 a class.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from audiossl.errors import UserError
from audiossl.probes.baselines import chance, log_mel_tables, majority
from audiossl.probes.features import FeatureTable, ProbeData, accuracy, extract, why_no_probe
from audiossl.probes.few_shot import FEW_LABELS, FEW_LABELS_C, few_shot
from audiossl.probes.knn import knn_predict
from audiossl.probes.linear import linear_probe
from audiossl.probes.logistic import logistic_probe

if TYPE_CHECKING:
    from audiossl.data.cache import CachedClips
    from audiossl.encoder import AudioEncoder

ALL_COLUMNS = ("kNN", "linear", "LR", *(str(n) for n in FEW_LABELS))
QUICK_COLUMNS = ("kNN", "linear")
PROTOCOL = (
    "accuracy in percent on the test split, read once after all choices; features standardised on training; "
    "kNN: cosine, k 20, weight exp(similarity / 0.07); linear: one layer by AdamW, learning rate and decay "
    "chosen on validation; LR: multinomial logistic regression, C chosen on validation; 1 to 100: LR on so "
    f"many clips a class of the training split, C {FEW_LABELS_C}, mean ± deviation of 5 draws"
)


@dataclass(frozen=True)
class Cell:
    """One score in percent: `std` over draws of the labels, `low` and `high` over random weights."""

    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    chosen: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Print as 41.2, 41.2 ± 1.3 or 41.2 (40.0-42.1)."""
        if self.low is not None:
            return f"{self.mean:.1f} ({self.low:.1f}-{self.high:.1f})"
        return f"{self.mean:.1f}" + ("" if self.std is None else f" ± {self.std:.1f}")


@dataclass(frozen=True)
class ProbeRow:
    """Scores of one kind of features; `dim` is None for rows without features."""

    name: str
    dim: int | None
    scores: dict[str, Cell]


@dataclass(frozen=True)
class ProbeTable:
    """Rows, columns, and what they were measured on: `about` holds data set, splits, protocol and seeds."""

    rows: list[ProbeRow]
    columns: tuple[str, ...]
    about: dict[str, Any]

    def row(self, name: str) -> ProbeRow:
        """The row of that name; raises KeyError."""
        return {row.name: row for row in self.rows}[name]

    def markdown(self) -> str:
        """The table and its small print, readable in a terminal as it stands."""
        head = ["features", "dim", *(_heading(column) for column in self.columns)]
        body = [
            [row.name, str(row.dim or ""), *(str(row.scores.get(c, "")) for c in self.columns)] for row in self.rows
        ]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]

        def line(cells: list[str]) -> str:
            first, *rest = (
                cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(cells, widths, strict=True))
            )
            return "| " + " | ".join([first, *rest]) + " |"

        rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
        return "\n".join([line(head), rule, *(line(cells) for cells in body), "", self.small_print()])

    def small_print(self) -> str:
        """Clips, speakers, split rule, seeds and protocol in a few sentences."""
        about, counts = self.about, self.about["split_clips"]
        sentences = [
            f"{about['name']}: {about['clips']} clips, {about['speakers'] or 'unknown'} speakers, "
            f"{len(about['labels'])} labels; training / validation / testing {counts['training']} / "
            f"{counts['validation']} / {counts['testing']} labelled clips "
            f"({about['split_rule'].rstrip('.')}).",
            f"{self.about['protocol'][0].upper()}{self.about['protocol'][1:]}.",
            f"Random weights: mean and range over seeds {', '.join(map(str, about['random_seeds']))}."
            if about["random_seeds"]
            else "",
            f"One standard error at 50 % is {50 / np.sqrt(counts['testing']):.1f} points.",
        ]
        for n, labels in about["short_labels"].items():
            sentences.append(f"Fewer than {n} training clips, used whole: {', '.join(labels)}.")
        return " ".join(sentence for sentence in sentences if sentence)

    def to_json(self) -> str:
        """Everything as JSON text, scores in percent."""
        content = {
            "about": self.about,
            "columns": list(self.columns),
            "rows": [asdict(row) for row in self.rows],
        }
        return json.dumps(content, indent=2, ensure_ascii=False)


def probe_table(
    encoder: AudioEncoder,
    clips: CachedClips,
    random_seeds: Sequence[int] = (0, 1, 2),
    columns: Sequence[str] = ALL_COLUMNS,
    batch_size: int = 256,
    device: str | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> ProbeTable:
    """Probe the encoder, its random twins and the baselines on `clips`; `say` is told what is being measured.

    `columns`: any of ALL_COLUMNS, QUICK_COLUMNS for a demo. `seed` orders the linear probe's batches. Raises
    `UserError` when the clips cannot be probed (see `why_no_probe`) or a column is unknown.
    """
    unknown = [column for column in columns if column not in ALL_COLUMNS]
    if unknown:
        raise UserError(f"there is no probe {unknown[0]!r}: choose from {', '.join(ALL_COLUMNS)}.")
    if reason := why_no_probe(clips):
        raise UserError(reason)

    def scores(table: FeatureTable) -> dict[str, Cell]:
        data = table.probe_data()
        return {column: _score(column, data, seed) for column in columns}

    say("encoder")
    own = extract(encoder, clips, batch_size, device)
    rows = [ProbeRow("encoder", own.x.shape[1], scores(own))]
    twins = []
    for random_seed in random_seeds:
        say(f"random weights, seed {random_seed}")
        twins.append(scores(extract(encoder.randomised(random_seed), clips, batch_size, device)))
    if twins:
        rows.append(ProbeRow("same network, random weights", own.x.shape[1], _over_seeds(twins)))
    for name, table in log_mel_tables(clips).items():
        say(name)
        rows.append(ProbeRow(name, table.x.shape[1], scores(table)))
    data = own.probe_data()
    for name, value in (("most frequent label", majority(data)), ("chance", chance(data))):
        rows.append(ProbeRow(name, None, {c: Cell(100 * value) for c in columns if not c.isdigit()}))
    return ProbeTable(rows, tuple(columns), _about(clips, own, columns, random_seeds, seed))


def _score(column: str, data: ProbeData, seed: int) -> Cell:
    if column == "kNN":
        predicted = knn_predict(data.train.x, data.train.y, data.test.x, n_classes=data.n_classes)
        return Cell(100 * accuracy(predicted, data.test.y))
    if column.isdigit():
        few = few_shot(data, int(column))
        return Cell(100 * few.mean, std=100 * few.std)
    result = linear_probe(data, seed=seed) if column == "linear" else logistic_probe(data)
    return Cell(100 * result.test, chosen={**result.chosen, "validation": 100 * (result.validation or 0.0)})


def _over_seeds(twins: list[dict[str, Cell]]) -> dict[str, Cell]:
    merged = {}
    for column in twins[0]:
        values = [cells[column].mean for cells in twins]
        merged[column] = Cell(float(np.mean(values)), low=min(values), high=max(values))
    return merged


def _about(
    clips: CachedClips, table: FeatureTable, columns: Sequence[str], random_seeds: Sequence[int], seed: int
) -> dict[str, Any]:
    splits = {name: table.rows(name).y for name in ("training", "validation", "testing")}
    counts = np.bincount(splits["training"], minlength=len(table.label_names))
    short = {
        column: [table.label_names[i] for i in np.flatnonzero(counts < int(column))]
        for column in columns
        if column.isdigit()
    }
    return {
        **clips.describe(),
        "split_clips": {name: len(y) for name, y in splits.items()},
        "protocol": PROTOCOL,
        "random_seeds": list(random_seeds),
        "seed": seed,
        "short_labels": {column: names for column, names in short.items() if names},
    }


def _heading(column: str) -> str:
    return f"{column} a class" if column == "1" else column
