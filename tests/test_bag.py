"""A clip as a bag of patches: the grid, the pooling, and what the rest of the library makes of it."""

from dataclasses import replace

import pytest
import torch
from audiossl.transforms import MelConfig, PatchesConfig

import audiossl
from audiossl.backbones import BackboneConfig
from audiossl.bag import BagOfPatches
from audiossl.bag_config import BagConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError

SIZE = (32, 48)
SMALL = BagConfig(n_patches=6, feature_dim=24, projection_dim=12)
PATCHES = PatchesConfig(patch_s=0.35)
NETWORK = BackboneConfig("resnet10", stages=2)


def a_bag(patches=PATCHES, **changes):
    torch.manual_seed(0)
    return BagOfPatches(NETWORK, replace(SMALL, **changes), patches, SIZE, 1.0).eval()


def pictures(n=3, n_frames=48):
    return torch.randn(n, 1, 32, n_frames, generator=torch.Generator().manual_seed(1))


def slices(image, n, width):
    """The grid, cut one patch after the other."""
    starts = torch.linspace(0, image.shape[3] - width, n).round().long().tolist()
    return [image[..., start : start + width] for start in starts]


@pytest.mark.parametrize(
    ("pool", "plain"),
    [
        ("mean", lambda v: v.mean(1)),
        ("mean_max", lambda v: v.mean(1) + v.amax(1)),
        ("mean_std", lambda v: torch.cat([v.mean(1), (v - v.mean(1, keepdim=True)).square().mean(1).sqrt()], 1)),
        ("ordered", lambda v: torch.cat([v[:, :2].mean(1), v[:, 2:4].mean(1), v[:, 4:].mean(1)], 1)),
    ],
)
def test_features_are_those_of_a_loop_over_slices(pool, plain):
    bag, image = a_bag(pool=pool, segments=3), pictures()
    assert bag.size == (32, 16)
    with torch.no_grad():
        vectors = torch.stack([bag.of_patches(patch) for patch in slices(image, 6, 16)], dim=1)
        output = bag(image)
    torch.testing.assert_close(output.patches, vectors)
    torch.testing.assert_close(output.features, plain(vectors))
    assert output.features.shape == (3, bag.feature_dim)
    assert output.grid == (1, 6)


def test_a_clip_has_the_same_features_alone_and_in_a_batch_and_in_chunks(monkeypatch):
    bag, image = a_bag(), pictures(5)
    with torch.no_grad():
        together = bag(image).features
        torch.testing.assert_close(torch.cat([bag(one[None]).features for one in image]), together)
        monkeypatch.setattr("audiossl.bag.CHUNK", 7)
        torch.testing.assert_close(bag(image).features, together)


def test_the_mean_throws_the_order_away_and_ordered_keeps_it():
    image = pictures(1)
    swapped = torch.cat([image[..., 32:], image[..., 16:32], image[..., :16]], dim=3)
    for pool, same in (("mean", True), ("ordered", False)):
        bag = a_bag(pool=pool, segments=3, n_patches=3)
        with torch.no_grad():
            assert torch.allclose(bag(image).features, bag(swapped).features, atol=1e-6) == same


def test_a_band_in_rows_with_its_place_as_a_channel():
    bag, image = a_bag(PatchesConfig(patch_s=0.35, patch_band=0.5, band_channel=True)), pictures()
    assert bag.size == (16, 16)
    seen = []
    bag.network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        output = bag(image)
    assert output.grid == (2, 3)
    patches = seen[0].unflatten(0, (3, 6))
    assert patches[:, 0, 0].equal(image[:, 0, :16, :16])
    assert patches[:, 5, 0].equal(image[:, 0, 16:, 32:])
    place = (torch.arange(32) + 0.5) / 16 - 1
    torch.testing.assert_close(patches[0, 0, 1, :, 0], place[:16])
    torch.testing.assert_close(patches[2, 5, 1, :, 7], place[16:])


@pytest.mark.parametrize(("n_frames", "n_patches"), [(48, 6), (112, 16), (16, 1), (5, 1)])
def test_longer_clips_have_more_patches_equally_dense_and_short_ones_are_filled_up(n_frames, n_patches):
    with torch.no_grad():
        output = a_bag()(pictures(2, n_frames))
    assert output.patches.shape == (2, n_patches, 24)
    assert output.features.isfinite().all()


def test_an_encoder_of_bags_is_saved_opened_randomised_and_says_where_patches_lie(tmp_path):
    torch.manual_seed(0)
    config = EncoderConfig(
        backbone=NETWORK, bag=replace(SMALL, output="projection"), patches=PatchesConfig(patch_s=0.35, gain=0.2)
    )
    encoder = AudioEncoder.build(config).eval()
    wave = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    encoder.save_pretrained(tmp_path / "encoder")
    again = audiossl.load_model(tmp_path / "encoder")
    assert again.config == config
    with torch.no_grad():
        features = encoder(wave)
        assert again(wave).equal(features)
        torch.testing.assert_close(encoder.output(wave).patches.norm(dim=-1), torch.ones(2, 6))
        other, twin = encoder.randomised(1)(wave), encoder.randomised(1)(wave)
        where = encoder.patches(wave)
    assert other.equal(twin)
    assert not other.equal(features)
    assert where.grid == (1, 6)
    times, width = encoder.frontend.times(16000), encoder.backbone.size[1]
    # The grid's first window begins with the clip, its last ends with it.
    torch.testing.assert_close(where.centres_s[[0, -1]], (times[[0, -width]] + times[[width - 1, -1]]) / 2)


@pytest.mark.parametrize(
    ("patches", "changes", "sentence"),
    [
        (PatchesConfig(patch_s=2.0), {}, r"--views\.patch_s 2 is longer than a clip of 1 s"),
        (PatchesConfig(patch_s=0.35, patch_band=0.5), {"n_patches": 5}, r"--bag\.n_patches 5 makes no grid"),
        (PATCHES, {"pool": "ordered", "segments": 7}, r"--bag\.segments 7 is more than the 6 patches"),
        (PATCHES, {"pool": "sum"}, r"--bag\.pool must be one of mean, mean_max, mean_std, ordered, found 'sum'"),
        (PATCHES, {"n_patches": 0}, r"--bag\.n_patches must be at least 1, found 0"),
    ],
)
def test_impossible_bags_name_their_flag(patches, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        a_bag(patches, **changes)


def test_what_needs_a_whole_picture_says_so():
    from audiossl.explain.attention import attention_of_blocks
    from audiossl.explain.correspondence import correspondence

    encoder = AudioEncoder.build(EncoderConfig(backbone=NETWORK, bag=SMALL, patches=PATCHES)).eval()
    wave = torch.zeros(16000)
    for call in (
        lambda: attention_of_blocks(encoder, wave),
        lambda: correspondence(encoder, wave, wave),
        lambda: encoder.last_blocks(wave[None], 2),
    ):
        with pytest.raises(UserError, match="sees a clip as a bag of patches"):
            call()
    whole = AudioEncoder.build(EncoderConfig(backbone=NETWORK))
    with pytest.raises(UserError, match="sees whole pictures"):
        whole.bag  # noqa: B018


def test_an_encoder_with_another_number_of_patches_sees_the_grid_of_that_number():
    config = EncoderConfig(MelConfig(n_bins=32, hop_length=334), NETWORK, 1.0, replace(SMALL, pool="mean"), PATCHES)
    encoder = AudioEncoder.build(config).eval()
    other, wave = encoder.with_patches(11), torch.randn(2, 16000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        image = encoder.image(wave)
        vectors = torch.stack([encoder.bag.of_patches(patch) for patch in slices(image, 11, 16)], dim=1)
        torch.testing.assert_close(other(wave), vectors.mean(1))
        assert not other(wave).allclose(encoder(wave))
    assert other.config.bag.n_patches == 11
    assert encoder.config.bag.n_patches == 6
    with pytest.raises(UserError, match="this encoder sees whole pictures"):
        AudioEncoder.build(EncoderConfig(config.frontend, NETWORK, 1.0)).with_patches(4)
