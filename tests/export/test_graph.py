"""Models made ready for a graph give what the models give; those that cannot be are refused."""

import pytest
import torch
from audiossl.transforms import MelConfig, Normalize, build_frontend
from audiossl.transforms.frontend import HOMES, config_of

from audiossl.backbones import BackboneConfig
from audiossl.bag_config import BagConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.export.graph import EXPORTABLE, graph_module, sample_waves


def encoder_of(kind="mel", name="resnet10", **settings):
    torch.manual_seed(0)
    config = EncoderConfig(config_of(kind, settings), BackboneConfig(name))
    return AudioEncoder.build(config, Normalize(-8.0, 3.0)).eval()


@pytest.mark.parametrize("name", ["resnet10", "swin_micro", "audiontt_2020", "vit_tiny"])
@torch.no_grad()
def test_networks_give_the_same_at_every_length(name):
    encoder = encoder_of(name=name)
    graph = graph_module(encoder)
    for n_samples in (1, 700, 5_000, 16_000, 30_123):
        waves = sample_waves(16000, n_samples, 2)
        torch.testing.assert_close(graph(waves), encoder(waves), rtol=0, atol=2e-5)


@torch.no_grad()
def test_a_swin_as_published_gives_the_same():
    config = EncoderConfig(MelConfig(), BackboneConfig("swin_tiny", published=True))
    encoder = AudioEncoder.build(config, Normalize(-8.0, 3.0)).eval()
    waves = sample_waves(16000, 9_000, 1)
    torch.testing.assert_close(graph_module(encoder)(waves), encoder(waves), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", EXPORTABLE)
@torch.no_grad()
def test_front_ends_give_the_same(kind):
    encoder = encoder_of(kind)
    waves = sample_waves(16000, 12_345, 3)
    torch.testing.assert_close(graph_module(encoder)(waves), encoder(waves), rtol=0, atol=1e-4)


def test_the_model_itself_stays_as_it_was():
    encoder = encoder_of(name="swin_micro")
    before = {name: type(module) for name, module in encoder.named_modules()}
    graph_module(encoder)
    assert {name: type(module) for name, module in encoder.named_modules()} == before
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("kind", sorted(set(HOMES) - set(EXPORTABLE) - {"emd"}))
def test_other_front_ends_are_refused_by_name(kind):
    with pytest.raises(UserError, match=f"front end {kind} cannot be exported: mel, stft"):
        graph_module(torch.nn.Sequential(build_frontend(kind)))


def test_other_backends_and_compressions_are_refused():
    with pytest.raises(UserError, match="backend=nnaudio cannot be exported"):
        graph_module(encoder_of("mel", backend="nnaudio"))
    with pytest.raises(UserError, match="compress=pcen cannot be exported"):
        graph_module(encoder_of("mel", compress="pcen"))


def test_a_bag_of_patches_is_refused():
    config = EncoderConfig(backbone=BackboneConfig("resnet10"), bag=BagConfig(n_patches=8))
    with pytest.raises(UserError, match="bag of patches"):
        graph_module(AudioEncoder.build(config))
