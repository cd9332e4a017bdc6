"""BYOL-A's files: what a plain restatement of its networks gives, the opened encoder gives; misfits are named."""

import librosa
import numpy as np
import pytest
import torch
from audiossl.transforms import Normalize, build_frontend
from torch.nn import functional

import audiossl
from audiossl.errors import UserError
from audiossl.released import KeysError
from audiossl.released_byola import byola_frontend, load_byola
from audiossl.run.finetune_config import FinetuneConfig
from audiossl.run.finetuning import open_encoder

FILES = [  # arch, blocks, width, and how a program may have wrapped the tensors
    ("audiontt_2020", 3, 512, lambda tensors: tensors),
    ("audiontt_2020", 3, 1024, lambda tensors: tensors),
    ("audiontt_2020", 3, 2048, lambda tensors: tensors),
    ("audiontt_2022", 2, 2048, lambda tensors: tensors),
    ("audiontt_2020", 3, 512, lambda tensors: prefixed(tensors, "module.")),
    ("audiontt_2020", 3, 512, lambda tensors: {"state_dict": prefixed(tensors, "model.")}),
    ("audiontt_2022", 2, 2048, lambda tensors: prefixed(tensors, "body.") | {"projector.0.bias": torch.ones(3)}),
]


def prefixed(tensors, prefix):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def weights(blocks, width):
    """Tensors with the published names and shapes: convolutions at 0, 4, 8, batch norms at 1, 5, 9, layers at 0, 3."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=random)

    frame = 64 * (64 // 2**blocks)
    tensors = {}
    for b in range(blocks):
        conv, norm = f"features.{4 * b}.", f"features.{4 * b + 1}."
        tensors |= {conv + "weight": draw(64, 64 if b else 1, 3, 3, scale=0.1), conv + "bias": draw(64, scale=0.1)}
        tensors |= {norm + "weight": 1 + draw(64, scale=0.1), norm + "bias": draw(64, scale=0.1)}
        tensors |= {norm + "running_mean": draw(64, scale=0.3), norm + "running_var": 0.5 + draw(64).square()}
        tensors[norm + "num_batches_tracked"] = torch.tensor(100)
    tensors |= {"fc.0.weight": draw(width, frame, scale=0.03), "fc.0.bias": draw(width, scale=0.1)}
    tensors |= {"fc.3.weight": draw(width, width, scale=0.03), "fc.3.bias": draw(width, scale=0.1)}
    return tensors


def restated(tensors, image, blocks, stacked):
    """BYOL-A's encoder as its papers describe it: pictures (B, 1, 64, T) to (B, d)."""
    x = image
    for b in range(blocks):
        x = functional.conv2d(x, tensors[f"features.{4 * b}.weight"], tensors[f"features.{4 * b}.bias"], padding=1)
        norm = [tensors[f"features.{4 * b + 1}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        x = functional.max_pool2d(functional.relu(functional.batch_norm(x, *norm)), 2)
    frames = x.permute(0, 3, 2, 1).flatten(2)  # the 64 channels of the lowest band first, then of the next
    y = functional.relu(functional.linear(frames, tensors["fc.0.weight"], tensors["fc.0.bias"]))
    y = functional.relu(functional.linear(y, tensors["fc.3.weight"], tensors["fc.3.bias"]))
    y = torch.cat([frames, y], dim=-1) if stacked else y
    return y.max(1).values + y.mean(1)


@pytest.mark.parametrize(("arch", "blocks", "width", "wrap"), FILES)
def test_an_opened_file_gives_what_the_restatement_gives(tmp_path, arch, blocks, width, wrap):
    tensors = weights(blocks, width)
    assert len(tensors) == 7 * blocks + 4
    torch.save(wrap(tensors), tmp_path / "byola.pth")
    encoder = audiossl.load_model(tmp_path / "byola.pth", arch=arch)
    assert not encoder.training
    stacked = arch == "audiontt_2022"
    assert encoder.dim == width + 1024 * stacked
    wave = torch.randn(3, 16000, generator=torch.Generator().manual_seed(1)) * 0.1
    image = (build_frontend(byola_frontend())(wave) + 9.660) / 4.722
    with torch.no_grad():
        torch.testing.assert_close(encoder(wave), restated(tensors, image, blocks, stacked), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gain", [0.1, 1e-4])  # at the lower one the floor counts
def test_the_picture_is_byol_as_to_its_edges(gain):
    wave = gain * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    power = librosa.feature.melspectrogram(
        y=wave[0].double().numpy(), sr=16000, n_fft=1024, hop_length=160, n_mels=64, fmin=60, fmax=7800,
        pad_mode="reflect",
    )  # fmt: skip
    expected = torch.from_numpy(np.log(power + np.finfo(np.float32).eps)).float()
    image = build_frontend(byola_frontend())(wave)
    assert image.shape == (1, 1, 64, 101)
    torch.testing.assert_close(image[0, 0], expected, atol=1e-3, rtol=0)


def test_clips_of_any_length_have_a_vector(tmp_path):
    torch.save(weights(3, 512), tmp_path / "byola.pth")
    encoder = load_byola(tmp_path / "byola.pth", "audiontt_2020")
    for n_samples in (1, 400, 900, 1200, 40000):  # 900 are 6 frames, fewer than the blocks halve
        assert encoder(torch.ones(2, n_samples)).isfinite().all()


def test_statistics_of_ones_own_clips_take_the_place_of_speech(tmp_path):
    torch.save(weights(3, 512), tmp_path / "byola.pth")
    own = Normalize(-5.0, 2.0, byola_frontend().fingerprint())
    encoder = audiossl.load_model(tmp_path / "byola.pth", arch="audiontt_2020", normalize=own, clip_s=2.0)
    assert encoder.normalize.mean.item() == -5.0
    assert encoder.clip_s == 2.0
    with pytest.raises(UserError, match="belong to a front end of fingerprint other"):
        load_byola(tmp_path / "byola.pth", "audiontt_2020", normalize=Normalize(-5.0, 2.0, "other"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("fc.3.bias"), "missing 1 of 25: fc.3.bias"),
        (lambda t: t.update({"features.12.weight": torch.ones(2)}), "unexpected 1 of 26: features.12.weight"),
        (lambda t: t.update({"fc.0.weight": torch.ones(512, 300)}), "of another shape 1 of 25"),
        (lambda t: t.update({"features.0.weight": torch.ones(64, 3, 3, 3)}), "of another shape 1 of 25"),
        (lambda t: t.update({"fc.3.bias": torch.ones(1024)}), "of another shape 3 of 25"),  # the width is read there
        (lambda t: t.update({"fc.3.bias": torch.ones(512, 1)}), "of another shape 1 of 25"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_keys(tmp_path, change, message):
    tensors = weights(3, 512)
    change(tensors)
    torch.save(tensors, tmp_path / "byola.pth")
    with pytest.raises(KeysError, match=message):
        load_byola(tmp_path / "byola.pth", "audiontt_2020")


def test_the_other_version_is_refused(tmp_path):
    torch.save(weights(2, 2048), tmp_path / "byola.pth")
    with pytest.raises(KeysError, match="does not hold the weights of audiontt_2020"):
        load_byola(tmp_path / "byola.pth", "audiontt_2020")
    with pytest.raises(UserError, match="choose one of audiontt_2020, audiontt_2022"):
        load_byola(tmp_path / "byola.pth", "audiontt_2021")


def test_the_state_of_a_training_with_two_encoders_is_refused(tmp_path):
    tensors = weights(3, 512)
    torch.save(prefixed(tensors, "online.") | prefixed(tensors, "target."), tmp_path / "byola.pth")
    with pytest.raises(UserError, match=r"holds features\.0\.weight twice, under several prefixes"):
        load_byola(tmp_path / "byola.pth", "audiontt_2020")


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "byola.pth")
    with pytest.raises(UserError, match="holds no weights by name"):
        load_byola(tmp_path / "byola.pth", "audiontt_2020")
    torch.save({"layer.weight": torch.ones(2)}, tmp_path / "byola.pth")
    with pytest.raises(KeysError, match="missing 25 of 25"):
        load_byola(tmp_path / "byola.pth", "audiontt_2020")
    with pytest.raises(UserError, match="is not there"):
        load_byola(tmp_path / "none.pth", "audiontt_2020")
    with pytest.raises(UserError, match="opens BYOL-A's files too, as audiontt_2020 or audiontt_2022"):
        audiossl.load_model(tmp_path / "byola.pth", arch="byola")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    tensors = weights(3, 512)
    tensors["fc.0.bias"][3] = float("nan")
    torch.save(tensors, tmp_path / "byola.pth")
    with pytest.raises(UserError, match=r"not finite, first in fc\.0\.bias"):
        load_byola(tmp_path / "byola.pth", "audiontt_2020")


def test_a_file_is_fine_tuned_by_its_arch(tmp_path):
    torch.save(weights(3, 512), tmp_path / "byola.pth")
    config = FinetuneConfig(encoder=str(tmp_path / "byola.pth"), arch="audiontt_2020")
    wave = torch.randn(2, 16000)
    encoder = open_encoder(config, 0)
    torch.testing.assert_close(encoder(wave), load_byola(tmp_path / "byola.pth", "audiontt_2020")(wave))
    config.scratch = True
    other = open_encoder(config, 0)
    assert other.dim == encoder.dim
    assert not torch.allclose(other.eval()(wave), encoder(wave))
