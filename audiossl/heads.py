"""Heads: what stands between a backbone's features and a loss, and is thrown away after training."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


class DinoHead(nn.Module):
    """Projection to unit vectors and their products with K prototypes (Caron et al., DINO, 2021; same head in EsViT).

    Linear - [batch norm] - GELU, twice at `hidden_dim`, Linear to `bottleneck_dim`, L2 normalisation, and a
    weight-normed Linear without bias whose rows are the prototypes.

    Shape: (..., in_dim) to (..., K); rows may be anything, all leading dimensions are one batch to the batch norm.

    Args:
        in_dim: length of a feature vector.
        n_prototypes: K, the number of prototypes.
        hidden_dim, bottleneck_dim: DINO's 2,048 and 256.
        batch_norm: as EsViT's `use_bn_in_head`; on small data it starts learning much earlier.
        norm_last_layer: prototypes keep length one (DINO's default); otherwise their lengths are learned.

    >>> DinoHead(512, n_prototypes=64)(torch.zeros(2, 6, 512)).shape
    torch.Size([2, 6, 64])
    """

    def __init__(
        self,
        in_dim: int,
        n_prototypes: int = 65536,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        batch_norm: bool = False,
        norm_last_layer: bool = True,
    ):
        super().__init__()
        widths = [in_dim, hidden_dim, hidden_dim]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers.append(nn.Linear(width_in, width_out))
            if batch_norm:
                layers.append(nn.BatchNorm1d(width_out))
            layers.append(nn.GELU())
        layers.append(nn.Linear(hidden_dim, bottleneck_dim))
        self.mlp = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = weight_norm(nn.Linear(bottleneck_dim, n_prototypes, bias=False))
        lengths = self.last_layer.parametrizations.weight.original0
        nn.init.ones_(lengths)
        lengths.requires_grad_(not norm_last_layer)

    @property
    def prototypes(self) -> Tensor:
        """The last layer's weight as it acts, float32 (K, bottleneck_dim); gradients flow to its parts."""
        with torch.autocast(self.last_layer.parametrizations.weight.original1.device.type, enabled=False):
            return self.last_layer.weight

    def embed(self, x: Tensor) -> Tensor:
        """Unit vectors of x (..., in_dim), float32 (..., bottleneck_dim): what is compared with the prototypes."""
        z = self.mlp(x.flatten(0, -2))
        # The bottleneck is narrow and the loss divides by temperatures down to 0.02: no bf16 from here on.
        return functional.normalize(z.float(), dim=-1).unflatten(0, x.shape[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Products (cosines, for prototypes of length one) of x (..., in_dim) with the prototypes, float32 (..., K)."""
        z = self.embed(x)
        with torch.autocast(z.device.type, enabled=False):
            return functional.linear(z, self.prototypes)


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "none": nn.Identity}


class FeatureHead(nn.Sequential):
    """EMP-SSL's feature layer (Tong et al., 2023): Linear - [batch norm] - activation.

    With torch's own initial weights: weights of deviation 0.001, which a public implementation has in their place,
    collapse on audio within three steps.

    Shape: (B, in_dim) to (B, dim).

    >>> FeatureHead(512, 64)(torch.zeros(2, 512)).shape
    torch.Size([2, 64])
    """

    def __init__(self, in_dim: int, dim: int, activation: str = "relu", batch_norm: bool = True):
        norm = [nn.BatchNorm1d(dim)] if batch_norm else []
        super().__init__(nn.Linear(in_dim, dim), *norm, ACTIVATIONS[activation]())


class Projector(nn.Sequential):
    """EMP-SSL's projector: a `FeatureHead` of `hidden_dim` and a Linear to `dim`.

    Shape: (B, in_dim) to (B, dim).

    >>> Projector(64, 64, 16)(torch.zeros(2, 64)).shape
    torch.Size([2, 16])
    """

    def __init__(self, in_dim: int, hidden_dim: int, dim: int, activation: str = "relu", batch_norm: bool = True):
        super().__init__(*FeatureHead(in_dim, hidden_dim, activation, batch_norm), nn.Linear(hidden_dim, dim))


class ByolHead(nn.Sequential):
    """BYOL's projector, and its predictor (Grill et al., 2020): Linear - batch norm - ReLU - Linear.

    Shape: (B, in_dim) to (B, dim).

    Args:
        in_dim: length of a feature vector.
        hidden_dim, dim: BYOL's 4,096 and 256. SimSiam's predictor is one of 512 and 2,048, its bottleneck.
        bias: of the layer before the batch norm, which takes it away again; SimSiam leaves it out.

    >>> ByolHead(512, 64, 16)(torch.zeros(2, 512)).shape
    torch.Size([2, 16])
    """

    def __init__(self, in_dim: int, hidden_dim: int = 4096, dim: int = 256, bias: bool = True):
        super().__init__(
            nn.Linear(in_dim, hidden_dim, bias=bias),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, dim),
        )


class DeepProjector(nn.Sequential):
    """A projector of three layers, each without bias and with batch norm, and ReLU between them.

    SimSiam's (Chen and He, 2021; 2,048 everywhere, the last batch norm without gain and bias).

    Shape: (B, in_dim) to (B, dim).

    >>> DeepProjector(512, 64, 16)(torch.randn(4, 512)).shape
    torch.Size([4, 16])
    """

    def __init__(self, in_dim: int, hidden_dim: int = 2048, dim: int = 2048):
        widths, layers = [in_dim, hidden_dim, hidden_dim, dim], []
        for last, (width_in, width_out) in zip((False, False, True), pairwise(widths), strict=True):
            layers += [nn.Linear(width_in, width_out, bias=False), nn.BatchNorm1d(width_out, affine=not last)]
            layers += [] if last else [nn.ReLU(inplace=True)]
        super().__init__(*layers)


class ClassifierHead(nn.Module):
    """Scores of classes: features through dropout and a linear layer.

    Shape: (B, in_dim) to (B, n_classes).

    Args:
        in_dim: length of a feature vector.
        n_classes: number of classes.
        dropout: share of the features that is left out in training.

    >>> ClassifierHead(512, 10)(torch.zeros(4, 512)).shape
    torch.Size([4, 10])
    """

    def __init__(self, in_dim: int, n_classes: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(in_dim, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Scores (B, n_classes) of features (B, in_dim)."""
        return self.linear(self.dropout(features))
