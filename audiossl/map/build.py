"""From embeddings, or encoders and clips, to a written map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from audiossl.data.cache import cache_clips
from audiossl.data.cached import CachedClips
from audiossl.data.open import open_clips
from audiossl.embeddings import FeaturizeResult
from audiossl.encoder import AudioEncoder
from audiossl.errors import UserError
from audiossl.map.config import MapConfig
from audiossl.map.media import Kept, Media
from audiossl.map.page import Map, write_folder, write_page
from audiossl.map.panels import Named, Panel, Shown, panel
from audiossl.map.parquet import write_parquet
from audiossl.map.points import Points, drawn, from_clips, from_rows, joined
from audiossl.probes.features import extract

Say = Callable[[str], None]
# Features (M, D) of every frame by its name, by the name of the panel.
Features = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Result:
    """What was written where: `points` of them, `left_out` rows without an embedding, `silent` without a sound."""

    path: Path
    points: int
    left_out: int
    silent: int


def of_encoders(encoders: Mapping[str, Mapping[str, AudioEncoder]], config: MapConfig, path: Path, say: Say) -> Result:
    """Write the map of `config.data` as encoders see it: for each panel its frames by name, mostly one."""
    first = next(iter(next(iter(encoders.values())).values()))
    clips = clips_for(first, config)
    features = features_of(encoders, clips, config, say)
    return write(from_clips(clips, config.sound_s), features, config, path, say)


def features_of(
    encoders: Mapping[str, Mapping[str, AudioEncoder]], clips: CachedClips, config: MapConfig, say: Say
) -> dict[str, dict[str, np.ndarray]]:
    """What every encoder makes of the clips, which are read anew for one of another rate.

    Raises UserError when fewer can be read at that rate, and as `extract` does.
    """
    features: dict[str, dict[str, np.ndarray]] = {}
    for name, frames in encoders.items():
        features[name] = {}
        for frame, encoder in frames.items():
            say(f"embedding {len(clips)} clips by {name}" + (f", {frame}" if len(frames) > 1 else ""))
            own = clips if encoder.sample_rate == clips.sample_rate else clips_for(encoder, config, clips.clip_s)
            if own.ids != clips.ids:
                raise UserError(f"--encoder {name}: at {encoder.sample_rate} Hz other clips can be read than before.")
            features[name][frame] = extract(encoder, own, config.batch_size, config.device).x
    return features


def clips_for(encoder: AudioEncoder, config: MapConfig, clip_s: float | None = None) -> CachedClips:
    """The clips of `config.data` at the encoder's rate, and of its length, or of `clip_s`."""
    usual, data = type(config.data)(), config.data
    if clip_s is not None or data.sample_rate == usual.sample_rate:
        data = replace(data, sample_rate=encoder.sample_rate)
    if data.clip_s == usual.clip_s:
        data = replace(data, clip_s=encoder.clip_s if clip_s is None else clip_s)
    return cache_clips(open_clips(data), data)


def of_rows(results: Mapping[str, FeaturizeResult], config: MapConfig, path: Path, say: Say) -> Result:
    """Write the map of embeddings that `featurize` wrote, one panel each, which must be of the same recordings."""
    first = next(iter(results.values()))
    place = [(row["file"], row["start_s"], row["channel"]) for row in first.table]
    for name, result in results.items():
        if [(row["file"], row["start_s"], row["channel"]) for row in result.table] != place:
            raise UserError(f"{name} has other rows than {next(iter(results))}: embed the same recordings alike.")
    good = np.all([np.isfinite(result.embeddings).all(1) for result in results.values()], axis=0)
    kept = np.flatnonzero(good)
    if not len(kept):
        raise UserError(f"{next(iter(results))} has no embedding to show: all rows are errors, or not finite.")
    points = from_rows([first.table[row] for row in kept], ", ".join(results), config.sound_s)
    features = {name: {name: result.embeddings[kept]} for name, result in results.items()}
    return replace(write(points, features, config, path, say), left_out=int((~good).sum()))


def write(
    points: Points,
    features: Features,
    config: MapConfig,
    path: Path,
    say: Say,
    start: int = -1,
    named: Named | None = None,
) -> Result:
    """Write the map of points with their features; `start` is the point that it opens at, which is always shown.

    `named` are predictions of all points that take the place of the nearest neighbours'.

    Raises UserError when no point is shown, there are too many for one page, or a file cannot be written.
    """
    if config.table is not None:
        points = joined(points, config.table)
    rows = _rows(points, config, start)
    if path.suffix and len(rows) > config.one_file:
        raise UserError(
            f"-o {path}: {len(rows)} points are more than the {config.one_file} that one page holds (--one_file): "
            f"give a folder as -o, or --limit {config.one_file}."
        )
    shown = Shown.of(points, rows)
    here = points.rows(rows).telling()
    panels = [panel(name, frames, shown, config, say) for name, frames in features.items()]
    if config.classifier is not None:
        named = _classified(here, config)
    if named is not None:
        panels = [Panel(item.name, [replace(frame, named=named) for frame in item.frames]) for item in panels]
    kept = Kept() if config.parquet is not None else None
    media = Media(here, config.sound, kept)
    title = config.title or f"Map of {Path(config.data.root).resolve().name if config.data.root else points.of}"
    opened = int(np.searchsorted(rows, start)) if start >= 0 else -1
    content = Map(title, _about(here, panels, config, named is not None), here, panels, opened)
    with tqdm(total=len(here), desc="map", unit=" points", disable=None) as bar:
        (write_page if path.suffix else write_folder)(path, content, media, bar.update)
    if kept is not None:
        first = list(next(iter(features.values())).values())[-1]
        _write_parquet(Path(str(config.parquet)), content, kept, first[rows])
    return Result(path, len(here), 0, len(media.silent))


def _rows(points: Points, config: MapConfig, start: int) -> np.ndarray:
    splits = points.texts("split")
    rows = np.arange(len(points))
    if config.split != "all":
        rows = np.array([n for n, split in enumerate(splits or ()) if split == config.split], dtype=np.int64)
        if not len(rows):
            raise UserError(f"--split {config.split}: no clip belongs to it; leave it out to see all.")
    if start < 0:
        return drawn(points.names, rows, config.limit)
    others = drawn(points.names, rows[rows != start], None if config.limit is None else config.limit - 1)
    return np.sort(np.append(others, start))


def _about(points: Points, panels: Sequence[Panel], config: MapConfig, classified: bool) -> str:
    """One sentence below the title: how many, of what, and who names them."""
    facts = [f"{len(points)} points"]
    for name, word in (("label", "labels"), ("speaker", "speakers")):
        if texts := points.texts(name):
            facts.append(f"{len({text for text in texts if text is not None})} {word}")
    if config.split != "all":
        facts.append(f"{config.split} split")
    sentence = ", ".join(facts) + "."
    if classified:
        return f"{sentence} Predictions: those of the classifier{f' {config.classifier}' if config.classifier else ''}."
    if any(frame.named is not None for item in panels for frame in item.frames):
        voters = "training clips" if "training" in (points.texts("split") or ()) or config.split != "all" else "clips"
        return f"{sentence} Predictions: the {config.k} nearest {voters} with a label, in each encoder's own space."
    return sentence


def _classified(points: Points, config: MapConfig) -> Named:
    """What a classifier takes the sounds for; -1 where there is no sound."""
    from audiossl.audio import resample
    from audiossl.classifier import load_classifier

    classifier = load_classifier(str(config.classifier))
    labels, sure = np.full(len(points), -1, np.int64), np.zeros(len(points), np.float32)
    for n in range(len(points)):
        found = points.sound(n)
        if found is None:
            continue
        wave = resample(found[0].astype(np.float32) / 32768, found[1], classifier.sample_rate)
        with torch.inference_mode():
            probabilities = classifier.probabilities(torch.from_numpy(wave)[None])[0]
        labels[n], sure[n] = int(probabilities.argmax()), float(probabilities.max())
    return Named(list(classifier.labels), labels, sure)


def _write_parquet(path: Path, shown: Map, kept: Kept, x: np.ndarray) -> None:
    points, frame = shown.points, shown.panels[0].frames[-1]
    table: dict[str, Sequence[object]] = {"file": points.names}
    for column in points.columns:
        table[column.name] = list(column.texts) if column.texts is not None else np.asarray(column.numbers).tolist()
    if frame.named is not None:
        names = [*frame.named.names, None]
        table["prediction"] = [names[label] for label in frame.named.labels]
    write_parquet(path, table, frame.projections, frame.nearest, kept.pictures(), kept.sounds(), x)
