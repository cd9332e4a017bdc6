"""The stages behind pretraining, features and probes: what was done for the same encoder and clips is not done again.

An interrupted experiment that is given again with `--run.resume` trains on where it was, embeds the kinds of features
that are missing, and probes if there is no table of the same encoder, clips, labels and settings yet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from audiossl.data.cached import CachedClips
from audiossl.encoder import AudioEncoder
from audiossl.errors import UserError
from audiossl.probes.columns import DEFAULT_K, chosen_columns
from audiossl.probes.config import ProbeTableConfig
from audiossl.probes.feature_file import clips_hash, encoder_hash, read_features
from audiossl.probes.kept_features import KeptFeatures
from audiossl.probes.table import ProbeTable, probe_table
from audiossl.reading import read_json
from audiossl.run import files
from audiossl.run.report import keep

KEY = "stage"  # of a table's `about`: the hash of all that it depends on


def kept_features(folder: Path, hashes: tuple[str, str]) -> KeptFeatures:
    """The features in a run's folder; those of another encoder or of other clips are left out, and replaced."""
    path = folder / files.FEATURES
    try:
        known = read_features(path, *hashes)
    except UserError:  # of an earlier run, or damaged
        known = {}
    return KeptFeatures(path, hashes, known)


def probed(
    folder: Path, encoder: AudioEncoder, clips: CachedClips, probe: ProbeTableConfig, say: Callable[[str], None]
) -> ProbeTable:
    """The table of a run's encoder: the one in its folder where nothing that matters has changed, else measured.

    The features are kept in `features.npz` until the table is complete, and longer with `probe.keep_features`.
    """
    hashes = encoder_hash(encoder), clips_hash(clips)
    labels = [list(map(str, clips.labels)), list(clips.splits)]
    settings = json.dumps([hashes, labels, asdict(probe)], sort_keys=True)
    key = hashlib.blake2b(settings.encode(), digest_size=16).hexdigest()
    known = _table_of(folder / files.SCORES, key)
    if known is not None:
        say("probed before: nothing that matters has changed")
        return known
    table = probe_table(
        encoder,
        clips,
        random_seeds=probe.random_seeds,
        columns=chosen_columns([DEFAULT_K], linear_sgd=False, quick=probe.quick, one_vs_rest=probe.one_vs_rest),
        say=lambda text: say(f"probing: {text}"),
        calibrate_random=probe.calibrate_random,
        known=kept_features(folder, hashes),
    )
    table.about[KEY] = key
    # At once: what follows takes a while, and may be interrupted. A map of an earlier table is another encoder's.
    (folder / files.MAP).unlink(missing_ok=True)
    keep(folder, table)
    return table


def done(folder: Path, probe: ProbeTableConfig) -> None:
    """The table is written: features that were kept for it alone go."""
    if not probe.keep_features:
        (folder / files.FEATURES).unlink(missing_ok=True)


def _table_of(path: Path, key: str) -> ProbeTable | None:
    try:
        content = read_json(path)
        return ProbeTable.from_plain(content) if content["about"].get(KEY) == key else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or damaged: it is measured again
        return None
