"""AudioNTT: its sizes counted by hand, its frames against plain calls, and its place among the backbones."""

import pytest
import torch
from torch.nn import functional

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.backbones.last_blocks import last_blocks
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.explain.attention import attention
from audiossl.explain.correspondence import correspondence

SIZE = (64, 96)


def build(name="audiontt_2020", size=SIZE, channels=1, pool="mean_max", **settings):
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(name, pool=pool, **settings), size, channels)


def counted(blocks, frame, width):
    convolutions = (9 * 64 + 64) + (blocks - 1) * (9 * 64 * 64 + 64) + blocks * 2 * 64  # the first sees one channel
    return convolutions + frame * width + width + width * width + width


@pytest.mark.parametrize(
    ("name", "width", "dim", "n_parameters"),
    [
        ("audiontt_2020", 0, 512, counted(3, 512, 512)),
        ("audiontt_2020", 1024, 1024, counted(3, 512, 1024)),
        ("audiontt_2020", 2048, 2048, counted(3, 512, 2048)),
        ("audiontt_2022", 0, 3072, counted(2, 1024, 2048)),
    ],
)
def test_it_has_the_published_sizes(name, width, dim, n_parameters):
    backbone = build(name, width=width)
    assert backbone.feature_dim == backbone.dim == dim
    assert sum(p.numel() for p in backbone.parameters()) == n_parameters
    published = {512: 0.60e6, 1024: 1.65e6, 2048: 5.32e6, 3072: 6.3e6}
    assert n_parameters == pytest.approx(published[dim], rel=0.02)


def plain(state, image, blocks, stacked):
    """The network in plain calls, evaluation mode, frames (B, T', D)."""
    x = image
    for b in range(blocks):
        conv, norm = f"net.features.{4 * b}.", f"net.features.{4 * b + 1}."
        x = functional.conv2d(x, state[conv + "weight"], state[conv + "bias"], padding=1)
        mean, var = state[norm + "running_mean"], state[norm + "running_var"]
        x = functional.batch_norm(x, mean, var, state[norm + "weight"], state[norm + "bias"])
        x = functional.max_pool2d(functional.relu(x), 2)
    frames = torch.stack([x[:, :, :, t].transpose(1, 2).reshape(len(x), -1) for t in range(x.shape[3])], dim=1)
    hidden = functional.relu(frames @ state["net.fc.0.weight"].T + state["net.fc.0.bias"])
    seen = functional.relu(hidden @ state["net.fc.3.weight"].T + state["net.fc.3.bias"])
    return torch.cat([frames, seen], dim=2) if stacked else seen


@pytest.mark.parametrize(("name", "blocks", "stacked"), [("audiontt_2020", 3, False), ("audiontt_2022", 2, True)])
@pytest.mark.parametrize(("size", "channels"), [(SIZE, 1), ((40, 50), 2)])
def test_frames_and_pooling_are_the_formula(name, blocks, stacked, size, channels):
    backbone = build(name, size, channels, width=32).eval()
    state = {k: torch.rand_like(v) if v.is_floating_point() else v for k, v in backbone.state_dict().items()}
    state = {k: 0.2 * (v - 0.5) if k.endswith(("weight", "bias", "mean")) else v for k, v in state.items()}
    backbone.load_state_dict(state)
    image = torch.randn(3, channels, *size)
    frames = plain(state, image, blocks, stacked)
    output = backbone(image)
    assert output.grid == (1, size[1] // 2**blocks)
    torch.testing.assert_close(output.patches, frames, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.features, frames.mean(1) + frames.amax(1), atol=1e-5, rtol=1e-4)


def test_clips_of_any_length_pass_and_other_bands_are_refused():
    backbone = build().eval()
    for n_frames in (1, 4, 5, 7, 8, 33, 300):
        assert backbone(torch.zeros(1, 1, 64, n_frames)).features.shape == (1, 512)
    short = torch.randn(2, 1, 64, 5)  # seen as a whole frame, zeros behind
    torch.testing.assert_close(backbone(short).features, backbone(functional.pad(short, (0, 3))).features)
    with pytest.raises(UserError, match="built for pictures of 64 bins and found 32"):
        backbone(torch.zeros(1, 1, 32, 96))
    with pytest.raises(UserError, match="at least 8 bins, not 6"):
        build(size=(6, 96))


def test_a_batch_is_its_clips_one_by_one():
    backbone = build("audiontt_2022").eval()
    image = torch.randn(3, 1, *SIZE)
    alone = torch.cat([backbone(one[None]).features for one in image])
    torch.testing.assert_close(backbone(image).features, alone, atol=1e-5, rtol=1e-4)


def test_frames_are_centred_where_they_look_and_the_whole_band_high():
    rows, frames = build().middles((1, 12), SIZE)
    assert rows.tolist() == [31.5]
    assert frames[:2].tolist() == [3.5, 11.5]


def test_its_blocks_can_be_read_side_by_side():
    backbone = build().eval()
    image = torch.randn(2, 1, *SIZE)
    read = last_blocks(backbone, image, 3)
    assert read.shape == (2, 64 + 64 + 512)
    first = backbone.net.features[:4](image).mean((2, 3))
    torch.testing.assert_close(read[:, :64], first)
    torch.testing.assert_close(read[:, 128:], backbone(image).patches.mean(1))


def encoder_of(name="audiontt_2020"):
    return AudioEncoder.build(EncoderConfig(backbone=BackboneConfig(name, pool="mean_max", width=64))).eval()


@pytest.mark.parametrize(("name", "n_frames"), [("audiontt_2020", 12), ("audiontt_2022", 24)])
def test_its_frames_are_found_again_and_it_has_no_attention(name, n_frames):
    encoder = encoder_of(name)
    wave = torch.rand(16000, generator=torch.Generator().manual_seed(0)) - 0.5
    assert correspondence(encoder, wave, wave).matches[:, 0].tolist() == list(range(n_frames))
    with pytest.raises(UserError, match="has no attention that can be shown"):
        attention(encoder, wave, query=(0.3, 500.0))


def test_an_encoder_of_it_is_saved_and_opened(tmp_path):
    encoder = encoder_of()
    encoder.save_pretrained(tmp_path / "encoder")
    wave = torch.randn(2, 16000)
    torch.testing.assert_close(AudioEncoder.from_pretrained(tmp_path / "encoder")(wave), encoder(wave))


def test_width_is_for_audiontt_and_stages_are_not():
    with pytest.raises(UserError, match="width=64 is for AudioNTT"):
        build_backbone(BackboneConfig("resnet10", width=64), SIZE)
    with pytest.raises(UserError, match="stages=2 is for ResNets"):
        build(stages=2)
    with pytest.raises(UserError, match="width=-1 must be positive, or 0 for audiontt_2022's 2048"):
        build("audiontt_2022", width=-1)
