"""Encoders for clips of another length: what they have learnt stays, and what is saved is what is opened."""

import pytest
import torch
from audiossl.transforms import MelConfig, PatchesConfig
from timm.models.swin_transformer import get_relative_position_index

import audiossl
from audiossl.backbones import BackboneConfig
from audiossl.bag_config import BagConfig
from audiossl.classifier import Classifier
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.heads import ClassifierHead
from audiossl.run.clip_length import bias_table, of_length

RATE = 8000
LENGTHS_S = (0.3, 2.0, 7.0)
BAG = BagConfig(n_patches=6, feature_dim=24, projection_dim=12)


def built(name, n_bins=32, **config):
    torch.manual_seed(0)
    picture = MelConfig(sample_rate=RATE, n_fft=256, win_length=256, hop_length=84, n_bins=n_bins, f_max=3800.0)
    return AudioEncoder.build(EncoderConfig(picture, BackboneConfig(name), 1.0, **config)).eval()


ENCODERS = {
    "resnet": lambda: built("resnet10"),
    "vit": lambda: built("vit_tiny"),
    "vit of 40 bins": lambda: built("vit_tiny", n_bins=40),  # which its patches do not divide
    "published vit": lambda: _published("vit_tiny"),
    "swin": lambda: built("swin_micro"),
    "swin of 64 bins": lambda: built("swin_micro", n_bins=64),
    "swin of timm": lambda: built("timm/swin_tiny_patch4_window7_224"),
    "audiontt": lambda: built("audiontt_2020"),
    "bag": lambda: built("resnet10", bag=BAG, patches=PatchesConfig(patch_s=0.35)),
    "bag of swins": lambda: built("swin_micro", bag=BAG, patches=PatchesConfig(patch_s=0.35)),
    "words-tiny": lambda: audiossl.load_model("words-tiny"),
}


def _published(name):
    torch.manual_seed(0)
    return AudioEncoder.build(EncoderConfig(backbone=BackboneConfig(name, published=True))).eval()


def waves(encoder, clip_s):
    return torch.randn(2, round(clip_s * encoder.sample_rate), generator=torch.Generator().manual_seed(1)) / 10


@pytest.mark.parametrize("kind", ENCODERS)
def test_what_is_saved_is_what_is_opened(tmp_path, kind):
    encoder = ENCODERS[kind]()
    for clip_s in LENGTHS_S:
        other = of_length(encoder, clip_s)
        assert (other.clip_s, other.n_samples) == (clip_s, round(clip_s * encoder.sample_rate))
        classifier = Classifier(other, ClassifierHead(other.dim, 3), ["a", "b", "c"]).eval()
        classifier.save_pretrained(tmp_path / "classifier")
        opened = audiossl.load_classifier(tmp_path / "classifier")
        for heard_s in (1.0, clip_s):
            with torch.no_grad():
                assert torch.equal(classifier(waves(encoder, heard_s)), opened(waves(encoder, heard_s))), clip_s


@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if "swin" not in kind and kind != "vit of 40 bins"])
def test_it_hears_longer_clips_as_it_did_before(kind):
    # Not Swins, whose windows follow the picture, and a ViT in pictures of whole patches alone: of others, positions
    # are resampled twice.
    encoder = ENCODERS[kind]()
    for frames in (192, 672, 1920):
        clip_s = (frames - 1) * encoder.config.frontend.hop_length / encoder.sample_rate
        wave = waves(encoder, clip_s)
        with torch.no_grad():
            torch.testing.assert_close(of_length(encoder, clip_s)(wave), encoder(wave), atol=1e-5, rtol=1e-5)


def test_a_bag_keeps_the_size_and_the_density_of_its_patches():
    encoder = ENCODERS["bag"]()
    for clip_s in (*LENGTHS_S, 20.0):
        bag = of_length(encoder, clip_s).bag
        frames = encoder.frontend.n_frames(round(clip_s * RATE))
        assert bag.size == (32, min(encoder.bag.size[1], frames))
        assert bag.n_columns == pytest.approx(1 + 5 * max(0, frames - 32) / (96 - 32), abs=0.5)


def test_a_distance_in_a_window_keeps_its_bias():
    old, new = (3, 4), (5, 2)
    table = torch.randn((2 * old[0] - 1) * (2 * old[1] - 1), 2)
    bias = table[get_relative_position_index(*old)]  # (12, 12, 2), between cells of a window
    moved = bias_table(table, old, new)[get_relative_position_index(*new)]
    for row in range(3):
        for column in range(2):
            # from the cell in the corner to another one, in windows of four and of two columns
            assert torch.equal(moved[0, 2 * row + column], bias[0, 4 * row + column])
    assert torch.equal(moved[0, 2 * 4], bias[0, 4 * 2])  # four rows away: as three rows of old windows reach, two
    assert torch.equal(bias_table(table, old, old), table)


def test_a_network_for_one_length_alone_is_refused():
    encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("timm/levit_128")))
    with pytest.raises(
        UserError, match=r"--data\.clip_s is 3 and the encoder was trained on clips of 1 s: its network"
    ) as e:
        of_length(encoder, 3.0)
    assert "give --data.clip_s 1, or an encoder that was trained on clips of 3 s" in str(e.value)


def test_nothing_is_drawn_and_the_same_length_is_the_same_encoder():
    encoder = ENCODERS["vit"]().train()
    assert of_length(encoder, 1.0) is encoder
    before = torch.get_rng_state()
    assert of_length(encoder, 2.0).training
    assert torch.equal(torch.get_rng_state(), before)
