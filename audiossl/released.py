"""Files that EsViT's authors released, opened as encoders of sound.

A file holds {student, teacher, optimizer, epoch, args, dino_loss}, written by torch.save; `args` is an
argparse.Namespace. Only tensors, plain values and that one class are unpickled, so that opening a file runs no code
of it. Weights go into timm's networks under the names that timm gives them; a file fits whole or is refused.

Li et al., Efficient Self-supervised Vision Transformers for Representation Learning, ICLR 2022
(github.com/microsoft/esvit). Swin T, S and B with any window, DeiT and ViT with patches of 16, ResNet-50. ViL and CvT
are not among them: timm has no such networks.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from audiossl.backbones import Backbone, BackboneConfig, build_backbone
from audiossl.backbones.audiontt import AUDIONTTS
from audiossl.encoder import AudioEncoder, EncoderConfig, Folder
from audiossl.errors import UserError
from audiossl.reading_tensors import ForbiddenNameError, are_plain, read_torch
from audiossl.transforms import FrontEndConfig, MelConfig, Normalize

Shape = tuple[int, ...]


class Arch(NamedTuple):
    """Backbone of the project that has the weights of a released file, and what the file's pooled vector is."""

    backbone: str
    pool: str


# Names as the reference's --arch has them (deit_tiny, deit_small, vit_base), and each ViT under both of its names.
ARCHS = {
    **{name: Arch(name, "mean") for name in ("swin_tiny", "swin_small", "swin_base", "resnet50")},
    **{f"{kind}_{s}": Arch(f"vit_{s}", "class_token") for kind in ("deit", "vit") for s in ("tiny", "small", "base")},
}
# Mean and deviation of the default front end's pictures of the 3,911 training clips of Speech Commands, nine words.
SPEECH_MEAN, SPEECH_STD = -9.2155, 4.1518
# Not of the backbone: heads, and tables that follow from the windows.
LEFT_OUT = re.compile(r"(head|head_dense)\..*|.*\.(relative_position_index|attn_mask)")
FIRST_TABLE = "layers.0.blocks.0.attn.relative_position_bias_table"
STEMS = ("patch_embed.proj.weight", "conv1.weight")
N_SHOWN = 12


class KeysError(UserError):
    """A released file does not fit its network; the message shows the first keys of each kind.

    missing, unexpected: keys in full. wrong_shape: key to (shape in the file, shape that is needed).
    """

    def __init__(
        self, message: str, missing: list[str], unexpected: list[str], wrong_shape: dict[str, tuple[Shape, Shape]]
    ):
        super().__init__(message)
        self.missing, self.unexpected, self.wrong_shape = missing, unexpected, wrong_shape


def check_keys(own: Mapping[str, Shape], found: Mapping[str, Shape], path: Folder, arch: str) -> None:
    """Raise `KeysError` unless a file's tensors have the names and shapes of the network's own."""
    missing, unexpected = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    wrong_shape = {key: (found[key], own[key]) for key in sorted(own.keys() & found.keys()) if found[key] != own[key]}
    if not (missing or unexpected or wrong_shape):
        return
    shapes = [f"{key} {there} in place of {needed}" for key, (there, needed) in wrong_shape.items()]
    parts = (
        _listed("missing", missing, len(own)),
        _listed("unexpected", unexpected, len(found)),
        _listed("of another shape", shapes, len(own)),
    )
    message = (
        f"{path} does not hold the weights of {arch}, and nothing was loaded: {'; '.join(filter(None, parts))}; "
        "give the arch that it was trained with."
    )
    raise KeysError(message, missing, unexpected, wrong_shape)


def _listed(what: str, names: list[str], n_all: int) -> str:
    if not names:
        return ""
    more = f" and {len(names) - N_SHOWN} more" if len(names) > N_SHOWN else ""
    return f"{what} {len(names)} of {n_all}: {', '.join(names[:N_SHOWN])}{more}"


def load_released(
    path: Folder,
    arch: str,
    checkpoint_key: str = "teacher",
    frontend: FrontEndConfig | None = None,
    normalize: Normalize | None = None,
    clip_s: float = 1.0,
) -> AudioEncoder:
    """Open a released file as an encoder in eval mode, under a front end of your choice.

    The network saw pictures of mean 0 and deviation 1 a colour, so it is given pictures normalised by the statistics
    of the clips, and ImageNet's are not needed. The stem takes one channel and adds up its colours, which is exactly
    the grey picture in all three; pictures may have any size.

    Args:
        path: the file, as written by the reference's training program, or weights alone.
        arch: swin_tiny, swin_small, swin_base (the window is read from the file), deit_tiny, deit_small, deit_base
            or vit_* of the same sizes, resnet50.
        checkpoint_key: "teacher", which the paper evaluates, or "student".
        frontend: settings of the front end; the default is 64 mel bands.
        normalize: statistics of its pictures, by `Normalize.measure` over your clips. The default front end's may be
            left out: they were measured on Speech Commands.
        clip_s: length in seconds of the clips to be used.

    Raises UserError for an unknown arch, a file that cannot be opened or is not of this format, weights that do not
    fit (`KeysError`, with the list of keys), and a front end without statistics.
    """
    config = frontend or MelConfig()
    if normalize is None:
        if config.fingerprint() != MelConfig().fingerprint():
            raise UserError(
                f"frontend {config.type} with these settings has no statistics: give normalize=Normalize.measure("
                "build_frontend(frontend), waves) over some of your clips."
            )
        normalize = Normalize(SPEECH_MEAN, SPEECH_STD, config.fingerprint())
    tensors, backbone_config = _read(path, arch, checkpoint_key)
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced: leave the caller's draws alone
        encoder = AudioEncoder.build(EncoderConfig(config, backbone_config, clip_s), normalize)
    _fill(encoder.network, tensors, path, arch)
    return encoder.eval()


def load_released_backbone(
    path: Folder, arch: str, image_size: tuple[int, int], in_channels: int = 1, checkpoint_key: str = "teacher"
) -> Backbone:
    """Open a released file as a backbone in eval mode: pictures (B, C, F, T) of any size to features and regions.

    With 1 channel the stem's colours are added up; with 3 they stay as they are; of any other number C each gets a
    C-th of the sum, so that equal channels give what one gives. `image_size` (F, T) is the usual size of a picture.

    Raises UserError as `load_released` does.
    """
    tensors, config = _read(path, arch, checkpoint_key)
    with torch.random.fork_rng(devices=[]):
        backbone = build_backbone(config, image_size, in_channels)
    _fill(backbone, tensors, path, arch)
    return backbone.eval()


def _read(path: Folder, arch: str, checkpoint_key: str) -> tuple[dict[str, Tensor], BackboneConfig]:
    """Weights of the backbone under timm's names, and the settings of the backbone that they are for."""
    if arch not in ARCHS:
        raise UserError(
            f"arch={arch!r} is not one of EsViT's that can be opened: choose one of {', '.join(ARCHS)}; "
            f"audiossl.load_model opens BYOL-A's files too, as {' or '.join(AUDIONTTS)}."
        )
    tensors = backbone_weights(read_weights(path, checkpoint_key), path)
    name, pool = ARCHS[arch]
    return tensors, BackboneConfig(name, pool=pool, window=_window(tensors, name), published=name != "resnet50")


def _fill(backbone: Backbone, tensors: dict[str, Tensor], path: Folder, arch: str) -> None:
    """Load all weights, or raise and load none."""
    own = backbone.net.state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in own.items()}
    stems = [key for key in STEMS if key in own and key in tensors and tensors[key].ndim == 4]
    for key in stems:  # of any number of colours
        shapes[key] = (shapes[key][0], tensors[key].shape[1], *shapes[key][2:])
    check_keys(shapes, {key: tuple(tensor.shape) for key, tensor in tensors.items()}, path, arch)
    check_finite(tensors, path)
    backbone.net.load_state_dict(tensors | {key: _fold(tensors[key], own[key].shape[1]) for key in stems})


def check_finite(tensors: Mapping[str, Tensor], path: Folder) -> None:
    """Raise UserError when a file's tensors hold NaN or Inf."""
    bad = [key for key, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise UserError(f"{path} holds values that are not finite, first in {bad[0]}: its training had diverged.")


def read_weights(path: Folder, checkpoint_key: str = "teacher") -> dict[str, Tensor]:
    """Weights by name of one network of a released file, heads and prefixes included; nothing of it is executed.

    A file of weights alone is taken as it is. Raises UserError as `load_released` does.
    """
    content = _unpickle(Path(path))
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}: expected the dictionary of a released checkpoint.")
    networks = [key for key in ("teacher", "student") if key in content]
    other = content.get("state_dict")
    if checkpoint_key in content:
        weights = content[checkpoint_key]
    elif networks:
        raise UserError(f"{path} has no network {checkpoint_key!r}: set checkpoint_key to {' or '.join(networks)}.")
    elif isinstance(other, dict) and any(str(key).endswith("linear.weight") for key in other):
        raise UserError(
            f"{path} is the file of a linear probe (its state_dict holds linear.weight), not of a backbone: give the "
            "checkpoint of the pretraining, with teacher and student."
        )
    else:
        weights = other if isinstance(other, dict) else content
    if not weights or not are_plain(weights):
        raise UserError(
            f"{path} holds no weights by name (its entries are {', '.join(map(str, list(content)[:8]))}): expected a "
            "released checkpoint, with teacher and student."
        )
    return {str(key): tensor for key, tensor in weights.items()}


def _unpickle(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path} is {'a folder' if path.is_dir() else 'not there'}: give the file of a released model.")
    try:
        # Mapped, not read: the optimiser's two thirds of a file are never touched.
        return read_torch(path, [argparse.Namespace], mapped=True)
    except ForbiddenNameError as error:
        raise UserError(
            f"{path} asks for {error.name}, and was not opened, since a file that names more than tensors, plain "
            "values and argparse.Namespace can run code of its own: where you trust it, save its 'teacher' alone anew."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged, or no file of torch.save ({error}): download it again.") from None


def backbone_weights(weights: Mapping[str, Tensor], path: Folder) -> dict[str, Tensor]:
    """Weights of the backbone alone under timm's names; the stem keeps its colours.

    Wrappers' prefixes are stripped: "module." of DistributedDataParallel, "backbone." once or twice. A stage's
    downsampling stands at its end in the reference, and at the beginning of the next stage in timm.

    >>> weights = {"module.layers.0.downsample.norm.bias": torch.ones(2), "module.head.mlp.0.bias": torch.ones(3)}
    >>> list(backbone_weights(weights, "esvit.pth"))
    ['layers.1.downsample.norm.bias']
    """
    tensors: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        name = re.sub(r"^(module\.|backbone\.)+", "", key)
        if LEFT_OUT.fullmatch(name):
            continue
        name = re.sub(r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) + 1}.downsample.", name)
        if name in tensors:
            raise UserError(f"{path} holds {name} twice, under several prefixes: it is not the file of one network.")
        tensors[name] = tensor
    return tensors


def _fold(stem: Tensor, in_channels: int) -> Tensor:
    """A stem of three colours (D, 3, h, w) for pictures of so many channels."""
    if in_channels == stem.shape[1]:
        return stem
    return stem.float().sum(1, keepdim=True).expand(-1, in_channels, -1, -1) / in_channels


def _window(tensors: Mapping[str, Tensor], name: str) -> int:
    """Side of a Swin's windows, from its table of (2 w - 1) squared relative positions; 0 for other networks."""
    if not name.startswith("swin"):
        return 0
    table = tensors.get(FIRST_TABLE)
    side = math.isqrt(table.shape[0]) if table is not None and table.ndim else 0
    return (side + 1) // 2 if side >= 3 else 7
