"""`audiossl probe`: the table of an encoder on a labelled data set. No torch before the flags are read."""

from __future__ import annotations

import json
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
    from audiossl.data.config import DataConfig
    from audiossl.encoder import AudioEncoder

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
"""


def probe(arguments: list[str]) -> int:
    """Print the table of an encoder, and write it as JSON."""
    if "--help" in arguments or "-h" in arguments:
        print(_probe_help())
        return 0
    config = parse(ProbeConfig, "probe", arguments)
    if config.json is not None:
        if not Path(config.json).parent.is_dir():
            raise UserError(f"--json {config.json}: there is no folder {Path(config.json).parent}; make it first.")
        refuse_existing(config.json, config.overwrite)
    return _probe(config)


def _probe(config: ProbeConfig) -> int:
    from audiossl.data.cache import cache_clips
    from audiossl.data.open import open_clips
    from audiossl.encoder import load_model
    from audiossl.featurize import check_device, default_device
    from audiossl.probes.table import ALL_COLUMNS, QUICK_COLUMNS, probe_table

    encoder = load_model(config.encoder)
    device = default_device() if config.device is None else check_device(config.device)
    data = as_encoder(config.data, encoder)
    clips = cache_clips(open_clips(data), data)
    table = probe_table(
        encoder.to(device),
        clips,
        random_seeds=config.random_seeds,
        columns=QUICK_COLUMNS if config.quick else ALL_COLUMNS,
        batch_size=config.batch_size,
        seed=config.seed,
        say=lambda text: print(f"probing: {text}", file=sys.stderr, flush=True),
    )
    print(table.markdown())
    if config.json is not None:
        about = {"encoder": config.encoder, "audiossl": __version__}
        content = {**about, **json.loads(table.to_json())}
        with written(config.json) as part:
            part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


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
