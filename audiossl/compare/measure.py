"""What a cell is worth and what it cost; and the rows below, which learnt nothing. Each is measured once and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from audiossl.compare.cells import Cell
from audiossl.compare.config import COLUMNS
from audiossl.compare.label_free import label_free
from audiossl.compare.run import epoch_rows, kept, speed
from audiossl.data.cached import CachedClips
from audiossl.encoder import AudioEncoder, load_model
from audiossl.errors import UserError
from audiossl.probes.baselines import chance, log_mel_tables, majority
from audiossl.probes.calibrated import calibrated
from audiossl.probes.columns import measure
from audiossl.probes.feature_file import clips_hash
from audiossl.probes.features import FeatureTable, describe_features, extract, why_no_probe
from audiossl.probes.few_shot import FewShotScore
from audiossl.reading import read_json
from audiossl.run import files
from audiossl.run.page_file import replace

Scores = dict[str, float]  # by column: accuracy in percent, or a label-free measure; "COLUMN std" over draws
RESULT = "cell.json"


def measured_cell(folder: Path, cell: Cell, clips: CachedClips, device: str | None) -> dict[str, Any]:
    """Scores and costs of a cell's run, from its folder where they are known."""
    path = folder / RESULT
    if (known := kept(path)) is not None:
        return known
    encoder = load_model(folder / files.ENCODER)
    result = {
        "method": cell.method,
        "frontend": cell.frontend,
        "backbone": cell.backbone,
        "seed": cell.seed,
        "fold": cell.fold.name if cell.fold else None,
        "folder": folder.name,
        "scores": scores_of(extract(encoder, clips, device=device), encoder, clips, device),
        "costs": costs(folder, cell, encoder, len(clips.split("training"))),
        "network": network_key(folder),
    }
    replace(path, json.dumps(result, indent=1))
    return result


def scores_of(
    table: FeatureTable, encoder: AudioEncoder | None, clips: CachedClips, device: str | None = None
) -> Scores:
    """The columns of one kind of features: probes where there are labels, and what needs none."""
    found: Scores = {}
    if why_no_probe(table) is None:
        for column, score in measure(table, COLUMNS).items():
            if isinstance(score, FewShotScore):
                found |= {column: 100 * score.mean, f"{column} std": 100 * score.std}
            else:
                found[column] = 100 * score.test
    return found | label_free(table.x, encoder, clips, device)


def costs(folder: Path, cell: Cell, encoder: AudioEncoder, n_training: int) -> dict[str, float]:
    """What the training took: epochs, steps, seconds, passes of the network, peak memory; and the network's size."""
    rows, run = epoch_rows(folder), cell.settings().run
    per_epoch = n_training // run.batch_size * run.batch_size
    return {
        "epochs": len(rows),
        "steps": rows[-1]["step"],
        "seconds": sum(per_epoch / speed(row) for row in rows),  # monitors and checkpoints left out
        "passes": sum(row["passes"] for row in rows) * per_epoch,
        "memory_gb": max(row["memory_gb"] for row in rows),
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "dim": encoder.dim,
    }


def network_key(folder: Path) -> str:
    """Hash of what an encoder is built from: cells that share it have the same rows of random weights."""
    config = read_json(folder / files.ENCODER / "config.json")
    parts = {name: config.get(name) for name in ("frontend", "backbone", "bag", "patches", "clip_s")}
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=4).hexdigest()


def clips_key(clips: CachedClips) -> str:
    """Hash of the clips, their labels and splits."""
    labels = json.dumps([list(map(str, clips.labels)), list(clips.splits)])
    return hashlib.blake2b(f"{clips_hash(clips)}{labels}".encode(), digest_size=4).hexdigest()


def refuse_other_clips(out: Path, folds: Mapping[Path | None, CachedClips]) -> None:
    """Raise UserError when the comparison in `out`, whose cells would be kept, was begun with other clips or splits."""
    path = out / "clips.json"
    known = kept(path) if path.is_file() else {}
    if known is None:
        raise UserError(f"{path} is damaged, and nobody knows with which clips --out {out} was begun: choose another.")
    keys = {fold.name if fold else "": clips_key(clips) for fold, clips in folds.items()}
    if any(known.get(fold, key) != key for fold, key in keys.items()):
        raise UserError(f"--out {out} is a comparison on other clips, labels or splits: choose another folder.")
    replace(path, json.dumps(known | keys, indent=1))


class Floors:
    """Rows that learnt nothing: random weights by network, and statistics of the data set's pictures.

    Args:
        out: folder of the comparison.
        seeds: of the random weights.
        device: of the probes.
        say: told what is measured.
    """

    def __init__(self, out: Path, seeds: list[int], device: str | None, say: Callable[[str], None]) -> None:
        self.folder, self.seeds, self.device, self.say = out / "floors", seeds, device, say

    def of_network(self, folder: Path, key: str, clips: CachedClips) -> dict[str, list[Scores]]:
        """Random weights in the network of a cell's run, plain and with calibrated batch norms, one for each seed."""

        def rows() -> Iterator[tuple[str, Scores]]:
            encoder = load_model(folder / files.ENCODER)
            for seed in self.seeds:
                twin = encoder.randomised(seed)
                yield "random weights", scores_of(extract(twin, clips, device=self.device), twin, clips, self.device)
            if any("running_mean" in name for name, _ in encoder.named_buffers()):
                for seed in self.seeds:
                    twin = calibrated(encoder.randomised(seed), clips, self.device)
                    name = "random weights, batch norm calibrated"
                    yield name, scores_of(extract(twin, clips, device=self.device), twin, clips, self.device)

        return self._kept(f"{key}-{','.join(map(str, self.seeds))}", clips, rows)

    def of_clips(self, clips: CachedClips) -> dict[str, list[Scores]]:
        """Statistics of log-mel pictures and MFCCs, and where there are labels the most frequent one, and chance."""

        def rows() -> Iterator[tuple[str, Scores]]:
            for name, table in log_mel_tables(clips).items():
                yield name, scores_of(table, None, clips)
            table = describe_features(np.zeros((len(clips), 1), np.float32), clips)
            if why_no_probe(table) is None:
                data, plain = table.probe_data(), [column for column in COLUMNS if not column.isdigit()]
                yield "most frequent label", dict.fromkeys(plain, 100 * majority(data))
                yield "chance", dict.fromkeys(plain, 100 * chance(data))

        return self._kept("clips", clips, rows)

    def _kept(
        self, name: str, clips: CachedClips, rows: Callable[[], Iterator[tuple[str, Scores]]]
    ) -> dict[str, list[Scores]]:
        path = self.folder / f"{name}-{clips_key(clips)}.json"
        if (known := kept(path)) is not None:
            return known
        self.say(f"measuring what learnt nothing: {name}")
        found: dict[str, list[Scores]] = {}
        for row, scores in rows():
            found.setdefault(row, []).append(scores)
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(found, indent=1))
        return found
