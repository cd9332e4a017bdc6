"""Constant-Q and variable-Q pictures: equal to correlation with librosa's filters, near librosa.cqt and nnAudio."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from audiossl.transforms import CqtConfig, VqtConfig, build_frontend
from audiossl.transforms.cqt import relative_distance

from audiossl.errors import UserError

BOTH_TYPES = pytest.mark.parametrize("kind", [CqtConfig, VqtConfig], ids=["cqt", "vqt"])


def q_config(kind=CqtConfig, **changes):
    plain = {"compress": "none", "power": 1.0, "n_bins": 72, "bins_per_octave": 12.0, "f_min": 65.4}
    return kind(**{**plain, **changes})


def chirp_tone_noise(n_samples: int, sample_rate: int = 16000) -> np.ndarray:
    t = np.arange(n_samples) / sample_rate
    rng = np.random.default_rng(0)
    chirp = np.sin(2 * np.pi * (100 + 1500 * t) * t)
    return (0.3 * chirp + 0.1 * np.sin(2 * np.pi * 440 * t) + 0.05 * rng.standard_normal(n_samples)).astype("f4")


def picture(config, wave: np.ndarray) -> np.ndarray:
    return build_frontend(config)(torch.from_numpy(wave)[None])[0, 0].numpy()


def correlation(config, wave: np.ndarray) -> np.ndarray:
    """Magnitude (F, T) of the direct correlation with librosa's filters in float64, doubled."""
    frontend = build_frontend(config)
    hz = frontend.frequencies.double().numpy()
    filters, _ = librosa.filters.wavelet(
        freqs=hz,
        sr=config.sample_rate,
        filter_scale=config.filter_scale,
        gamma=getattr(config, "gamma", 0.0),
        alpha=np.full(len(hz), relative_distance(config)),
        dtype=np.complex128,
    )
    half = filters.shape[1] // 2
    padded = np.pad(wave.astype("f8"), (half, half + 1))
    frames = np.lib.stride_tricks.sliding_window_view(padded, filters.shape[1])[:: config.hop_length]
    return 2 * np.abs(frames[: frontend.n_frames(len(wave))] @ filters.conj().T).T


def relative(x: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(x - reference) / np.linalg.norm(reference))


@BOTH_TYPES
@pytest.mark.parametrize(
    ("changes", "n_samples"),
    [
        ({}, 16000),
        ({"hop_length": 100, "filter_scale": 0.5}, 12345),
        ({}, 300),  # a tenth of the longest filter
        ({"n_bins": 64, "f_min": 55.0, "f_max": 7040.0, "bins_per_octave": 0.0}, 8001),
        ({"n_bins": 32, "f_min": 55.0, "f_max": 7900.0, "bins_per_octave": 0.0}, 4000),  # filters pass half the rate
    ],
)
def test_equals_direct_correlation(kind, changes, n_samples):
    config = q_config(kind, **changes)
    wave = chirp_tone_noise(n_samples)
    assert relative(picture(config, wave), correlation(config, wave)) < 1e-3


def test_frequencies_are_librosas():
    hz = build_frontend(q_config()).frequencies.numpy()
    np.testing.assert_allclose(hz, librosa.cqt_frequencies(72, fmin=65.4), rtol=1e-6)
    # Sixty-four rows over seven octaves: nine an octave.
    default = build_frontend("cqt").frequencies
    assert default[[0, 9, 63]].tolist() == pytest.approx([55.0, 110.0, 7040.0], rel=1e-6)


@pytest.mark.parametrize(("kind", "gamma"), [(CqtConfig, 0.0), (VqtConfig, 20.0)], ids=["cqt", "vqt"])
def test_near_librosa(kind, gamma):
    config = q_config(kind, hop_length=256, n_bins=60, **({"gamma": gamma} if gamma else {}))
    wave = chirp_tone_noise(16000)
    theirs = librosa.vqt(
        wave,
        sr=16000,
        hop_length=256,
        fmin=65.4,
        n_bins=60,
        bins_per_octave=12,
        gamma=gamma,
        tuning=0.0,
        sparsity=0.0,
        pad_mode="constant",
    )
    lengths, _ = librosa.filters.wavelet_lengths(
        freqs=librosa.cqt_frequencies(60, fmin=65.4), sr=16000, gamma=gamma, alpha=relative_distance(config)
    )
    assert relative(picture(config, wave), 2 * np.abs(theirs) / np.sqrt(lengths)[:, None]) < 3e-2


@pytest.mark.parametrize(("n_samples", "hop_length"), [(16000, 167), (16000, 256), (1000, 100), (7, 167)])
def test_nnaudios_cqt_is_the_same_picture_but_for_whole_filter_lengths(n_samples, hop_length):
    wave = chirp_tone_noise(n_samples)
    ours, theirs = (picture(q_config(hop_length=hop_length, backend=backend), wave) for backend in ("fft", "nnaudio"))
    assert ours.shape == theirs.shape
    assert relative(theirs, ours) < 1e-2


@pytest.mark.parametrize("gamma", [0.0, 20.0])
@pytest.mark.parametrize("n_samples", [16000, 8001, 7])
def test_nnaudios_vqt_is_the_same_picture_but_for_its_halved_rates(gamma, n_samples):
    wave = chirp_tone_noise(n_samples)
    ours, theirs = (
        picture(q_config(VqtConfig, gamma=gamma, hop_length=160, n_bins=60, backend=backend), wave)
        for backend in ("fft", "nnaudio")
    )
    assert ours.shape == theirs.shape
    if n_samples > 1000:
        assert relative(theirs, ours) < 3e-2


def test_vqt_without_gamma_is_the_cqt():
    wave = chirp_tone_noise(4000)
    assert np.array_equal(picture(q_config(VqtConfig, gamma=0.0), wave), picture(q_config(), wave))
    # With it, low rows are wider: a click is shorter in them.
    click = np.zeros(16000, "f4")
    click[8000] = 1.0
    long, short = (picture(q_config(VqtConfig, gamma=gamma), click)[0] for gamma in (0.0, 30.0))
    assert (long > 0.01 * long.max()).sum() > 3 * (short > 0.01 * short.max()).sum()


@BOTH_TYPES
@pytest.mark.parametrize("backend", ["fft", "nnaudio"])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_sine_has_its_amplitudes_height(kind, backend, power):
    config = q_config(kind, power=power, n_bins=36, f_min=220.0, backend=backend, hop_length=160)
    frontend = build_frontend(config)
    for row in (0, 12, 30):
        hz = float(frontend.frequencies[row])
        wave = 0.5 * torch.sin(2 * torch.pi * hz / 16000 * torch.arange(16000))
        image = frontend(wave[None])[0, 0, :, 45:55]
        assert torch.allclose(image[row], torch.tensor(0.5**power), rtol=2e-2)
        assert image.mean(1).argmax() == row


def test_trainable_kernels_receive_gradients_and_others_stay_out_of_files_and_stdout(capsys):
    frontend = build_frontend("cqt", backend="nnaudio", trainable=True, n_bins=32, f_min=220.0)
    frontend(torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))).sum().backward()
    parameters = dict(frontend.named_parameters())
    assert sorted(parameters) == ["nnaudio.cqt.cqt_kernels_imag", "nnaudio.cqt.cqt_kernels_real"]
    assert all(p.grad.abs().sum() > 0 and p.grad.isfinite().all() for p in parameters.values())
    assert sorted(frontend.state_dict()) == sorted(parameters)
    for kind in ("cqt", "vqt"):
        fixed = build_frontend(kind, backend="nnaudio", hop_length=128)
        assert not fixed.state_dict()
        assert not list(fixed.parameters())
        assert fixed(torch.zeros(1, 1000)).isfinite().all()
    assert capsys.readouterr().out == ""


@BOTH_TYPES
@pytest.mark.parametrize("backend", ["fft", "nnaudio"])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_gradients_are_finite_in_silence(kind, backend, power):
    frontend = build_frontend(q_config(kind, backend=backend, hop_length=160, n_bins=24, power=power, compress="log"))
    silence = torch.zeros(2, 700, requires_grad=True)
    frontend(silence).sum().backward()
    assert silence.grad.isfinite().all()


def test_gradients_in_float64():
    frontend = build_frontend(q_config(n_bins=3, f_min=1000.0, power=2.0, hop_length=30))
    wave = torch.from_numpy(chirp_tone_noise(90)).double()[None].requires_grad_()
    assert torch.autograd.gradcheck(frontend.transform, (wave,))


@pytest.mark.filterwarnings("ignore")
def test_compiles_whole():
    frontend = build_frontend(q_config(n_bins=8, f_min=500.0))
    compiled = torch.compile(frontend, fullgraph=True, backend="aot_eager")
    for n_samples in (3000, 2000):
        wave = torch.from_numpy(chirp_tone_noise(n_samples))[None]
        assert relative(compiled(wave).numpy(), frontend(wave).numpy()) < 1e-6


def test_the_issues_rows_and_the_small_preset_fit():
    assert build_frontend("cqt", n_bins=72)(torch.zeros(1, 16000)).shape == (1, 1, 72, 96)
    for kind in ("cqt", "vqt"):
        small = build_frontend(kind, n_bins=32, hop_length=334)
        assert small(torch.zeros(1, 16000)).shape == (1, 1, 32, 48)
        assert float(small.frequencies[-1]) == pytest.approx(7040.0)


@BOTH_TYPES
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_bins": 100}, r"n_bins=100 at bins_per_octave=12 lead .* beyond 8000 Hz.*at most 84 rows \(6.9 octaves\)"),
        ({"f_min": 9000.0}, "at most 0 rows"),
        ({"f_min": 0.0}, "f_min=0 Hz is no row"),
        ({"n_bins": 0}, "n_bins=0 must be at least 1"),
        ({"n_bins": 1, "bins_per_octave": 0.0}, "n_bins=1 must be at least 2"),
        ({"bins_per_octave": -1.0}, "bins_per_octave=-1.0 must be at least 0"),
        ({"bins_per_octave": 0.0, "f_max": 8001.0}, "f_max=8001 Hz lies above 8000 Hz"),
        ({"bins_per_octave": 0.0, "f_max": 50.0}, "f_min=65.4"),
        ({"filter_scale": 0.01}, "filter_scale=0.01 leaves"),
        ({"filter_scale": 0.0}, "filter_scale=0 leaves"),
        ({"backend": "fftw"}, "backend='fftw'"),
        ({"power": 3.0}, "power=3"),
        ({"trainable": True}, "trainable=true"),
    ],
)
def test_impossible_settings_name_the_setting(kind, changes, words):
    with pytest.raises(UserError, match=words):
        build_frontend(q_config(kind, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gamma": -1.0}, "gamma=-1.0 must be at least 0"),
        ({"trainable": True}, "nnAudio's VQT has no kernels that can be trained"),
        ({"backend": "nnaudio"}, "hop_length=167 must be a multiple of 32"),
        ({"backend": "nnaudio", "bins_per_octave": 12.5}, "bins_per_octave=12.5 with n_bins=72"),
        ({"backend": "nnaudio", "n_bins": 6, "hop_length": 128}, "at least an octave"),
    ],
)
def test_what_the_vqt_cannot_do_is_said(changes, words):
    with pytest.raises(UserError, match=words):
        build_frontend(q_config(VqtConfig, **changes))
