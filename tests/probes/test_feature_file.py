from __future__ import annotations

import numpy as np
import pytest
import torch

from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.probes.feature_file import clips_hash, encoder_hash, read_features, write_features
from audiossl.probes.last_blocks import LastBlocks


def make_encoder(**changes):
    torch.manual_seed(0)
    return AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10"), **changes))


def test_what_was_written_is_read(tmp_path):
    x = {"encoder": np.arange(6, dtype=np.float32).reshape(3, 2), "random weights, seed 0": np.ones((3, 2), np.float32)}
    write_features(tmp_path / "f.npz", x, "a", "b")
    found = read_features(tmp_path / "f.npz", "a", "b")
    assert list(found) == list(x)
    assert all(np.array_equal(found[name], x[name]) for name in x)
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_no_file_is_no_features(tmp_path):
    assert read_features(tmp_path / "f.npz", "a", "b") == {}


def test_features_of_something_else_are_refused(tmp_path):
    write_features(tmp_path / "f.npz", {}, "a", "b")
    with pytest.raises(UserError, match=r"f\.npz holds features of another encoder"):
        read_features(tmp_path / "f.npz", "other", "b")
    with pytest.raises(UserError, match=r"f\.npz holds features of other clips"):
        read_features(tmp_path / "f.npz", "a", "other")


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "f.npz"
    if content is None:
        np.savez(path, embeddings=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="is not a file of features"):
        read_features(path, "a", "b")


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "f.npz"
    write_features(path, {"encoder": np.ones((500, 40), np.float32)}, "a", "b")
    path.write_bytes(path.read_bytes()[:40000])
    with pytest.raises(UserError, match="is not a file of features"):
        read_features(path, "a", "b")


def test_the_encoders_hash_is_of_weights_settings_and_blocks():
    encoder = make_encoder()
    hashes = [
        encoder_hash(encoder),
        encoder_hash(make_encoder(clip_s=2.0)),
        encoder_hash(LastBlocks(encoder, 1)),
        encoder_hash(LastBlocks(encoder, 4)),
        encoder_hash(encoder.randomised(1)),
    ]
    assert len(set(hashes)) == len(hashes)
    assert hashes[0] == encoder_hash(make_encoder())
    with torch.no_grad():
        encoder.backbone.net.layer4[0].bn2.running_var[7] += 1e-3
    assert encoder_hash(encoder) != hashes[0]


def test_the_clips_hash_is_of_waves_and_order(make_clips):
    clips = make_clips(n=8)
    first = clips_hash(clips)
    assert first == clips_hash(make_clips(n=8))
    assert first == clips_hash(make_clips(n=8, label_ids=np.zeros(8, int)))  # labels are read anew
    assert first != clips_hash(make_clips(n=8, ids=clips.ids[::-1]))
    waves = clips.waves.copy()
    waves[5, 100] += 1
    assert first != clips_hash(make_clips(n=8, waves=waves))
