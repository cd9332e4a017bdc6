"""The rows of a table one after the other: features of the encoder, of its random twins, of the log-mel pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from audiossl.probes.baselines import log_mel_tables
from audiossl.probes.calibrated import calibrated
from audiossl.probes.features import Batches, FeatureTable, describe_features, extract, in_order
from audiossl.probes.kept_features import KeptFeatures

if TYPE_CHECKING:
    import numpy as np

    from audiossl.data.cache import CachedClips
    from audiossl.encoder import AudioEncoder
    from audiossl.probes.last_blocks import LastBlocks

ENCODER = "encoder"
RANDOM = "random weights, seed "
CALIBRATED = "random weights, batch norm calibrated, seed "
# What a table calls the rows of all seeds together.
TWINS = {RANDOM: "same network, random weights", CALIBRATED: "the same, batch norm calibrated"}


def feature_rows(
    encoder: AudioEncoder | LastBlocks,
    clips: CachedClips,
    random_seeds: Sequence[int] = (0, 1, 2),
    batch_size: int = 256,
    device: str | None = None,
    say: Callable[[str], None] = lambda text: None,
    batches: Batches = in_order,
    known: dict[str, np.ndarray] | None = None,
    calibrate_random: bool = False,
) -> Iterator[tuple[str, FeatureTable]]:
    """Yield the name and the features of each row, which are computed when they are asked for.

    Processes that share the work (`batches`) must all go through all rows. `known` holds features (N, D) by name that
    need not be computed, and gets those that were, `KeptFeatures` batch after batch; None keeps nothing.
    `calibrate_random` adds the random twins with batch norms measured on the training clips (see `calibrated`).
    """

    def embedded(name: str, network: Callable[[], AudioEncoder | LastBlocks]) -> FeatureTable:
        say(name)
        if known is not None and name in known:
            return describe_features(known[name], clips)
        own = known.batches(name) if isinstance(known, KeptFeatures) and batches is in_order else batches
        table = extract(network(), clips, batch_size, device, own)
        if known is not None:
            known[name] = table.x
        return table

    yield ENCODER, embedded(ENCODER, lambda: encoder)
    for seed in random_seeds:
        yield f"{RANDOM}{seed}", embedded(f"{RANDOM}{seed}", partial(encoder.randomised, seed))
    for seed in random_seeds if calibrate_random else ():
        name = f"{CALIBRATED}{seed}"
        yield name, embedded(name, partial(_calibrated_twin, encoder, seed, clips, device))
    for name, table in log_mel_tables(clips, batches=batches).items():
        say(name)
        yield name, table


def _calibrated_twin(
    encoder: AudioEncoder | LastBlocks, seed: int, clips: CachedClips, device: str | None
) -> AudioEncoder | LastBlocks:
    return calibrated(encoder.randomised(seed), clips, device)
