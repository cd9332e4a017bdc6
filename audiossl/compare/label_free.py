"""What can be said of features without any label."""

from __future__ import annotations

import numpy as np
import torch

from audiossl.data.cached import CachedClips
from audiossl.data.recordings import open_augment
from audiossl.encoder import AudioEncoder
from audiossl.run.monitors import feature_std, rankme
from audiossl.transforms import WaveAugmentConfig, as_float

LABEL_FREE = ("agreement", "RankMe", "spread, %")
# Changes that leave a clip what it is: what one hears of the same sound through another microphone.
CHANGES = WaveAugmentConfig(gain_db=3.0, noise=1.0, noise_snr_db=[20.0, 20.0], shift_s=0.05)
N_CLIPS = 1000  # at most, drawn by a fixed seed


def label_free(
    x: np.ndarray, encoder: AudioEncoder | None, clips: CachedClips, device: str | None = None
) -> dict[str, float]:
    """Measures of features x (N, D) of clips that need no labels, by name.

    "agreement": percent of at most 1,000 clips that are found again among them, by cosine, when they are heard a little
    louder or softer, 50 ms earlier or later, and in noise 20 dB below. It is small where clips are all alike to the
    network, and where it hears such changes; that it is large does not say that what sounds alike to people lies
    together. Only with the encoder. "RankMe" and "spread, %" (100 is isotropic): see `audiossl.run.monitors`.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(clips))[:N_CLIPS])
    features = torch.from_numpy(np.asarray(x[rows]))
    found = {"RankMe": rankme(features), "spread, %": 100 * feature_std(features)}
    if encoder is not None:
        found["agreement"] = _agreement(features, encoder, clips.subset(rows.tolist()), device)
    return found


@torch.inference_mode()
def _agreement(features: torch.Tensor, encoder: AudioEncoder, clips: CachedClips, device: str | None) -> float:
    augment, generator = open_augment(CHANGES, clips.sample_rate), torch.Generator().manual_seed(0)
    before, was_training = next(encoder.parameters()).device, encoder.training
    where = before if device is None else torch.device(device)
    encoder.eval().to(where)
    try:
        parts = [encoder(augment(as_float(batch.wave), generator).to(where)).cpu() for batch in clips.batches(256)]
    finally:
        encoder.to(before).train(was_training)
    # Centred: all features of a network share a direction, which says nothing of a clip.
    mean = features.mean(0)
    clean, changed = (torch.nn.functional.normalize(z - mean, dim=1) for z in (features, torch.cat(parts)))
    nearest = (changed @ clean.T).argmax(1)
    return 100.0 * int((nearest == torch.arange(len(nearest))).sum()) / len(nearest)
