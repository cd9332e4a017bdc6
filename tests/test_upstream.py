"""All layers with their lengths."""

import pytest
import torch

from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.upstream import AudioUpstream


@pytest.fixture(scope="module")
def upstream():
    torch.manual_seed(7)
    return AudioUpstream(AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10"))).eval())


def waves(*lengths):
    return [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in lengths]


@torch.no_grad()
def test_a_wave_alone_is_the_same_among_others(upstream):
    wavs = waves(16000, 24000, 16000, 5000)
    together = upstream(wavs)
    assert len(together["hidden_states"]) == 4
    for place, wave in enumerate(wavs):
        alone = upstream([wave])
        for layer, (states, lengths) in enumerate(zip(together["hidden_states"], together["lengths"], strict=True)):
            n = int(lengths[place])
            own = alone["hidden_states"][layer][0]
            assert len(own) == n
            assert (states[place, :n] - own).abs().max() < 1e-4
            assert not states[place, n:].any()


@torch.no_grad()
def test_the_last_layer_is_the_encoders_map(upstream):
    (wave,) = waves(16000)
    patches = upstream.encoder.patches(wave[None])
    frames = patches.patches.unflatten(1, patches.grid).mean(1)
    assert torch.allclose(upstream([wave])["hidden_states"][-1], frames, atol=1e-5)


def test_rates_grow_by_the_strides(upstream):
    rates = upstream.get_downsample_rates("hidden_states")
    hop = upstream.encoder.frontend.hop_length
    assert [round(rate / hop) for rate in rates] == [4, 8, 16, 32]


@torch.no_grad()
def test_random_weights_are_others_and_repeat(upstream):
    wavs = waves(16000)
    floors = [AudioUpstream(upstream.encoder, randomize=True)(wavs)["hidden_states"][-1] for _ in range(2)]
    assert torch.equal(*floors)
    assert not torch.allclose(floors[0], upstream(wavs)["hidden_states"][-1])


def test_mistakes(upstream):
    for wrong in ([], [torch.zeros(0)], [torch.zeros(2, 100)]):
        with pytest.raises(UserError, match="wavs must be a list of waves"):
            upstream(wrong)
    with pytest.raises(UserError, match="key is 'x'"):
        upstream.get_downsample_rates("x")
