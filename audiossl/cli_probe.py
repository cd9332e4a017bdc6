"""`audiossl probe`: the table of an encoder on a labelled data set. No torch before the flags are read."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from audiossl import __version__
from audiossl.config import parse
from audiossl.embeddings import refuse_existing, written
from audiossl.errors import UserError
from audiossl.probes.config import ProbeConfig

if TYPE_CHECKING:
    import numpy as np

    from audiossl.data.cached import CachedClips
    from audiossl.data.config import DataConfig
    from audiossl.encoder import AudioEncoder
    from audiossl.probes.features import Batches
    from audiossl.probes.last_blocks import LastBlocks

PROBE_USAGE = """\
usage: audiossl probe --encoder FOLDER [--config FILE.yaml] [--section.name VALUE ...]

Score a frozen encoder on labelled clips, beside the same network with random weights and log-mel statistics.
Settings may stand in a YAML file (--config); flags win. A true|false flag alone means true; a list is given
as a,b or as words. Defaults stand in brackets.
"""
PROBE_EXAMPLE = """\
examples:
  audiossl probe --encoder runs/first/encoder --data.root speech_commands/ --json scores.json
  audiossl probe --encoder runs/first/encoder --data.name spoken_words --quick
  audiossl probe --encoder runs/first/encoder --data.root speech_commands/ \\
      --last_blocks 4 --linear_sgd --k 10,20,100,200 --per_class --features first.npz
several processes (on CPUs with ACCELERATE_USE_CPU=true in front):
  accelerate launch --multi_gpu --num_processes 2 -m audiossl.cli probe --encoder runs/first/encoder ...
"""


def probe(arguments: list[str]) -> int:
    """Print the table of an encoder, and write it as JSON."""
    if "--help" in arguments or "-h" in arguments:
        print(_probe_help())
        return 0
    config = parse(ProbeConfig, "probe", arguments)
    for flag, path in (("--json", config.json), ("--features", config.features)):
        if path is not None and not Path(path).parent.is_dir():
            raise UserError(f"{flag} {path}: there is no folder {Path(path).parent}; make it first.")
    if config.json is not None:
        refuse_existing(config.json, config.overwrite)
    return _probe(config)


def _probe(config: ProbeConfig) -> int:
    from audiossl.encoder import load_model
    from audiossl.featurize import check_device, default_device
    from audiossl.probes.features import in_order
    from audiossl.probes.last_blocks import LastBlocks

    opened = load_model(config.encoder)
    if config.n_patches:
        opened = opened.with_patches(config.n_patches)
    encoder: AudioEncoder | LastBlocks = opened
    if config.last_blocks:
        encoder = LastBlocks(opened, config.last_blocks, config.avgpool_patchtokens)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        device = default_device() if config.device is None else check_device(config.device)
        return _write(config, encoder.to(device), _clips(config, opened), in_order)
    if config.device is not None:
        raise UserError(f"--device {config.device}: leave it out, since the launcher gives each process its device.")
    from audiossl.run.shared_batches import SharedBatches

    shared = SharedBatches()
    try:
        clips = shared.rank_0_first(lambda: _clips(config, opened))
        encoder.to(shared.device)
        return _write(config, encoder, clips, shared) if shared.rank == 0 else _help(config, encoder, clips, shared)
    finally:
        shared.close()


def _clips(config: ProbeConfig, encoder: AudioEncoder) -> CachedClips:
    from audiossl.data.cache import cache_clips
    from audiossl.data.open import open_clips

    data = as_encoder(config.data, encoder)
    return cache_clips(open_clips(data), data)


def _write(config: ProbeConfig, encoder: AudioEncoder | LastBlocks, clips: CachedClips, batches: Batches) -> int:
    """Measure the table, print and write it; other processes, if any, `_help`."""
    from audiossl.probes.columns import chosen_columns
    from audiossl.probes.kept_features import KeptFeatures
    from audiossl.probes.table import probe_table

    hashes, known = _features(config, encoder, clips)
    if known is not None and config.features is not None:
        known = KeptFeatures(config.features, hashes, known)
    table = probe_table(
        encoder,
        clips,
        random_seeds=config.random_seeds,
        columns=chosen_columns(config.k, config.linear_sgd, config.quick, config.one_vs_rest),
        batch_size=config.batch_size,
        device=str(next(encoder.parameters()).device),
        seed=config.seed,
        say=lambda text: print(f"probing: {text}", file=sys.stderr, flush=True),
        sgd=config.sgd,
        with_per_class=config.per_class,
        batches=batches,
        known=known,
        calibrate_random=config.calibrate_random,
    )
    print(table.markdown())
    if config.json is not None:
        about = {"encoder": config.encoder, "audiossl": __version__}
        content = {**about, **json.loads(table.to_json())}
        with written(config.json) as part:
            part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _help(config: ProbeConfig, encoder: AudioEncoder | LastBlocks, clips: CachedClips, batches: Batches) -> int:
    """Embed this process's share of every row of the table that rank 0 measures."""
    from audiossl.probes.features import why_no_probe
    from audiossl.probes.rows import feature_rows

    if reason := why_no_probe(clips):
        raise UserError(reason)
    known = _features(config, encoder, clips)[1]
    device = str(next(encoder.parameters()).device)
    for _ in feature_rows(
        encoder,
        clips,
        config.random_seeds,
        config.batch_size,
        device,
        batches=batches,
        known=known,
        calibrate_random=config.calibrate_random,
    ):
        pass
    return 0


def _features(
    config: ProbeConfig, encoder: AudioEncoder | LastBlocks, clips: CachedClips
) -> tuple[tuple[str, str], dict[str, np.ndarray] | None]:
    """Hashes of encoder and clips, and the features that --features holds; None without that flag."""
    if config.features is None:
        return ("", ""), None
    from audiossl.probes.feature_file import clips_hash, encoder_hash, read_features

    hashes = encoder_hash(encoder), clips_hash(clips)
    return hashes, read_features(config.features, *hashes)


def as_encoder(data: DataConfig, encoder: AudioEncoder) -> DataConfig:
    """The data at the encoder's rate and length, where the flags leave them at their defaults."""
    usual = type(data)()
    rate = encoder.sample_rate if data.sample_rate == usual.sample_rate else data.sample_rate
    clip_s = encoder.clip_s if data.clip_s == usual.clip_s else data.clip_s
    return replace(data, sample_rate=rate, clip_s=clip_s)


def _probe_help() -> str:
    from audiossl.config_help import help_text

    # The help of a recipe, without what is said there of presets: this command has none.
    flags = help_text(ProbeConfig, "probe", []).partition("settings of the recipe\n")[2]
    return f"{PROBE_USAGE}\nsettings of the probes\n{flags}\n\n{PROBE_EXAMPLE}"
