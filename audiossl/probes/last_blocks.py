"""An encoder read at its last n blocks, in the form that probes take: wave in, one vector out."""

from __future__ import annotations

from torch import Tensor, nn

from audiossl.backbones.last_blocks import check_last_blocks
from audiossl.encoder import AudioEncoder


class LastBlocks(nn.Module):
    """The frozen `encoder` with the pooled outputs of its last `n` blocks in place of its embedding.

    Raises `UserError` when its network has fewer blocks, or no class token for `avgpool_patchtokens`.
    """

    def __init__(self, encoder: AudioEncoder, n: int, avgpool_patchtokens: bool = False):
        super().__init__()
        check_last_blocks(encoder.network, n, avgpool_patchtokens)
        self.encoder = encoder
        self.sample_rate = encoder.sample_rate
        self.n, self.avgpool_patchtokens = n, avgpool_patchtokens

    def forward(self, wave: Tensor) -> Tensor:
        """Features (B, D) float32 of waves (B, S)."""
        return self.encoder.last_blocks(wave, self.n, self.avgpool_patchtokens)

    def randomised(self, seed: int) -> LastBlocks:
        """The same blocks of the same network with random weights."""
        return LastBlocks(self.encoder.randomised(seed), self.n, self.avgpool_patchtokens)

    def facts(self) -> dict[str, int | bool]:
        """What a table says of these features."""
        return {"last_blocks": self.n, "avgpool_patchtokens": self.avgpool_patchtokens}
