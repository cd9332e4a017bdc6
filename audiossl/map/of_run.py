"""The maps that come by themselves: of a run's validation clips, and of a comparison's encoders side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from audiossl.classifier import Classifier
from audiossl.data.cached import CachedClips
from audiossl.encoder import AudioEncoder
from audiossl.map.build import Features, Result, Say, write
from audiossl.map.config import MapConfig
from audiossl.map.panels import Named
from audiossl.map.points import drawn, from_clips
from audiossl.probes.features import extract

SHOWN, VOTERS = 1500, 4000  # clips that are points, and training clips that name them, at most
FEWEST = 3  # validation clips, below which all clips are shown
SOUND_S = 5.0
SEED = 0  # of the random weights beside


def sample(clips: CachedClips) -> tuple[np.ndarray, str]:
    """Numbers of the clips that a map needs, and the split that it shows: validation, or all where that is small."""
    splits = np.array([split or "" for split in clips.splits])
    held_out = np.flatnonzero(splits == "validation")
    if len(held_out) < FEWEST:
        return drawn(clips.ids, np.arange(len(clips)), SHOWN), "all"
    voters = np.flatnonzero((splits == "training") & (np.asarray(clips.label_ids) >= 0))
    return np.sort(np.append(drawn(clips.ids, held_out, SHOWN), drawn(clips.ids, voters, VOTERS))), "validation"


def of_run(
    path: Path, encoder: AudioEncoder, clips: CachedClips, known: Mapping[str, np.ndarray], title: str, say: Say
) -> Result | None:
    """Write the map of a run's encoder beside its random weights; `known` may hold features of all clips.

    Gives None, and writes nothing, for fewer than three clips. Raises UserError when it cannot be written.
    """
    rows, split = sample(clips)
    if len(rows) < FEWEST:
        return None
    few = clips.subset(rows)
    features = {}
    for name, key, network in (
        ("encoder", "encoder", encoder),
        ("random weights", f"random weights, seed {SEED}", encoder.randomised(SEED)),
    ):
        x = known[key][rows] if key in known else extract(network, few).x
        features[name] = {name: x}
    return _written(path, few, split, features, title, say)


def of_encoders(path: Path, folders: Mapping[str, Path], clips: CachedClips, title: str, say: Say) -> Result | None:
    """Write the map of several encoders side by side, and of random weights in the network of the first."""
    from audiossl.encoder import load_model

    rows, split = sample(clips)
    if len(rows) < FEWEST or not folders:
        return None
    few = clips.subset(rows)
    encoders = {name: load_model(folder) for name, folder in folders.items()}
    encoders["random weights"] = next(iter(encoders.values())).randomised(SEED)
    features = {name: {name: extract(encoder, few).x} for name, encoder in encoders.items()}
    return _written(path, few, split, features, title, say)


def of_classifier(
    path: Path, classifier: Classifier, clips: CachedClips, probabilities: np.ndarray, title: str, say: Say
) -> Result | None:
    """Write the map of clips as a classifier's encoder lays them out, named by its `probabilities` (N, K)."""
    rows = drawn(clips.ids, np.arange(len(clips)), SHOWN)
    if len(rows) < FEWEST:
        return None
    few, sure = clips.subset(rows), probabilities[rows]
    named = None if classifier.multi_label else Named(list(classifier.labels), sure.argmax(1), sure.max(1))
    features = {"classifier": {"classifier": extract(classifier.encoder, few).x}}
    return _written(path, few, "all", features, title, say, named)


def _written(
    path: Path, few: CachedClips, split: str, features: Features, title: str, say: Say, named: Named | None = None
) -> Result:
    config = MapConfig(
        title=title, split=split, projections=["pca", "tsne"], one_file=SHOWN, sound_s=SOUND_S, overwrite=True
    )
    return write(from_clips(few, config.sound_s), features, config, path, say, named=named)
