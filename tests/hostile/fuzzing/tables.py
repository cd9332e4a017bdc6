"""What programs write for people and for later: features, embeddings, indexes, the files of a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import yaml

from audiossl.embed.config import EmbedConfig
from audiossl.embed.shards import SETTINGS, finished, open_corpus
from audiossl.embeddings import FeaturizeResult, load_embeddings
from audiossl.probes.classification import classification
from audiossl.probes.feature_file import read_features, write_features
from audiossl.run import files
from audiossl.run.classifier_page import save_worst
from audiossl.run.pictures import Box, Picture, save_pictures
from audiossl.run.report import write_report
from audiossl.run.tracking import MetricsFile
from audiossl.search import nearest, repeats
from audiossl.search_index import nearly_nearest

from .models import LABELS, damaged_by_name
from .mutations import damaged, damaged_zip
from .target import Target

HASHES = ("a", "b")


def embeddings(n_rows: int = 6) -> FeaturizeResult:
    """Rows as `featurize` makes them."""
    x = np.random.default_rng(0).standard_normal((n_rows, 4)).astype(np.float32)
    row = {"channel": "mix", "start_s": 0.0, "end_s": 1.0, "valid_s": 1.0, "sample_rate_in": 8000, "peak_db": -3.0}
    table = [{"file": f"sound {n}.wav", **row, "status": "ok", "message": ""} for n in range(n_rows)]
    return FeaturizeResult(x, table, {"model": "encoder", "level": "clip"})


def _features(folder: Path) -> Sequence[Path]:
    write_features(folder / "features.npz", {"encoder": np.ones((5, 3), np.float32)}, *HASHES)
    return [folder / "features.npz"]


def _embeddings(folder: Path) -> Sequence[Path]:
    return [embeddings().to_npz(folder / "e.npz"), embeddings().to_parquet(folder / "e.parquet")]


def open_embeddings(path: Path) -> None:
    """As `audiossl search` reads them."""
    found = load_embeddings(path)
    assert found.embeddings.ndim == 2
    assert len(found.embeddings) == len(found.table)
    nearest(found.embeddings, np.ones((1, 4), np.float32), 2)
    repeats(found.embeddings)
    repr(found)


META = {"model": "encoder", "model_sha256": "0" * 64, "encoder": {"clip_s": 1.0}}


def _corpus(folder: Path) -> Sequence[Path]:
    open_corpus(folder / "out", ["sounds"], META, EmbedConfig()).release()
    embeddings().to_parquet(folder / "out" / "embeddings-000-0000-00000.parquet")
    return sorted(path for path in (folder / "out").iterdir() if path.suffix in (".json", ".parquet"))


def open_folder_of_embeddings(path: Path) -> None:
    """As `audiossl featurize -o FOLDER` goes on in it, and `audiossl search` reads it."""
    if path.name == SETTINGS:
        open_corpus(path.parent, ["sounds"], META, EmbedConfig()).release()
    finished(path.parent)
    load_embeddings(path.parent)


def _index(folder: Path) -> Sequence[Path]:
    nearly_nearest(embeddings(200).embeddings, np.ones((1, 4), np.float32), 3, folder)
    return sorted(path for path in folder.iterdir() if path.name.startswith("index-"))


def open_index(path: Path) -> None:
    """As `audiossl search --approximate` reads it: a damaged one is made anew."""
    x = embeddings(200).embeddings
    rows, _ = nearly_nearest(x, x[:3], 3, path.parent)
    assert rows[:, 0].tolist() == [0, 1, 2]


def report_files(folder: Path, labels: Sequence[str] = LABELS) -> None:
    """All that a report is made of."""
    config = {"run": {"epochs": 3, "batch_size": 8, "seed": 0}, "data": {"root": "sounds"}, "backbone": {"name": "r"}}
    (folder / files.CONFIG).write_text(yaml.safe_dump(config))
    (folder / files.ENVIRONMENT).write_text("python 3.11\n")
    (folder / files.ENCODER).mkdir(exist_ok=True)
    history = [
        {
            "kind": kind,
            "epoch": epoch,
            "step": 40 * epoch + place,
            "loss": 5.0 - epoch,
            "loss_over_ln_k": 0.9,
            "knn": 50.0,
        }
        | {"feature_std": 0.5, "rankme": 20.0, "lr": 1e-3, "seconds": 3.0 * epoch, "own_number": 1.0}
        for epoch in range(4)
        for kind, place in (("step", 20), ("epoch", 40))
    ]
    (folder / files.METRICS).write_text("".join(json.dumps(row) + "\n" for row in history))
    cell = {"mean": 90.0, "low": 88.0, "high": 91.0, "std": None, "n": 3}
    rows = [{"name": name, "dim": 64, "scores": {"kNN": cell, "5": cell}} for name in ("encoder", "random weights")]
    about = {
        "name": "sounds",
        "clips": 9,
        "labels": list(labels),
        "split_rule": "by hand",
        "random_seeds": [0],
        "seed": 0,
    }
    scores = {"about": about, "columns": ["kNN", "5"], "rows": rows}
    (folder / files.SCORES).write_text(json.dumps(scores))
    save_pictures(
        folder / files.VIEWS,
        [
            Picture(
                np.ones((8, 9)), labels[0], np.arange(8.0), boxes=(Box(0.0, 0.5, 1.0, 4.0, labels[1]),), clip=labels[2]
            )
        ],
    )
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(labels)), 30)
    told = classification(probabilities, np.eye(len(labels))[np.arange(30) % len(labels)], list(labels), False).plain()
    found = {
        "about": about | {"told": "by hand", "multi_label": False},
        "scores": {"validation": told, "testing": told},
    }
    found |= {"floors": {"chance": 33.3}, "unknown_below": 0.2, "epochs": 3}
    (folder / files.CLASSIFICATION).write_text(json.dumps(found, ensure_ascii=False))
    clips = SimpleNamespace(
        waves=np.ones((4, 100), np.int16), sample_rate=100, ids=[*labels, "x"], labels=[*labels, "x"]
    )
    save_worst(folder / files.WORST, clips, probabilities[:4], [0, 1], labels)  # type: ignore[arg-type]


def _report(folder: Path) -> Sequence[Path]:
    report_files(folder)
    names = (files.CONFIG, files.METRICS, files.SCORES, files.VIEWS, files.CLASSIFICATION, files.WORST)
    return [folder / name for name in (*names, files.ENVIRONMENT)]


def open_report(path: Path) -> None:
    """As `python -m audiossl.run.report RUN` builds the page, and a resumed run reads its metrics."""
    assert write_report(path.parent).stat().st_size > 1000
    MetricsFile(path.parent / files.METRICS).cut(100, 10_000)


TABLES = [
    Target("features", _features, lambda path: read_features(path, *HASHES), damaged_zip),
    Target("embeddings", _embeddings, open_embeddings, damaged_by_name, 1500),
    Target("folder of embeddings", _corpus, open_folder_of_embeddings, damaged_by_name, 300),
    Target("search index", _index, open_index, damaged, 300),
    Target("report", _report, open_report, damaged_by_name, 300),
]
