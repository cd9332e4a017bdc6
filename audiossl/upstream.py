"""All layers of an encoder with their lengths, as upstreams of s3prl give them: waves in, states over time out."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audiossl.backbones.hidden_states import hidden_states
from audiossl.encoder import AudioEncoder, load_model
from audiossl.errors import UserError


class AudioUpstream(nn.Module):
    """Waves of any lengths to every block's map over time, frequency averaged.

    Waves of one length go through the network together, and those of others apart, so that no wave's output depends on
    the padding that another one would need.

    Args:
        model: an encoder, its folder, or its name.
        randomize: fresh random weights in the same network, the floor that every probe should beat.

    Raises UserError for an encoder that sees a clip as a bag of patches, which has no maps.
    """

    def __init__(self, model: AudioEncoder | str | os.PathLike[str], randomize: bool = False, seed: int = 0) -> None:
        super().__init__()
        encoder = load_model(model) if isinstance(model, (str, os.PathLike)) else model
        self.encoder = encoder.randomised(seed) if randomize else encoder
        self.network = self.encoder.network
        self.sample_rate = encoder.sample_rate

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Waves (S,), each of its own length, to "hidden_states", a list of (B, T', D), and "lengths" (B,) of each.

        A layer's clips are padded behind with zeros to the longest; `lengths` says how many frames are a clip's own.
        Raises UserError for what is no wave.
        """
        if not wavs or any(wave.ndim != 1 or not len(wave) for wave in wavs):
            raise UserError("wavs must be a list of waves (samples,) with at least one sample each.")
        of_length: dict[int, list[int]] = defaultdict(list)
        for place, wave in enumerate(wavs):
            of_length[len(wave)].append(place)
        clips: dict[int, list[Tensor]] = {}
        for places in of_length.values():
            image = self.encoder.image(torch.stack([wavs[place] for place in places]))
            states = [state.float().mean(2).transpose(1, 2) for state in hidden_states(self.network, image)]
            for row, place in enumerate(places):
                clips[place] = [state[row] for state in states]
        layers = list(zip(*(clips[place] for place in range(len(wavs))), strict=True))
        return {
            "hidden_states": [nn.utils.rnn.pad_sequence(list(layer), batch_first=True) for layer in layers],
            "lengths": [torch.tensor([len(clip) for clip in layer], device=layer[0].device) for layer in layers],
        }

    @torch.inference_mode()
    def get_downsample_rates(self, key: str = "hidden_states") -> list[int]:
        """Samples to a frame of each layer, rounded; measured on ten clips' length of silence."""
        if key != "hidden_states":
            raise UserError(f"key is {key!r}: the layers are called 'hidden_states'.")
        n_samples = 10 * self.encoder.n_samples
        weight = next(self.parameters())
        states = self([torch.zeros(n_samples, device=weight.device)])["hidden_states"]
        return [round(n_samples / state.shape[1]) for state in states]
