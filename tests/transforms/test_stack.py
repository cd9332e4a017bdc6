"""Stacks: every part as it is alone, on the first one's frequencies; what cannot be stacked is named."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from audiossl.transforms import FrontEndConfig, MelConfig, Normalize, StackConfig, build_frontend
from audiossl.transforms.frontend import HOMES
from audiossl.transforms.stack import WITHOUT_FREQUENCY_AXIS, check_grids, rows_to

from audiossl.config import parse
from audiossl.errors import UserError

WAVE = 0.1 * torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n_given", [1, 2, 7])
def test_rows_are_interpolated_in_hz_with_edges_held(n_given):
    given = torch.linspace(100.0, 900.0, n_given).square() / 100
    wanted = torch.tensor([0.0, 99.0, 150.0, 1000.0, 5000.0, 9000.0])
    picture = torch.rand(n_given)
    expected = np.interp(wanted.numpy(), given.numpy(), picture.numpy())
    np.testing.assert_allclose(rows_to(given, wanted) @ picture, expected, atol=1e-6)


@pytest.mark.parametrize("compress", ["log", "pcen", "none"])
def test_channels_are_the_parts_pictures(compress):
    stack = build_frontend(StackConfig(types=["mel", "leaf", "stft"], n_bins=32, hop_length=334, compress=compress))
    image = stack(WAVE)
    assert image.shape == (3, 3, 32, stack.n_frames(5000))
    common = {"hop_length": 334, "compress": compress}
    for channel, kind in enumerate(["mel", "leaf"]):
        alone = build_frontend(kind, n_bins=32, **common)
        assert torch.allclose(image[:, channel], alone(WAVE)[:, 0], atol=1e-4)
    stft = build_frontend("stft", **common)
    hz = stack.frequencies.double().numpy()
    column = stft(WAVE)[1, 0, :, 4].detach().double().numpy()
    expected = np.interp(hz, stft.frequencies.double().numpy(), column)
    np.testing.assert_allclose(image[1, 2, :, 4].detach(), expected, atol=1e-3)


def test_a_floor_is_for_all_parts_and_none_leaves_theirs():
    own = build_frontend(StackConfig(types=["mel", "leaf"]))
    assert [part.config.floor for part in own.parts] == [1e-6, 3e-10]
    given = build_frontend(StackConfig(types=["mel", "leaf"], floor=1e-4))
    assert [part.config.floor for part in given.parts] == [1e-4, 1e-4]


def test_the_first_part_gives_frames_and_frequencies():
    fbank = build_frontend("fbank")
    stack = build_frontend(StackConfig(types=["fbank"], f_min=20.0, f_max=8000.0))
    assert torch.equal(stack.frequencies, fbank.frequencies)
    assert torch.equal(stack.times(5000), fbank.times(5000))


def test_statistics_are_one_a_channel():
    stack = build_frontend(StackConfig(types=["mel", "leaf"]))
    with torch.no_grad():
        normalize = Normalize.measure(stack, [WAVE])
        image = normalize(stack(WAVE))
    assert normalize.mean.shape == (2, 1)
    assert image.mean((0, 2, 3)).abs().max() < 1e-4
    assert (image.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-4


STACKED = sorted(set(HOMES) - {"mel", "stack", "emd", "matching_pursuit", *WITHOUT_FREQUENCY_AXIS})


@pytest.mark.parametrize("kind", STACKED)
def test_every_type_is_stacked_with_mel_or_refused_by_name(kind):
    try:
        stack = build_frontend(StackConfig(types=["mel", kind]))
    except UserError as error:
        assert f"types mel and {kind} have " in str(error)  # noqa: PT017
        return
    image = stack(WAVE[:1])
    assert image.shape == (1, stack.n_channels, 64, stack.n_frames(5000))
    assert torch.allclose(image[:, 0], build_frontend(MelConfig())(WAVE[:1])[:, 0], atol=1e-4)
    assert image.isfinite().all()


@dataclass
class Recipe:
    """A recipe with a front end."""

    frontend: FrontEndConfig = field(default_factory=MelConfig)


def test_chosen_by_flag():
    flags = ["--frontend.type", "stack", "--frontend.types", "mel,stft,reassigned", "--frontend.n_bins", "32"]
    stack = build_frontend(parse(Recipe, "recipe", flags).frontend)
    assert (stack.n_channels, stack.n_bins) == (3, 32)
    assert [part.config.type for part in stack.parts] == ["mel", "stft", "reassigned"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"types": []}, "types is empty"),
        ({"types": ["mel", "stack"]}, "types names stack"),
        ({"types": ["mel", "mfcc"]}, "types names mfcc"),
        ({"types": ["mel", "cqt2"]}, "types names 'cqt2': choose of"),
        ({"types": ["mel", "fbank"]}, r"types mel and fbank have 2 and 1 frames of 168 samples"),
        ({"f_max": 9000.0}, "f_max=9000"),
        ({"floor": -1.0}, "floor=-1"),
        ({"compress": "loud"}, "compress='loud'"),
    ],
)
def test_what_cannot_be_stacked_is_named(changes, words):
    with pytest.raises(UserError, match=words):
        build_frontend(StackConfig(**changes))


def test_as_many_frames_at_other_times_are_refused():
    early, late = build_frontend("mel"), build_frontend("mel")
    late.times = lambda n_samples: early.times(n_samples) + 5e-3
    with pytest.raises(UserError, match=r"types mel and mel have their first frames at 0\.0 and 5\.0 ms"):
        check_grids([early, late])
