"""What training leaves and others publish: checkpoints, folders of encoders and classifiers, released files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import torch
from audiossl.transforms import MelConfig
from torch import nn

from audiossl.backbones import BackboneConfig, build_backbone
from audiossl.classifier import Classifier, load_classifier
from audiossl.encoder import AudioEncoder, EncoderConfig, load_model
from audiossl.errors import UserError
from audiossl.heads import ClassifierHead
from audiossl.released_byola import load_byola
from audiossl.run.checkpoint import Checkpoints, Position, checkpoints_of_run, read_position, read_state, weights_of_run

from .mutations import damaged, damaged_json, damaged_safetensors, damaged_text, damaged_zip
from .target import Target

LABELS = ["no", "yes", "up"]


def damaged_by_name(valid: bytes, random: Random) -> bytes:
    """The damage that goes deepest into this kind of content."""
    if valid[:2] == b"PK":
        return damaged_zip(valid, random)
    if valid[:1] in (b"{", b"["):
        return damaged_json(valid, random)
    if valid[8:9] == b"{":
        return damaged_safetensors(valid, random)
    return (damaged_text if valid.isascii() else damaged)(valid, random)


def small_encoder() -> AudioEncoder:
    """An encoder that is built in milliseconds."""
    torch.manual_seed(0)
    config = EncoderConfig(MelConfig(n_bins=32, n_fft=512, win_length=512), BackboneConfig("resnet10", stages=1), 0.5)
    return AudioEncoder.build(config)


def _run(folder: Path) -> Sequence[Path]:
    (folder / "config.yaml").write_text("run:\n  best: knn\n  keep: 2\n")
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    state = {"models": [model.state_dict()], "optimizers": [optimizer.state_dict()], "config": {"run": {"seed": 0}}}
    kept = Checkpoints(folder / "checkpoints", keep=2, best="knn")
    for epoch in (1, 2):
        kept.save(state, Position(epoch=epoch, step=7, monitors={"knn": 3.0}))
    latest = kept.latest()
    assert latest is not None
    return [latest / "state.pt", latest / "state.pt", latest / "position.json", folder / "config.yaml"]


def open_run(path: Path) -> None:
    """As `--run.resume`, `--run.start_from` and `audiossl cleanup` read a run's checkpoints."""
    folder = next(parent for parent in path.parents if (parent / "checkpoints").is_dir())
    kept = checkpoints_of_run(folder, keep=1)
    read_position(kept.all()[-1])
    read_state(kept.all()[-1])
    kept.best_one()
    kept.superfluous()
    weights_of_run(folder)


def _encoder(folder: Path) -> Sequence[Path]:
    small_encoder().save_pretrained(folder / "encoder", extra={"kNN": "90 %"})
    return [folder / "encoder" / name for name in ("config.json", "config.json", "model.safetensors")]


def _classifier(folder: Path) -> Sequence[Path]:
    encoder = small_encoder()
    Classifier(encoder, ClassifierHead(encoder.dim, len(LABELS)), LABELS).save_pretrained(folder / "words")
    return [folder / "words" / name for name in ("config.json", "config.json", "head.safetensors")]


def _byola(folder: Path) -> Sequence[Path]:
    torch.manual_seed(0)
    config = BackboneConfig("audiontt_2020", pool="mean_max", width=16)
    tensors = build_backbone(config, (64, 96), 1).net.state_dict()
    torch.save(tensors, folder / "AudioNTT2020.pth")
    torch.save(tensors, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    return [folder / "AudioNTT2020.pth", folder / "legacy.pth"]


def _esvit(folder: Path) -> Sequence[Path]:
    """Weights of a network that is far too small: a reader gets as far as the comparison of the keys."""
    weights = {f"module.layers.0.blocks.{n}.norm1.weight": torch.ones(8) for n in range(4)}
    weights["module.layers.0.blocks.0.attn.relative_position_bias_table"] = torch.ones(169, 3)
    torch.save({"student": weights, "teacher": weights, "epoch": 3}, folder / "esvit.pth")
    return [folder / "esvit.pth"]


def open_esvit(path: Path) -> None:
    """As `load_model(arch=...)` opens it; the valid file is refused by its keys."""
    try:
        load_model(path, arch="swin_tiny")
    except UserError as error:
        if "nothing was loaded" not in str(error):
            raise


def _opened(load: Callable[[Path], nn.Module]) -> Callable[[Path], None]:
    def open_(path: Path) -> None:
        model = load(path)
        with torch.inference_mode():
            model(torch.zeros(1, 8000))

    return open_


MODELS = [
    Target("checkpoint", _run, open_run, damaged_by_name, 1500),
    Target("encoder", _encoder, _opened(lambda path: load_model(path.parent)), damaged_by_name, 1000),
    Target("classifier", _classifier, _opened(lambda path: load_classifier(path.parent)), damaged_by_name, 500),
    Target("released BYOL-A", _byola, _opened(lambda path: load_byola(path, "audiontt_2020")), damaged_by_name, 600),
    Target("released EsViT", _esvit, open_esvit, damaged_zip, 200),
    Target("weights", _encoder, lambda path: weights_of_run(path.parent), damaged_by_name, 300),
]
