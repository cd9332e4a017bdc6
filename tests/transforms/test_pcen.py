"""Per-channel energy normalisation: equal to librosa and to the recursion written out, finite in silence."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from audiossl.transforms import MelConfig, Pcen, build_frontend
from audiossl.transforms.pcen import slow_mean, smoothing

from audiossl.errors import UserError

FRAMES_PER_S = 16000 / 167


@pytest.fixture(scope="module")
def power() -> torch.Tensor:
    """Mel power of clips whose loudness spans 100 dB, one with a silent start."""
    wave = torch.randn(6, 32000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-5, 0, 6)[:, None]
    wave[3, :9000] = 0.0
    return build_frontend(MelConfig(compress="none"))(wave)


@pytest.mark.parametrize("share", [0.025, 0.3, 1.0])
@pytest.mark.parametrize("n_frames", [1, 2, 3, 64, 97])
def test_slow_mean_is_the_recursion(share, n_frames):
    x = torch.rand(3, 2, n_frames, dtype=torch.float64)
    mean = [x[..., 0]]
    for t in range(1, n_frames):
        mean.append((1 - share) * mean[-1] + share * x[..., t])
    assert torch.allclose(slow_mean(x, share), torch.stack(mean, -1), rtol=1e-12)


def test_slow_mean_stays_exact_in_float32_over_a_minute():
    x = torch.rand(1, 6000, generator=torch.Generator().manual_seed(1)) ** 8
    exact = slow_mean(x.double(), 0.025)
    assert ((slow_mean(x, 0.025) - exact).abs() / exact).max() < 1e-6


@pytest.mark.parametrize("floor", [1e-6, 1e-3])
def test_equals_librosa(power, floor):
    image = Pcen(FRAMES_PER_S, floor)(power)
    exact = power.double().numpy()
    # Its smoother starts at 1; zi makes it start at the first frame.
    share = smoothing(FRAMES_PER_S)
    expected = librosa.pcen(exact, sr=16000, hop_length=167, eps=floor, zi=(1 - share) * exact[..., :1])
    assert np.abs(image.numpy() - expected).max() < 1e-4


def test_a_front_end_knows_its_frames_per_second():
    wave = 0.1 * torch.randn(2, 8000)
    plain = build_frontend(MelConfig(compress="none", hop_length=100, floor=1e-5))(wave)
    image = build_frontend(MelConfig(compress="pcen", hop_length=100, floor=1e-5))(wave)
    assert torch.allclose(image, Pcen(160.0, 1e-5)(plain))


def test_the_gain_of_a_recording_all_but_vanishes(power):
    pcen = Pcen(FRAMES_PER_S, floor=1e-20)  # a floor that matters for neither
    quiet, loud = pcen(power[5:]), pcen(1e4 * power[5:])
    # x / m^0.98 keeps a factor of 10^(4 * 0.02) = 1.2 of 40 dB.
    assert 1.0 < (loud.mean() / quiet.mean()) < 1.25


def test_clips_do_not_depend_on_their_neighbours_or_on_what_follows(power):
    pcen = Pcen(FRAMES_PER_S)
    assert torch.allclose(pcen(power), torch.cat([pcen(one[None]) for one in power]), atol=1e-6)
    assert torch.allclose(pcen(power)[..., :50], pcen(power[..., :50]), atol=1e-6)


@pytest.mark.parametrize("n_bins", [0, 5])
def test_gradient_is_right_and_finite_in_silence(n_bins):
    pcen = Pcen(FRAMES_PER_S, 1e-3, n_bins).double()
    x = torch.rand(2, 1, 5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    assert torch.autograd.gradcheck(pcen, x)
    silence = torch.zeros(2, 1, 5, 9, requires_grad=True)
    Pcen(FRAMES_PER_S, 1e-6, n_bins)(silence).sum().backward()
    assert silence.grad.isfinite().all()


def test_trained_numbers_start_as_the_fixed_ones_and_receive_gradients(power):
    fixed, trained = Pcen(FRAMES_PER_S), Pcen(FRAMES_PER_S, n_bins=64)
    assert torch.allclose(fixed(power), trained(power), atol=1e-5)
    trained(power).square().mean().backward()
    parameters = dict(trained.named_parameters())
    assert sorted(parameters) == ["bias", "gain", "power", "share"]
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in parameters.values())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter -= 10.0
    assert trained(power).isfinite().all()


def test_a_floor_of_nothing_is_refused():
    with pytest.raises(UserError, match="floor=0"):
        Pcen(FRAMES_PER_S, 0.0)
