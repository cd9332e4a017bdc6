"""The networks of EsViT's released files, restated plainly from their papers and the files' names.

Swin (Liu et al., 2021), ViT (Dosovitskiy et al., 2021) and ResNet-50 (He et al., 2016) as loops over windows and plain
matrix products on square pictures, for comparison. Also random weights under the same names and shapes.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor
from torch.nn import functional as F

SWINS = {  # embedding, depths, heads
    "swin_tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "swin_small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "swin_base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}
VITS = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}  # embedding, heads; 12 blocks
Weights = dict[str, Tensor]


def layer_norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", torch.zeros(()))


def mlp(x: Tensor, weights: Weights, name: str) -> Tensor:
    return linear(F.gelu(linear(x, weights, f"{name}.fc1")), weights, f"{name}.fc2")


def attention(x: Tensor, weights: Weights, name: str, n_heads: int, added: Tensor | float = 0.0) -> Tensor:
    """Tokens (..., N, D) to the same; `added` (heads, N, N) or (..., heads, N, N) comes to the scores."""
    q, k, v = (
        part.unflatten(-1, (n_heads, -1)).transpose(-2, -3) for part in linear(x, weights, f"{name}.qkv").chunk(3, -1)
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + added
    return linear((scores.softmax(-1) @ v).transpose(-2, -3).flatten(-2), weights, f"{name}.proj")


def position_bias(table: Tensor, window: int) -> Tensor:
    """(heads, N, N): the entry of the table for the row and column distance of each pair of a window's tokens."""
    places = [(row, column) for row in range(window) for column in range(window)]
    index = [[(a[0] - b[0] + window - 1) * (2 * window - 1) + a[1] - b[1] + window - 1 for b in places] for a in places]
    return table[torch.tensor(index)].permute(2, 0, 1)


def windows_attention(x: Tensor, weights: Weights, name: str, window: int, shift: int, n_heads: int) -> Tensor:
    """Attention within windows: pad (B, H, W, D) with zeros, then roll, attend window by window, roll back, crop."""
    side = x.shape[1]
    full = -(-side // window) * window
    x = F.pad(x, (0, 0, 0, full - side, 0, full - side)).roll((-shift, -shift), (1, 2))
    # After rolling, the last `shift` rows and columns of the padded grid come from its other end.
    wrapped = torch.arange(full) >= full - shift
    bias = position_bias(weights[f"{name}.relative_position_bias_table"], window)
    out = torch.empty_like(x)
    for top in range(0, full, window):
        for left in range(0, full, window):
            rows, columns = slice(top, top + window), slice(left, left + window)
            origin = (wrapped[rows, None] * 2 + wrapped[None, columns]).flatten()
            apart = torch.where(origin[:, None] != origin[None, :], -100.0, 0.0)
            tokens = x[:, rows, columns].flatten(1, 2)
            seen = attention(tokens, weights, name, n_heads, bias + apart)
            out[:, rows, columns] = seen.unflatten(1, (window, window))
    return out.roll((shift, shift), (1, 2))[:, :side, :side]


def swin(weights: Weights, image: Tensor, arch: str, window: int) -> tuple[Tensor, Tensor]:
    """Pooled vector (B, D) and regions (B, P, D) of square pictures (B, C, S, S); laid out for 224 points."""
    _, depths, heads = SWINS[arch]
    x = F.conv2d(image, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=4)
    x = layer_norm(x.permute(0, 2, 3, 1), weights, "patch_embed.norm")
    for stage, (depth, n_heads) in enumerate(zip(depths, heads, strict=True)):
        resolution = 56 // 2**stage
        shrunk = min(window, resolution)
        for i in range(depth):
            block = f"layers.{stage}.blocks.{i}"
            shift = window // 2 if i % 2 and resolution > window else 0
            normed = layer_norm(x, weights, f"{block}.norm1")
            x = x + windows_attention(normed, weights, f"{block}.attn", shrunk, shift, n_heads)
            x = x + mlp(layer_norm(x, weights, f"{block}.norm2"), weights, f"{block}.mlp")
        if stage < 3:
            odd, name = x.shape[1] % 2, f"layers.{stage}.downsample"
            x = F.pad(x, (0, 0, 0, odd, 0, odd))
            x = torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], -1)
            x = linear(layer_norm(x, weights, f"{name}.norm"), weights, f"{name}.reduction")
    regions = layer_norm(x, weights, "norm").flatten(1, 2)
    return regions.mean(1), regions


def vit(weights: Weights, image: Tensor, n_heads: int) -> tuple[Tensor, Tensor]:
    """Class token (B, D) and regions (B, P, D) of square pictures; positions resampled bicubically."""
    x = F.conv2d(image, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=16)
    grid = x.shape[2:]
    tokens = torch.cat([weights["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
    positions = weights["pos_embed"][:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    positions = F.interpolate(positions, size=grid, mode="bicubic").flatten(2).transpose(1, 2)
    x = tokens + torch.cat([weights["pos_embed"][:, :1], positions], 1)
    for i in range(12):
        x = x + attention(layer_norm(x, weights, f"blocks.{i}.norm1"), weights, f"blocks.{i}.attn", n_heads)
        x = x + mlp(layer_norm(x, weights, f"blocks.{i}.norm2"), weights, f"blocks.{i}.mlp")
    x = layer_norm(x, weights, "norm")
    return x[:, 0], x[:, 1:]


def resnet50(weights: Weights, image: Tensor) -> tuple[Tensor, Tensor]:
    """Pooled vector (B, 2048) and regions (B, P, 2048)."""

    def conv_norm(x: Tensor, conv: str, norm: str, **how: int) -> Tensor:
        x = F.conv2d(x, weights[f"{conv}.weight"], **how)
        mean, variance = weights[f"{norm}.running_mean"], weights[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, weights[f"{norm}.weight"], weights[f"{norm}.bias"])

    x = F.max_pool2d(conv_norm(image, "conv1", "bn1", stride=2, padding=3).relu(), 3, stride=2, padding=1)
    for stage, depth in enumerate((3, 4, 6, 3), start=1):
        for i in range(depth):
            block, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            y = conv_norm(x, f"{block}.conv1", f"{block}.bn1").relu()
            y = conv_norm(y, f"{block}.conv2", f"{block}.bn2", stride=stride, padding=1).relu()
            y = conv_norm(y, f"{block}.conv3", f"{block}.bn3")
            if i == 0:
                x = conv_norm(x, f"{block}.downsample.0", f"{block}.downsample.1", stride=stride)
            x = (x + y).relu()
    regions = x.flatten(2).transpose(1, 2)
    return regions.mean(1), regions


class Draw:
    """Random weights by name, of a size that keeps activations moderate while every bias and table counts."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)
        self.weights: Weights = {}

    def normal(self, name: str, *shape: int, std: float = 0.1, mean: float = 0.0) -> None:
        self.weights[name] = mean + std * torch.randn(shape, generator=self.generator)

    def linear(self, name: str, n_in: int, n_out: int, bias: bool = True) -> None:
        self.normal(f"{name}.weight", n_out, n_in, std=n_in**-0.5)
        if bias:
            self.normal(f"{name}.bias", n_out)

    def norm(self, name: str, n: int) -> None:
        self.normal(f"{name}.weight", n, mean=1.0)
        self.normal(f"{name}.bias", n)

    def block(self, name: str, n: int) -> None:
        """What Swin's and ViT's blocks share."""
        self.norm(f"{name}.norm1", n)
        self.linear(f"{name}.attn.qkv", n, 3 * n)
        self.linear(f"{name}.attn.proj", n, n)
        self.norm(f"{name}.norm2", n)
        self.linear(f"{name}.mlp.fc1", n, 4 * n)
        self.linear(f"{name}.mlp.fc2", 4 * n, n)


def swin_weights(arch: str, window: int, seed: int = 0) -> Weights:
    """Weights and tables of a released Swin, with the buffers that older files hold."""
    embedding, depths, heads = SWINS[arch]
    draw = Draw(seed)
    draw.normal("patch_embed.proj.weight", embedding, 3, 4, 4, std=0.15)
    draw.normal("patch_embed.proj.bias", embedding)
    draw.norm("patch_embed.norm", embedding)
    for stage, (depth, n_heads) in enumerate(zip(depths, heads, strict=True)):
        n, side = embedding * 2**stage, min(window, 56 // 2**stage)
        for i in range(depth):
            name = f"layers.{stage}.blocks.{i}"
            draw.block(name, n)
            draw.normal(f"{name}.attn.relative_position_bias_table", (2 * side - 1) ** 2, n_heads, std=0.5)
            draw.weights[f"{name}.attn.relative_position_index"] = torch.zeros(side**2, side**2, dtype=torch.long)
        if stage < 3:
            draw.norm(f"layers.{stage}.downsample.norm", 4 * n)
            draw.linear(f"layers.{stage}.downsample.reduction", 4 * n, 2 * n, bias=False)
    draw.weights["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    draw.norm("norm", 8 * embedding)
    return draw.weights


def vit_weights(size: str, seed: int = 0) -> Weights:
    """Weights of a released ViT with patches of 16."""
    n, _ = VITS[size]
    draw = Draw(seed)
    draw.normal("cls_token", 1, 1, n)
    draw.normal("pos_embed", 1, 1 + 14 * 14, n, std=0.5)
    draw.normal("patch_embed.proj.weight", n, 3, 16, 16, std=0.04)
    draw.normal("patch_embed.proj.bias", n)
    for i in range(12):
        draw.block(f"blocks.{i}", n)
    draw.norm("norm", n)
    return draw.weights


def resnet50_weights(seed: int = 0) -> Weights:
    """Weights and running statistics of a released ResNet-50."""
    draw = Draw(seed)

    def conv_norm(conv: str, norm: str, n_in: int, n_out: int, side: int) -> None:
        draw.normal(f"{conv}.weight", n_out, n_in, side, side, std=(n_in * side**2) ** -0.5)
        draw.norm(norm, n_out)
        draw.normal(f"{norm}.running_mean", n_out)
        draw.weights[f"{norm}.running_var"] = 0.5 + torch.rand(n_out, generator=draw.generator)
        draw.weights[f"{norm}.num_batches_tracked"] = torch.tensor(1000)

    conv_norm("conv1", "bn1", 3, 64, 7)
    n_in = 64
    for stage, depth in enumerate((3, 4, 6, 3), start=1):
        n = 32 * 2**stage
        for i in range(depth):
            block = f"layer{stage}.{i}"
            conv_norm(f"{block}.conv1", f"{block}.bn1", n_in, n, 1)
            conv_norm(f"{block}.conv2", f"{block}.bn2", n, n, 3)
            conv_norm(f"{block}.conv3", f"{block}.bn3", n, 4 * n, 1)
            if i == 0:
                conv_norm(f"{block}.downsample.0", f"{block}.downsample.1", n_in, 4 * n, 1)
            n_in = 4 * n
    return draw.weights


def checkpoint(teacher: Weights, prefix: str = "", student_prefix: str = "module.") -> dict[str, object]:
    """What the reference's training program writes: both networks with their heads, and the rest of a run."""

    def network(weights: Weights, before: str, wrapper: str) -> Weights:
        heads = {
            f"{wrapper}{head}.{name}": torch.randn(shape)
            for head in ("head", "head_dense")
            for name, shape in (
                ("mlp.0.weight", (4, 4)),
                ("last_layer.weight_g", (8, 1)),
                ("last_layer.weight_v", (8, 4)),
            )
        }
        return {**{before + name: tensor for name, tensor in weights.items()}, **heads}

    student = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in teacher.items()}
    args = argparse.Namespace(
        arch="swin_tiny", cfg="x.yaml", lr=5e-4, local_crops_size=(96,), use_dense_prediction=True, opts=["A", "B"]
    )
    return {
        "student": network(student, student_prefix, "module."),
        "teacher": network(teacher, prefix, prefix.removesuffix("backbone.backbone.")),
        "optimizer": {
            "state": {0: {"step": 3, "exp_avg": torch.zeros(3)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "epoch": 300,
        "args": args,
        "dino_loss": {"center": torch.zeros(1, 8), "center_grid": torch.zeros(1, 8)},
        "fp16_scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 7},
    }
