"""The encoder: wave in, embedding out. What a pretraining run keeps, and what everything else opens.

It carries all that its numbers depend on: sample rate, front end, statistics, backbone and pooling. A folder
of an encoder follows Hugging Face's manner: config.json, model.safetensors and a model card, README.md.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audiossl.backbones import Backbone, BackboneConfig, BackboneOutput, build_backbone
from audiossl.backbones.last_blocks import last_blocks
from audiossl.bag import BagOfPatches
from audiossl.bag_config import BagConfig
from audiossl.errors import UserError
from audiossl.installed import DEFAULT_MODEL
from audiossl.transforms import (
    FrontEnd,
    FrontEndConfig,
    MelConfig,
    Normalize,
    PatchesConfig,
    as_float,
    build_frontend,
)

Folder = str | os.PathLike[str]


@dataclass
class EncoderConfig:
    """What an encoder is built from; clip_s is the length in seconds that it is trained on.

    With `bag` a clip is a bag of patches, as large as those of `patches`, that it was trained on.
    """

    frontend: FrontEndConfig = field(default_factory=MelConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    clip_s: float = 1.0
    bag: BagConfig | None = None
    patches: PatchesConfig = field(default_factory=PatchesConfig)


class Patches(NamedTuple):
    """Regions of clips: patches (B, P, D), row-major over grid = (F', T'), low frequency first.

    centres_s (T',) in seconds and centres_hz (F',) in Hz: the middles of the grid's cells. A network sees
    further than its cell, so they say where a region is centred, not what it depends on.
    """

    patches: Tensor
    grid: tuple[int, int]
    centres_s: Tensor
    centres_hz: Tensor


class AudioEncoder(nn.Module):
    """Front end, normalisation and backbone in one module: wave (B, S) -> features (B, D), float32.

    Attributes: sample_rate (Hz), clip_s (s) and n_samples, the length it was trained on, image_size (F, T) of
    such a clip, dim D. Longer and shorter clips are allowed: their picture is wider or narrower.

    >>> encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("swin_micro"))).eval()
    >>> encoder(torch.zeros(2, 16000)).shape, encoder(torch.zeros(1, 40000, dtype=torch.int16)).shape
    (torch.Size([2, 256]), torch.Size([1, 256]))
    """

    def __init__(
        self, frontend: FrontEnd, normalize: Normalize, backbone: Backbone | BagOfPatches, config: EncoderConfig
    ):
        super().__init__()
        self.frontend = frontend
        self.normalize = normalize
        self.backbone = backbone
        self.config = config
        self.sample_rate = frontend.sample_rate
        self.clip_s = config.clip_s
        self.n_samples = round(config.clip_s * frontend.sample_rate)
        self.image_size = (frontend.n_bins, frontend.n_frames(self.n_samples))
        self.dim = backbone.feature_dim

    @classmethod
    def build(
        cls, config: EncoderConfig, normalize: Normalize | None = None, most_weights: int | None = None
    ) -> AudioEncoder:
        """Build an encoder with random weights; `normalize` holds the statistics of the training clips.

        Raises UserError for settings that cannot be built from, for statistics of another front end, and for a network
        of more than `most_weights`, before room is made for it.
        """
        if not config.clip_s > 0:
            raise UserError(f"clip_s={config.clip_s} must be positive (seconds).")
        if normalize is not None:
            normalize.check_belongs_to(config.frontend)
        frontend = build_frontend(config.frontend)
        frames = frontend.n_frames(round(config.clip_s * frontend.sample_rate))
        size = (frontend.n_bins, frames)

        def network() -> Backbone | BagOfPatches:
            if config.bag is None:
                return build_backbone(config.backbone, size, frontend.n_channels)
            return BagOfPatches(config.backbone, config.bag, config.patches, size, config.clip_s, frontend.n_channels)

        if most_weights is not None and (config.bag is not None or config.backbone.name.startswith("timm/")):
            with torch.device("meta"):  # of any size: our own networks are not that large
                n_weights = sum(weight.numel() for weight in network().parameters())
            if n_weights > most_weights:
                raise UserError(f"the network that is described has {n_weights} weights, and not {most_weights}.")
        return cls(frontend, normalize or Normalize(), network(), config)

    @property
    def network(self) -> Backbone:
        """The backbone, where it sees whole pictures; raises UserError for a bag, whose network sees patches alone."""
        if isinstance(self.backbone, BagOfPatches):
            raise UserError("this encoder sees a clip as a bag of patches: give one whose network sees whole pictures.")
        return self.backbone

    @property
    def bag(self) -> BagOfPatches:
        """The bag of patches, where a clip is one; raises UserError for any other encoder."""
        if not isinstance(self.backbone, BagOfPatches):
            raise UserError("this encoder sees whole pictures: give one that sees a clip as a bag of patches.")
        return self.backbone

    def image(self, wave: Tensor) -> Tensor:
        """Normalised picture (B, C, F, T) of waves (B, S), int16 or floats in [-1, 1] at `sample_rate`."""
        return self.normalize(self.frontend(as_float(wave)))

    def output(self, wave: Tensor) -> BackboneOutput:
        """Features (B, D) and regions (B, P, dim of a region), float32 even under autocast."""
        output = self.backbone(self.image(wave))
        return BackboneOutput(output.features.float(), output.patches.float(), output.grid)

    def forward(self, wave: Tensor) -> Tensor:
        """Features (B, D) of waves (B, S), int16 or floats in [-1, 1] at `sample_rate`.

        Raises UserError when the wave is not (B, S) with at least one sample, or of another type.
        """
        return self.output(wave).features

    def last_blocks(self, wave: Tensor, n: int, avgpool_patchtokens: bool = False) -> Tensor:
        """Pooled outputs of the network's last `n` blocks side by side, (B, D) float32, of waves (B, S).

        What a block is, and how it is pooled, stands in `audiossl.backbones.last_blocks`.
        Raises UserError when the network has fewer blocks.
        """
        return last_blocks(self.network, self.image(wave), n, avgpool_patchtokens).float()

    def patches(self, wave: Tensor) -> Patches:
        """Regions of waves (B, S), with the middles of their cells in seconds and Hz.

        Cells that reach beyond the picture, because the backbone padded it, are centred at its edge.
        """
        output = self.output(wave)
        frames, bins = self.frontend.n_frames(wave.shape[1]), self.frontend.n_bins
        row, frame = self.backbone.middles(output.grid, (bins, frames))
        hz = self.frontend.frequencies.cpu()
        low = row.floor().long()
        high = (low + 1).clamp(max=bins - 1)
        centres_hz = torch.lerp(hz[low], hz[high], row - low)
        times = self.frontend.times(wave.shape[1])
        before = frame.floor().long()
        centres_s = torch.lerp(times[before], times[(before + 1).clamp(max=frames - 1)], frame - before)
        return Patches(output.patches, output.grid, centres_s, centres_hz)

    def randomised(self, seed: int) -> AudioEncoder:
        """The same network with fresh random weights and the same statistics: the floor of every table."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = AudioEncoder.build(copy.deepcopy(self.config), copy.deepcopy(self.normalize))
        device = self.normalize.mean.device
        return fresh.to(device).train(self.training)

    def with_patches(self, n_patches: int) -> AudioEncoder:
        """The same encoder with another number of patches a clip, in place of its `bag.n_patches`.

        Raises UserError for an encoder that sees whole clips, and for a number that makes no grid.

        >>> words = load_model("words-tiny")
        >>> words.with_patches(4)(torch.zeros(1, 16000)).shape == words(torch.zeros(1, 16000)).shape
        True
        """
        config = replace(self.config, bag=replace(self.bag.config, n_patches=n_patches))
        other = AudioEncoder.build(config, copy.deepcopy(self.normalize))
        other.load_state_dict(self.state_dict())
        return other.to(self.normalize.mean.device).train(self.training)

    def save_pretrained(self, folder: Folder, card: str | None = None, extra: dict[str, Any] | None = None) -> None:
        """Write config.json, model.safetensors and README.md into `folder`, all at once or not at all.

        card: text of the model card in place of the one made here. extra: facts of the training (JSON), kept
        in config.json and shown in the card. Raises UserError when the folder holds something else.
        """
        from audiossl.encoder_files import save

        save(self, folder, card, extra or {})

    @classmethod
    def from_pretrained(
        cls, folder_or_name: Folder, revision: str | None = None, token: str | None = None
    ) -> AudioEncoder:
        """Open the folder of an encoder, or one of the Hugging Face Hub (ORGANISATION/NAME), in eval mode on the CPU.

        Raises UserError when a file is missing, damaged, or of another network than config.json says.
        """
        from audiossl.encoder_files import open_folder
        from audiossl.hub import fetch, looks_like_a_name

        if not os.path.exists(folder_or_name) and looks_like_a_name(os.fspath(folder_or_name)):
            return open_folder(fetch(os.fspath(folder_or_name), revision, token))
        return open_folder(folder_or_name)

    def push_to_hub(self, name: str, private: bool = False, token: str | None = None) -> str:
        """Write the encoder to the Hugging Face Hub as ORGANISATION/NAME, and return the commit's address.

        Raises UserError when the Hub refuses.
        """
        from audiossl.hub import push

        return push(self, name, private, token)


def load_model(folder_or_name: Folder = DEFAULT_MODEL, arch: str | None = None, **released: Any) -> AudioEncoder:
    """Open an encoder in eval mode: a folder written by `save_pretrained` (RUN/encoder), or a model by name.

    A name is one of `audiossl models`, or ORGANISATION/NAME of the Hugging Face Hub. Without any it is "words", which
    comes with audiossl.

    With `arch`, such as "swin_tiny", the place is a file that EsViT's authors released, and the other settings
    (checkpoint_key, frontend, normalize, clip_s) are those of `audiossl.released.load_released`;
    with "audiontt_2020" or "audiontt_2022" it is a file of BYOL-A, and they are `audiossl.released_byola.load_byola`'s.

    Raises UserError, saying what there is, when there is no such folder or model, or the file does not fit.
    """
    if arch is not None and arch.startswith("audiontt"):
        from audiossl.released_byola import load_byola

        return load_byola(folder_or_name, arch, **released)
    if arch is not None:
        from audiossl.released import load_released

        return load_released(folder_or_name, arch, **released)
    if released:
        raise UserError(f"{', '.join(released)} is for a released file: give its arch too, such as arch='swin_tiny'.")
    from audiossl.encoder_files import open_any

    return open_any(folder_or_name)
