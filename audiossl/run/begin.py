"""The beginning of a run: the encoder that it will train, made for the clips at hand."""

from __future__ import annotations

from audiossl.backbones import BackboneConfig
from audiossl.bag_config import BagConfig
from audiossl.data.cached import CachedClips
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.transforms import FrontEndConfig, Normalize, PatchesConfig, build_frontend


def new_encoder(
    frontend: FrontEndConfig,
    backbone: BackboneConfig,
    training: CachedClips,
    bag: BagConfig | None = None,
    patches: PatchesConfig | None = None,
) -> AudioEncoder:
    """An encoder with random weights, and with the statistics that the front end's pictures of `training` have.

    With `bag` and `patches` a clip is a bag of patches, see `audiossl.bag`.

    Raises UserError when the clips are of another rate than the front end, and for settings that cannot be built from.
    """
    if frontend.sample_rate != training.sample_rate:
        raise UserError(
            f"--frontend.sample_rate is {frontend.sample_rate} and --data.sample_rate is "
            f"{training.sample_rate}: give both the same."
        )
    waves = (batch.wave for batch in training.batches(256))
    statistics = Normalize.measure(build_frontend(frontend), waves, frontend.per_bin)
    shape = EncoderConfig(frontend, backbone, training.clip_s, bag, patches or PatchesConfig())
    return AudioEncoder.build(shape, statistics)
