from __future__ import annotations

import csv
import io
import json
import pickle

import numpy as np
import pytest
import torch
from audiossl.transforms import MelConfig

from audiossl.backbones import BackboneConfig
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.errors import UserError
from audiossl.explain.attention import BlockAttention, attention_of_blocks, entropy_bits
from audiossl.explain.attention_config import AttentionConfig
from audiossl.explain.attention_entropy import entropy_of_heads, measure_entropy
from audiossl.explain.cells import Cells


def build(name="swin_micro", gain=1.0):
    torch.manual_seed(0)
    encoder = AudioEncoder.build(EncoderConfig(MelConfig(n_bins=40, hop_length=334), BackboneConfig(name), 0.5)).eval()
    with torch.no_grad():
        for module in encoder.modules():
            if hasattr(module, "qkv"):
                module.qkv.weight.mul_(gain)
    return encoder


@pytest.mark.parametrize("name", ["swin_micro", "vit_tiny"])
def test_it_is_the_mean_over_the_maps_of_all_queries(name):
    """40 rows: padded windows, and blocks with and without shift."""
    for block in attention_of_blocks(build(name, 8.0), torch.randn(8000) * 0.1):
        cells = range(block.cells.grid[0] * block.cells.grid[1])
        heads, most = entropy_of_heads(block)
        maps = [block.map(cell).weights for cell in cells]
        assert heads == pytest.approx(np.mean([entropy_bits(weights) for weights in maps], axis=0), abs=1e-4)
        assert most == pytest.approx(np.mean([np.log2(np.isfinite(weights[0]).sum()) for weights in maps]))
        assert max(heads) <= most + 1e-5


def test_known_attention_has_known_bits():
    """A window of three cells and padding: one head looks everywhere, one at a single cell, padding not counted."""
    weights = np.zeros((1, 2, 4, 4), np.float32)
    weights[0, 0] = 0.25
    weights[0, 1, :, 1] = 1.0
    cells = Cells((1, 3), (4, 4), np.arange(4.0), np.arange(12) * 0.01)
    block = BlockAttention("blocks.0", weights, np.array([[0, 1, 2, -2]]), np.ones((1, 4, 4), bool), cells)
    heads, most = entropy_of_heads(block)
    assert heads == pytest.approx((np.log2(3), 0.0))
    assert most == pytest.approx(np.log2(3))


def test_a_data_set_gives_the_mean_over_its_clips_beside_random_weights(clips):
    few, encoder = clips.subset(range(3)), build(gain=8.0)
    found = measure_entropy(encoder, few, AttentionConfig("x", random_seeds=[1]))
    assert list(found.rows) == ["encoder", "random weights, seed 1"]
    per_clip = [[entropy_of_heads(b)[0] for b in attention_of_blocks(encoder, wave)] for wave in few.waves[:]]
    for number, block in enumerate(found.rows["encoder"]):
        assert block.heads == pytest.approx(np.mean([clip[number] for clip in per_clip], axis=0), rel=1e-5)
    random = found.rows["random weights, seed 1"]
    assert [block.name for block in random] == [block.name for block in found.rows["encoder"]]
    assert np.mean(random[-1].heads) > 0.99 * random[-1].most  # random weights look everywhere alike
    assert np.mean(found.rows["encoder"][-1].heads) < 0.95 * random[-1].most


def test_every_file_says_the_same(clips):
    found = measure_entropy(build(), clips.subset([0]), AttentionConfig("x"))
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))["rows"]["encoder"]
    assert pickle.loads(found.to_pickle()) == [block["heads"] for block in again]
    lines = [line for line in csv.DictReader(io.StringIO(found.to_csv())) if line["network"] == "encoder"]
    assert [float(line["entropy_bits"]) for line in lines] == [bits for block in again for bits in block["heads"]]
    assert {line["block"] for line in lines} == {block["name"] for block in again}
    assert f"{np.mean(again[0]['heads']):.2f}" in found.markdown().splitlines()[2]


def test_a_network_without_attention_is_named(clips):
    with pytest.raises(UserError, match="backbone resnet10 has no attention"):
        measure_entropy(build("resnet10"), clips.subset([0]), AttentionConfig("x"))
