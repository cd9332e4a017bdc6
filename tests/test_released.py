"""Released files: numbers equal to a plain restatement of the networks, nothing executed, nothing half loaded."""

from __future__ import annotations

import importlib.util
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from audiossl.transforms import MelConfig, Normalize, StackConfig, StftConfig, build_frontend
from torch import Tensor

import audiossl
from audiossl.errors import UserError
from audiossl.probes.features import ProbeData, extract
from audiossl.probes.linear import linear_probe
from audiossl.released import (
    ARCHS,
    SPEECH_MEAN,
    SPEECH_STD,
    KeysError,
    backbone_weights,
    load_released_backbone,
    read_weights,
)

# By its path: another package's folder of tests may stand before this one.
SPEC = importlib.util.spec_from_file_location("released_reference", Path(__file__).with_name("released_reference.py"))
reference = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reference)

TOLERANCE = 1e-4
TINY = reference.swin_weights("swin_tiny", window=7)


def picture(side: int, channels: int = 3, n: int = 1) -> Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(side))


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def swin_file(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("released") / "swin_tiny.pth", reference.checkpoint(TINY))


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory) -> Path:
    content = reference.checkpoint(reference.vit_weights("tiny"))
    return write(tmp_path_factory.mktemp("released") / "deit_tiny.pth", content)


def compare(output, expected: tuple[Tensor, Tensor]) -> None:
    features, regions = expected
    assert regions.abs().max() > 1.0  # the comparison says something
    assert (output.patches - regions).abs().max() < TOLERANCE
    assert (output.features - features).abs().max() < TOLERANCE


@torch.no_grad()
def check_swin(path: Path, arch: str, window: int, weights: dict[str, Tensor], sides: tuple[int, ...]) -> None:
    backbone = load_released_backbone(path, arch, (224, 224), in_channels=3)
    for side in sides:
        image = picture(side)
        compare(backbone(image), reference.swin(weights, image, arch, window))


def test_swin_tiny_equals_the_reference_padded_and_unpadded(swin_file):
    # 224 needs no padding; 96 is padded in every stage, 24 to 28, 12 to 14, 6 to 7 and 3 to 7.
    check_swin(swin_file, "swin_tiny", 7, TINY, (224, 96))


def test_windows_of_14_are_read_from_the_file(tmp_path):
    weights = reference.swin_weights("swin_tiny", window=14)
    path = write(tmp_path / "w14.pth", reference.checkpoint(weights))
    check_swin(path, "swin_tiny", 14, weights, (224, 96))
    windows = [
        stage.blocks[1].window_size[0] for stage in load_released_backbone(path, "swin_tiny", (64, 96)).net.layers
    ]
    assert windows == [14, 14, 14, 7]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["swin_small", "swin_base"])
@pytest.mark.parametrize("window", [7, 14])
def test_larger_swins_equal_the_reference(tmp_path, arch, window):
    weights = reference.swin_weights(arch, window)
    path = write(tmp_path / "swin.pth", {"teacher": weights})
    check_swin(path, arch, window, weights, (224, 96))


def test_a_network_for_training_masks_its_padding_where_a_released_one_sees_it(swin_file):
    released = load_released_backbone(swin_file, "swin_tiny", (96, 96), in_channels=3)
    blocks = [block for stage in released.net.layers for block in stage.blocks]
    assert all(block.padding_is_seen for block in blocks)
    image = picture(96)
    with torch.no_grad():
        seen = released(image).features
        for block in blocks:
            block.padding_is_seen = False
        assert (released(image).features - seen).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("side", [224, 96, 112])
@torch.no_grad()
def test_vit_equals_the_reference_class_token_first(vit_file, side):
    backbone = load_released_backbone(vit_file, "deit_tiny", (224, 224), in_channels=3)
    compare(backbone(picture(side)), reference.vit(reference.vit_weights("tiny"), picture(side), n_heads=3))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "base"])
@torch.no_grad()
def test_larger_vits_equal_the_reference(tmp_path, size):
    weights = reference.vit_weights(size)
    path = write(tmp_path / "vit.pth", {"teacher": weights})
    backbone = load_released_backbone(path, f"vit_{size}", (224, 224), in_channels=3)
    compare(backbone(picture(224)), reference.vit(weights, picture(224), reference.VITS[size][1]))


@torch.no_grad()
def test_resnet50_equals_the_reference_under_its_double_prefix(tmp_path):
    weights = reference.resnet50_weights()
    prefix = "module.backbone.backbone."  # batch norm: the teacher is wrapped like the student
    path = write(tmp_path / "resnet.pth", reference.checkpoint(weights, prefix=prefix, student_prefix=prefix))
    backbone = load_released_backbone(path, "resnet50", (224, 224), in_channels=3)
    for side in (224, 96):
        compare(backbone(picture(side)), reference.resnet50(weights, picture(side)))


@torch.no_grad()
def test_stems_take_any_number_of_channels(vit_file):
    grey = picture(64, channels=1)
    one, three, two = (load_released_backbone(vit_file, "vit_tiny", (64, 64), in_channels=n) for n in (1, 3, 2))
    expected = three(grey.expand(-1, 3, -1, -1)).features
    assert (one(grey).features - expected).abs().max() < TOLERANCE
    assert (two(grey.expand(-1, 2, -1, -1)).features - expected).abs().max() < TOLERANCE


def test_student_teacher_and_weights_alone(tmp_path, vit_file):
    teacher, student = (read_weights(vit_file, key) for key in ("teacher", "student"))
    ours, theirs = backbone_weights(teacher, vit_file), backbone_weights(student, vit_file)
    assert ours.keys() == theirs.keys()
    assert torch.allclose(ours["norm.bias"] + 1, theirs["norm.bias"])
    alone = write(tmp_path / "alone.pth", teacher)
    image = picture(64, channels=1)
    with torch.no_grad():
        features = [
            load_released_backbone(path, "deit_tiny", (64, 64), checkpoint_key=key)(image).features
            for path, key in ((vit_file, "teacher"), (alone, "teacher"), (vit_file, "student"))
        ]
    assert torch.equal(features[0], features[1])
    assert not torch.allclose(features[0], features[2])


def test_files_of_the_older_format_open(tmp_path):
    torch.save(
        reference.checkpoint({"norm.bias": torch.ones(3)}), tmp_path / "old.pth", _use_new_zipfile_serialization=False
    )
    assert backbone_weights(read_weights(tmp_path / "old.pth"), "old.pth")["norm.bias"].tolist() == [1, 1, 1]


class Attack:
    """Runs a command when it is unpickled by a reader that allows it."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("raw", [True, False])
def test_a_malicious_file_runs_nothing(tmp_path, raw):
    marker, path = tmp_path / "was_run", tmp_path / "evil.pth"
    content = {"teacher": TINY["norm.bias"], "args": Attack(marker)}
    if raw:
        path.write_bytes(pickle.dumps({"teacher": {}, "args": Attack(marker)}, protocol=2))
    else:
        write(path, content)
    with pytest.raises(UserError, match=r"evil\.pth") as caught:
        audiossl.load_model(path, arch="swin_tiny")
    assert "system, and was not opened" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def damaged(keep: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> dict[str, object]:
    return {"teacher": keep(dict(reference.vit_weights("tiny")))}


@pytest.mark.parametrize(
    ("content", "arch", "words"),
    [
        (damaged(lambda w: w.pop("cls_token") is None or w), "vit_tiny", "missing 1 of 150: cls_token;"),
        (damaged(lambda w: {**w, "extra": torch.ones(1)}), "vit_tiny", "unexpected 1 of 151: extra;"),
        (damaged(lambda w: {**w, "norm.bias": torch.ones(7)}), "vit_tiny", r"norm.bias \(7,\) in place of \(192,\)"),
        (damaged(lambda w: w), "vit_small", "of another shape 150 of 150: .* and 138 more"),
        (damaged(lambda w: w), "swin_tiny", r"missing 167 of 171.*unexpected.*\(192, 3, 16, 16\) in place"),
        (damaged(lambda w: w), "resnet50", "missing .* unexpected"),
        (damaged(lambda w: {**w, "module.norm.bias": w["norm.bias"]}), "vit_tiny", "norm.bias twice"),
        (damaged(lambda w: {**w, "norm.bias": w["norm.bias"] / 0}), "vit_tiny", "not finite, first in norm.bias"),
        ({"student": {"a": torch.ones(1)}}, "vit_tiny", "no network 'teacher': set checkpoint_key to student"),
        (
            {"epoch": 100, "state_dict": {"module.linear.weight": torch.ones(2, 2)}, "best_acc": 78.0},
            "swin_tiny",
            "is the file of a linear probe",
        ),
        ({"state_dict": {"module.conv1.weight": torch.ones(2)}, }, "swin_tiny", "missing 17.*unexpected 1 of 1"),
        ({"teacher": {}}, "swin_tiny", "no weights by name"),
        ([torch.ones(2)], "swin_tiny", "holds a list"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused_in_one_sentence(tmp_path, content, arch, words):
    path = write(tmp_path / "x.pth", content)
    with pytest.raises(UserError, match=words) as caught:
        audiossl.load_model(path, arch=arch)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_are_listed_in_full(swin_file):
    with pytest.raises(KeysError) as caught:
        audiossl.load_model(swin_file, arch="swin_small")
    error = caught.value
    assert len(error.missing) == 12 * 13
    assert {key.split(".blocks.")[0] for key in error.missing} == {"layers.2"}
    assert (error.unexpected, error.wrong_shape) == ([], {})


def test_a_linear_probe_is_no_backbone_even_under_its_own_key(tmp_path):
    # The reference loads it without a word, and shows the attention of random weights.
    path = write(tmp_path / "probe.pth", {"state_dict": {"module.linear.weight": torch.ones(2, 2)}})
    with pytest.raises(KeysError, match="missing 171 of 171"):
        load_released_backbone(path, "swin_tiny", (64, 96), checkpoint_key="state_dict")


def test_wrong_places_and_settings(tmp_path, vit_file):
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "cut.pth").write_bytes(vit_file.read_bytes()[:100_000])
    for name, words in (
        ("text.pth", "damaged"),
        ("cut.pth", "damaged"),
        ("none.pth", "is not there"),
        ("", "a folder"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            audiossl.load_model(tmp_path / name, arch="vit_tiny")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"arch='vil_2262' is not one .* swin_tiny, .* resnet50"):
        audiossl.load_model(vit_file, arch="vil_2262")
    with pytest.raises(UserError, match=r"is not a folder: .* its arch"):
        audiossl.load_model(vit_file)
    with pytest.raises(UserError, match="clip_s is for a released file"):
        audiossl.load_model(vit_file, clip_s=2.0)
    with pytest.raises(UserError, match="frontend stft with these settings has no statistics"):
        audiossl.load_model(vit_file, arch="vit_tiny", frontend=StftConfig())
    with pytest.raises(UserError, match="clip_s=-1"):
        audiossl.load_model(vit_file, arch="vit_tiny", clip_s=-1.0)


def test_loading_leaves_the_callers_random_numbers_alone(vit_file):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    audiossl.load_model(vit_file, arch="vit_tiny")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("fixture", "arch", "dim"), [("swin_file", "swin_tiny", 768), ("vit_file", "deit_tiny", 192)])
def test_an_opened_file_is_an_encoder_like_others(fixture, arch, dim, tmp_path, request):
    encoder = audiossl.load_model(request.getfixturevalue(fixture), arch=arch)
    waves = 0.1 * torch.randn(2, 16000)
    with torch.no_grad():
        features = encoder(waves)
        assert features.shape == (2, dim)
        assert encoder(0.1 * torch.randn(1, 40000)).shape == (1, dim)  # a longer clip, a wider picture
        patches = encoder.patches(waves)
        assert patches.patches.shape[1] == patches.grid[0] * patches.grid[1]
        encoder.save_pretrained(tmp_path / "encoder", extra={"weights": "EsViT, swin_tiny, teacher"})
        again = audiossl.load_model(tmp_path / "encoder")
        assert torch.equal(again(waves), features)
    assert not encoder.training
    assert encoder.randomised(0).dim == dim
    assert (encoder(waves) - encoder.randomised(0)(waves)).abs().max() > TOLERANCE


def test_front_ends_of_ones_own(vit_file):
    waves = 0.1 * torch.randn(4, 8000)
    for config, channels in ((StftConfig(), 1), (StackConfig(types=["mel", "stft"]), 2)):
        statistics = Normalize.measure(build_frontend(config), [waves])
        encoder = audiossl.load_model(vit_file, arch="vit_tiny", frontend=config, normalize=statistics, clip_s=0.5)
        assert encoder.backbone.net.patch_embed.proj.weight.shape[1] == channels
        assert (encoder.n_samples, encoder(waves).shape) == (8000, (4, 192))
    with pytest.raises(UserError, match="statistics belong to a front end"):
        audiossl.load_model(vit_file, arch="vit_tiny", frontend=MelConfig(f_min=50.0), normalize=statistics)


class Clips:
    """Tones of three heights in noise, with the attributes that `extract` reads."""

    name, sample_rate, label_names, speakers = "tones", 16000, ("low", "middle", "high"), [None] * 36

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        seconds = np.arange(8000) / self.sample_rate
        self.label_ids = np.arange(36) % 3
        hz = 300.0 * 3.0**self.label_ids * generator.uniform(0.9, 1.1, 36)
        tones = np.sin(2 * np.pi * hz[:, None] * seconds) + 0.1 * generator.normal(size=(36, 8000))
        self.waves = (8000 * tones).astype(np.int16)
        self.ids = [f"clip{i}" for i in range(36)]
        self.splits = ["training", "validation", "testing"] * 12
        self.splits = sorted(self.splits)

    def __len__(self) -> int:
        return len(self.waves)


def test_a_linear_probe_and_fine_tuning_start_from_a_released_file(vit_file):
    encoder = audiossl.load_model(vit_file, arch="deit_tiny", clip_s=0.5)  # pictures of 64 x 48
    clips = Clips()
    data: ProbeData = extract(encoder, clips).probe_data()
    assert linear_probe(data, min_steps=200, learning_rates=(3e-3,), weight_decays=(0.0,)).test > 0.8

    classifier = torch.nn.Sequential(encoder, torch.nn.Linear(encoder.dim, 3)).train()
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-4)
    waves, labels = torch.from_numpy(clips.waves[:12]), torch.from_numpy(clips.label_ids[:12])
    losses = []
    for _ in range(16):
        loss = torch.nn.functional.cross_entropy(classifier(waves), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.data
def test_statistics_of_the_default_front_end_are_those_of_speech_commands(speech_commands_9w):
    held_out = {
        name
        for part in ("validation", "testing")
        for name in (speech_commands_9w / f"{part}_list.txt").read_text().split()
    }
    files = [
        file
        for file in sorted(speech_commands_9w.glob("*/*.flac"))
        if str(file.relative_to(speech_commands_9w)) not in held_out
    ]
    assert len(files) == 3911

    def waves():
        for file in files[::8]:
            wave, _ = soundfile.read(file, dtype="float32")
            yield torch.nn.functional.pad(torch.from_numpy(wave), (0, 16000 - len(wave)))[None]

    measured = Normalize.measure(build_frontend(MelConfig()), waves())
    assert float(measured.mean) == pytest.approx(SPEECH_MEAN, abs=0.15)
    assert float(measured.std) == pytest.approx(SPEECH_STD, abs=0.15)


def test_every_arch_has_its_network():
    assert {arch.backbone for arch in ARCHS.values()} == {
        *reference.SWINS, *(f"vit_{size}" for size in reference.VITS), "resnet50"
    }  # fmt: skip
