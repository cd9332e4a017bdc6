"""Models made ready for a graph give what the models give; those that cannot be are refused."""

import onnxruntime
import pytest
import torch
from audiossl.transforms import MelConfig, Normalize, PatchesConfig, build_frontend
from audiossl.transforms.frontend import HOMES, config_of

from audiossl.backbones import BackboneConfig
from audiossl.bag_config import BagConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.export import ExportOptions, export
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


BAGS = {
    "ordered": (BagConfig(n_patches=8, feature_dim=24, segments=3), PatchesConfig(patch_s=0.5)),
    "rows": (BagConfig(n_patches=12, pool="mean_std"), PatchesConfig(patch_s=0.3, patch_band=0.4, band_channel=True)),
    "one": (BagConfig(n_patches=1, pool="mean_max"), PatchesConfig(patch_s=1.0)),
    "projected": (BagConfig(n_patches=3, pool="mean", output="projection", feature_dim=0), PatchesConfig(patch_s=0.4)),
}


def bag_encoder(kind):
    torch.manual_seed(0)
    bag, patches = BAGS[kind]
    config = EncoderConfig(MelConfig(), BackboneConfig("resnet10_half", stages=2), 1.0, bag, patches)
    return AudioEncoder.build(config, Normalize(-8.0, 3.0)).eval()


@pytest.mark.parametrize("kind", BAGS)
@torch.no_grad()
def test_bags_of_patches_give_the_same_at_every_length(kind):
    encoder = bag_encoder(kind)
    graph = graph_module(encoder)
    for n_samples in (1, 700, 5_000, 16_000, 17_777, 30_123):
        waves = sample_waves(16000, n_samples, 2)
        torch.testing.assert_close(graph(waves), encoder(waves), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", BAGS)
def test_bags_of_patches_in_onnx(tmp_path, kind):
    encoder = bag_encoder(kind)
    export(encoder, tmp_path / "bag", ExportOptions())
    session = onnxruntime.InferenceSession(tmp_path / "bag" / "model.onnx")
    (wanted,) = (node.name for node in session.get_inputs())
    for n_clips, n_samples in ((1, 16_000), (3, 9_999), (2, 40_000)):
        waves = sample_waves(16000, n_samples, n_clips)
        (found,) = session.run(["embedding"], {wanted: waves.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), encoder(waves), rtol=0, atol=1e-4)
