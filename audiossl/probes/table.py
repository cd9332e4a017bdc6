"""The table beside every encoder: its probes, and what the same probes say of features that learnt nothing.

Rows: the encoder, the same network with random weights (mean and range over seeds), statistics of log-mel and MFCCs,
the most frequent label, chance. Columns: kNN, linear probe, logistic regression on all labels, and on 1, 5,
20, 100 a class; on request several k, EsViT's linear evaluation, and the encoder's accuracy label by label.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from audiossl.errors import UserError
from audiossl.probes.baselines import chance, majority
from audiossl.probes.columns import ALL_COLUMNS, LINEAR_SGD, QUICK_COLUMNS, check_columns, measure
from audiossl.probes.config import LinearSGDConfig
from audiossl.probes.features import Batches, FeatureTable, ProbeScore, in_order, why_no_probe
from audiossl.probes.few_shot import FewShotScore, short_labels
from audiossl.probes.last_blocks import LastBlocks
from audiossl.probes.per_class import LabelScore, per_class, per_class_lines
from audiossl.probes.protocol import capped_k, last_blocks_sentence, protocol, short_label_sentences
from audiossl.probes.rows import ENCODER, TWINS, feature_rows

if TYPE_CHECKING:
    from audiossl.data.cache import CachedClips
    from audiossl.encoder import AudioEncoder

__all__ = ["ALL_COLUMNS", "QUICK_COLUMNS", "Cell", "ProbeRow", "ProbeTable", "probe_table"]


@dataclass(frozen=True)
class Cell:
    """One score in percent: `std` over draws of the labels, `low` and `high` over random weights, `top5` beside it."""

    mean: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    top5: float | None = None

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
    """Rows, columns, and what they were measured on: `about` holds data set, splits, protocol and seeds.

    `per_class` holds the encoder's scores label by label, by column, where they were asked for.
    """

    rows: list[ProbeRow]
    columns: tuple[str, ...]
    about: dict[str, Any]
    per_class: dict[str, list[LabelScore]] = field(default_factory=dict)

    def row(self, name: str) -> ProbeRow:
        """The row of that name; raises KeyError."""
        return {row.name: row for row in self.rows}[name]

    def markdown(self) -> str:
        """The table and its small print, readable in a terminal as it stands."""
        head = ["features", "dim", *(_heading(column) for column in self.columns)]
        body = [
            [row.name, str(row.dim or ""), *(str(row.scores.get(c, "")) for c in self.columns)] for row in self.rows
        ]
        lines = [*_table([head, *body]), "", self.small_print()]
        if self.per_class:
            note = "The encoder label by label: accuracy in percent, and the label that it is most often taken for."
            lines += ["", note, "", *_table(per_class_lines(self.per_class))]
        return "\n".join(lines)

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
        sentences += short_label_sentences(about["short_labels"])
        sentences += [last_blocks_sentence(about), *about.get("capped_k", []), self._top5()]
        return " ".join(sentence for sentence in sentences if sentence)

    def _top5(self) -> str:
        cells = {column: cell.top5 for column, cell in self.rows[0].scores.items() if cell.top5 is not None}
        return f"Top-5 of the encoder: {', '.join(f'{c} {top5:.1f}' for c, top5 in cells.items())}." if cells else ""

    def to_json(self) -> str:
        """Everything as JSON text, scores in percent."""
        content: dict[str, Any] = {
            "about": self.about,
            "columns": list(self.columns),
            "rows": [asdict(row) for row in self.rows],
        }
        if self.per_class:
            content["per_class"] = {
                column: [{**asdict(score), "accuracy": score.accuracy} for score in scores]
                for column, scores in self.per_class.items()
            }
        return json.dumps(content, indent=2, ensure_ascii=False)

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> ProbeTable:
        """The table that `to_json` wrote, without its scores label by label; KeyError or TypeError for another text."""
        rows = [
            ProbeRow(row["name"], row["dim"], {column: Cell(**cell) for column, cell in row["scores"].items()})
            for row in content["rows"]
        ]
        return cls(rows, tuple(content["columns"]), content["about"])


def probe_table(
    encoder: AudioEncoder | LastBlocks,
    clips: CachedClips,
    random_seeds: Sequence[int] = (0, 1, 2),
    columns: Sequence[str] = ALL_COLUMNS,
    batch_size: int = 256,
    device: str | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
    sgd: LinearSGDConfig | None = None,
    with_per_class: bool = False,
    batches: Batches = in_order,
    known: dict[str, np.ndarray] | None = None,
    calibrate_random: bool = False,
) -> ProbeTable:
    """Probe the encoder, its random twins and the baselines on `clips`; `say` is told what is being measured.

    `columns`: see `audiossl.probes.columns`; QUICK_COLUMNS for a demo. `seed` orders the linear probes' batches.
    `batches`, `known` and `calibrate_random`: see `feature_rows`; other processes that share the work only go through
    those rows. Raises `UserError` when the clips cannot be probed (see `why_no_probe`) or a column is unknown.
    """
    check_columns(columns)
    if reason := why_no_probe(clips):
        raise UserError(reason)
    sgd = sgd or LinearSGDConfig()
    rows, labels = [], {}
    twins: dict[str, list[dict[str, Cell]]] = {}
    ready = feature_rows(encoder, clips, random_seeds, batch_size, device, say, batches, known, calibrate_random)
    for name, table in ready:
        scores = measure(table, columns, seed, sgd, device or "cpu")
        cells = {column: _cell(score) for column, score in scores.items()}
        if name == ENCODER:
            own = table
            labels = _label_scores(table, scores) if with_per_class else {}
        if kind := next((kind for kind in TWINS if name.startswith(kind)), None):
            twins.setdefault(TWINS[kind], []).append(cells)
            continue
        rows += [ProbeRow(kind, own.x.shape[1], _over_seeds(seeds)) for kind, seeds in twins.items()]
        twins = {}
        rows.append(ProbeRow(name, table.x.shape[1], cells))
    data = own.probe_data()
    for name, value in (("most frequent label", majority(data)), ("chance", chance(data))):
        rows.append(ProbeRow(name, None, {c: Cell(100 * value) for c in columns if not c.isdigit()}))
    about = _about(clips, own, columns, random_seeds, seed, sgd)
    if isinstance(encoder, LastBlocks):
        about |= encoder.facts()
    return ProbeTable(rows, tuple(columns), about, labels)


def _cell(score: ProbeScore | FewShotScore) -> Cell:
    if isinstance(score, FewShotScore):
        return Cell(100 * score.mean, std=100 * score.std)
    top5 = None if score.top5 is None else 100 * score.top5
    chosen = {} if score.validation is None else {**score.chosen, "validation": 100 * score.validation}
    return Cell(100 * score.test, chosen=chosen, top5=top5)


def _label_scores(table: FeatureTable, scores: dict[str, ProbeScore | FewShotScore]) -> dict[str, list[LabelScore]]:
    truth, training = table.rows("testing").y, table.rows("training").y
    return {
        column: per_class(score.predicted, truth, training, table.label_names)
        for column, score in scores.items()
        if isinstance(score, ProbeScore) and score.predicted is not None
    }


def _over_seeds(twins: list[dict[str, Cell]]) -> dict[str, Cell]:
    merged = {}
    for column in twins[0]:
        values = [cells[column].mean for cells in twins]
        merged[column] = Cell(float(np.mean(values)), low=min(values), high=max(values))
    return merged


def _about(
    clips: CachedClips,
    table: FeatureTable,
    columns: Sequence[str],
    random_seeds: Sequence[int],
    seed: int,
    sgd: LinearSGDConfig,
) -> dict[str, Any]:
    splits = {name: table.rows(name).y for name in ("training", "validation", "testing")}
    about = {
        **clips.describe(),
        "split_clips": {name: len(y) for name, y in splits.items()},
        "protocol": protocol(columns, sgd),
        "random_seeds": list(random_seeds),
        "seed": seed,
        "short_labels": short_labels(splits["training"], table.label_names, columns),
    }
    if LINEAR_SGD in columns:
        about["sgd"] = asdict(sgd)
    if capped := capped_k(columns, len(splits["training"])):
        about["capped_k"] = capped
    return about


def _table(cells: Sequence[Sequence[str]]) -> Iterable[str]:
    """Lines of a Markdown table whose columns stand below each other; the first one is flush left."""
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for number, (first, *rest) in enumerate(cells):
        padded = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True))]
        yield "| " + " | ".join(padded) + " |"
        if number == 0:
            yield "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"


def _heading(column: str) -> str:
    return f"{column} a class" if column == "1" else column
