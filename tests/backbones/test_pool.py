"""Pooling: each kind written out plainly, and any size of picture."""

from __future__ import annotations

import pytest
import torch

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.backbones.pool import pool_patches, pooled_dim, segment_means
from audiossl.errors import UserError

GRID = (2, 6)
PATCHES = torch.randn(3, 12, 5, generator=torch.Generator().manual_seed(0))


def plain(pool: str, clip: torch.Tensor) -> list[float]:
    cells = [[clip[row * 6 + column] for column in range(6)] for row in range(2)]
    if pool == "mean":
        parts = [sum(clip) / 12]
    elif pool == "mean_max":
        parts = [sum(clip) / 12 + clip.max(0).values]
    elif pool == "freq_mean":
        parts = [sum(row) / 6 + torch.stack(row).max(0).values for row in cells]
    else:
        columns = [(cells[0][t] + cells[1][t]) / 2 for t in range(6)]
        parts = [(columns[t] + columns[t + 1]) / 2 for t in (0, 2, 4)]
    return torch.cat(parts).tolist()


@pytest.mark.parametrize("pool", ["mean", "mean_max", "freq_mean", "time_mean"])
def test_formulas(pool):
    pooled = pool_patches(PATCHES, GRID, pool, n_rows=2)
    assert pooled.shape == (3, pooled_dim(pool, 5, 2))
    for clip, features in zip(PATCHES, pooled, strict=True):
        assert features.tolist() == pytest.approx(plain(pool, clip), abs=1e-6)


@pytest.mark.parametrize(("length", "n"), [(1, 3), (2, 3), (5, 3), (7, 2), (6, 3)])
def test_segments_equal_adaptive_average(length, n):
    x = torch.randn(2, length, 4)
    expected = torch.nn.functional.adaptive_avg_pool1d(x.transpose(1, 2), n).transpose(1, 2)
    assert torch.allclose(segment_means(x, n), expected, atol=1e-6)


@pytest.mark.parametrize("pool", ["mean", "mean_max", "freq_mean", "time_mean"])
def test_feature_dim_holds_for_crops_and_long_clips(pool):
    backbone = build_backbone(BackboneConfig("resnet10", pool=pool), (64, 96)).eval()
    for size in ((64, 96), (32, 48), (64, 300), (32, 32)):
        assert backbone(torch.randn(1, 1, *size)).features.shape == (1, backbone.feature_dim)


def test_unknown_pool():
    with pytest.raises(UserError, match="pool='max'"):
        build_backbone(BackboneConfig("resnet10", pool="max"), (64, 96))
