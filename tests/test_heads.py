"""The DINO head: unit bottleneck, unit prototypes, precision."""

import torch
import torch.nn.functional as F

from audiossl.heads import DinoHead


def test_outputs_are_cosines_with_the_prototypes_and_rows_are_independent():
    torch.manual_seed(0)
    head = DinoHead(16, n_prototypes=10, hidden_dim=32, bottleneck_dim=8)
    x = torch.randn(3, 5, 16)
    out = head(x)
    z = F.normalize(head.mlp(x.flatten(0, 1)), dim=-1)
    directions = F.normalize(head.last_layer.parametrizations.weight.original1, dim=1)
    torch.testing.assert_close(out.flatten(0, 1), z @ directions.T, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head(x[1]), out[1], atol=1e-6, rtol=1e-5)


def test_lengths_are_frozen_only_with_norm_last_layer():
    for frozen in (True, False):
        head = DinoHead(4, n_prototypes=3, hidden_dim=8, norm_last_layer=frozen)
        assert head.last_layer.parametrizations.weight.original0.requires_grad is not frozen


def test_prototype_products_are_float32_under_autocast():
    torch.manual_seed(1)
    head = DinoHead(16, n_prototypes=64, hidden_dim=32)
    x = torch.randn(4, 16)
    with torch.autocast("cpu", torch.bfloat16):
        out = head(x)
        z = F.normalize(head.mlp(x).float(), dim=-1)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, z @ head.last_layer.weight.T, atol=1e-6, rtol=1e-5)


def test_parameter_count_is_the_published_one():
    # EsViT's Swin-T: 768 in, K 65,536, 23.14 M parameters a head.
    assert round(sum(p.numel() for p in DinoHead(768).parameters()) / 1e6, 2) == 23.14
