"""Training clips that teach little, said in words: silence, clipping, a constant offset, the same sound again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from audiossl.data.cached import CachedClips

LOOKED_AT = 1000  # clips at most, evenly over the set
AT_A_TIME = 1 << 22  # samples, whatever the length of the clips: 16 MB of float32
# Share of the clips from which on a kind is worth a sentence. Of 4,983 clips of nine words of Speech Commands none is
# silent or there twice, 8 are clipped and 35 offset; of 3,002 of FSDD and 400 of ESC-10 one is clipped.
SILENT, CLIPPED, OFFSET, REPEATED = 0.05, 0.2, 0.05, 0.1
LEAST_PEAK = 4  # of int16: 78 dB below full scale
FULL_SCALE = 32767
CLIPPED_SAMPLES = 0.01  # of a clip: at either end of the scale


def unusual_clips_of(objects: Iterable[Any]) -> list[str]:
    """The sentences of `unusual_clips` on the clips of those of the objects that are loaders."""
    sets = (getattr(item, "dataset", None) for item in objects)
    return [sentence for clips in sets if isinstance(clips, CachedClips) for sentence in unusual_clips(clips)]


def unusual_clips(clips: CachedClips) -> list[str]:
    """A sentence on each kind of unusual clip that is frequent among these; none for a set as it should be."""
    once = np.unique(clips.ids, return_index=True)[1]  # few labelled clips may stand in a set again and again
    places = once[np.linspace(0, len(once) - 1, min(len(once), LOOKED_AT)).round().astype(int)] if len(once) else once
    silent, clipped, offset, repeated = _looked_at(clips, places)
    kinds: list[tuple[np.ndarray, float, Callable[[str], str]]] = [
        (silent, SILENT, lambda name: f"silent, such as {name}: leave them out, nothing can be told from them"),
        (
            clipped,
            CLIPPED,
            lambda name: f"clipped, such as {name}: look whether they were recorded or decoded too loud",
        ),
        (offset, OFFSET, lambda name: f"a constant offset more than a sound, such as {name}: take the offset away"),
        (repeated, REPEATED, lambda name: f"the same sound as another one, such as {name}: leave the copies out"),
    ]
    found = []
    for which, share, words in kinds:
        if len(places) and which.mean() >= share:
            name = clips.ids[places[int(which.argmax())]]
            found.append(f"{which.sum()} of {len(places)} training clips that were looked at are {words(name)}.")
    return found


def _looked_at(clips: CachedClips, places: np.ndarray) -> np.ndarray:
    """Which of the clips at `places` (N,) are silent, clipped, offset and repeated, (4, N)."""
    kinds = np.zeros((4, len(places)), dtype=bool)
    digests: set[bytes] = set()
    step = max(1, AT_A_TIME // clips.waves.shape[1])
    for start in range(0, len(places), step):
        waves = clips.waves[places[start : start + step]]
        wide = waves.astype(np.float32)
        silent = np.abs(wide).max(1, initial=0.0) < LEAST_PEAK
        clipped = (np.abs(wide) >= FULL_SCALE).mean(1) > CLIPPED_SAMPLES
        offset = ~silent & (np.abs(wide.mean(1)) > wide.std(1))
        kinds[:3, start : start + step] = silent, clipped, offset
        for place, wave in enumerate(waves, start):
            digest = hashlib.blake2b(wave.tobytes(), digest_size=16).digest()
            kinds[3, place] = not kinds[0, place] and digest in digests
            digests.add(digest)
    return kinds
