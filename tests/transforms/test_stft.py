"""The Fourier front end: equal to librosa, the same in both backends, and unshaken by odd input."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from audiossl.transforms import StftConfig, build_frontend
from audiossl.transforms.stft import hann

from audiossl.errors import UserError

BOTH = pytest.mark.parametrize("backend", ["fft", "nnaudio"])


def stft_config(**changes) -> StftConfig:
    plain = {"f_min": 0.0, "f_max": 8000.0, "compress": "none"}
    return StftConfig(**{**plain, **changes})


def chirp_tone_noise(n_samples: int) -> np.ndarray:
    t = np.arange(n_samples) / 16000
    rng = np.random.default_rng(0)
    chirp = np.sin(2 * np.pi * (100 + 3000 * t) * t)
    return (0.3 * chirp + 0.1 * np.sin(2 * np.pi * 440 * t) + 0.05 * rng.standard_normal(n_samples)).astype("f4")


def tone_over_noise(n_samples: int) -> np.ndarray:
    """A tone over noise at -80 dB: single precision must not drown what is quiet."""
    noise = 1e-4 * np.random.default_rng(0).standard_normal(n_samples)
    return (np.sin(2 * np.pi * 1000 * np.arange(n_samples) / 16000) + noise).astype("f4")


def impulse(n_samples: int) -> np.ndarray:
    return (np.arange(n_samples) == n_samples // 3).astype("f4")


def relative(x: torch.Tensor | np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(x) - reference) / np.linalg.norm(reference))


def decibels_off(power: np.ndarray, exact: np.ndarray, depth_db: float) -> float:
    """Largest error in dB of the cells that lie at most `depth_db` under the loudest."""
    heard = exact > exact.max() * 10 ** (-depth_db / 10)
    return float(np.abs(10 * np.log10(power[heard] / exact[heard])).max())


@BOTH
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize(("win_length", "n_samples"), [(1024, 16000), (400, 12345)])
@pytest.mark.parametrize("signal", [chirp_tone_noise, tone_over_noise, impulse])
def test_power_equals_librosa(backend, pad_mode, win_length, n_samples, signal):
    wave = signal(n_samples)
    config = stft_config(backend=backend, pad_mode=pad_mode, win_length=win_length)
    image = build_frontend(config)(torch.from_numpy(wave)[None])
    spectrum = librosa.stft(
        wave.astype("f8"),
        n_fft=1024,
        hop_length=167,
        win_length=win_length,
        pad_mode=pad_mode,
        dtype=np.complex128,
    )
    assert image.shape == (1, 1, 513, 1 + n_samples // 167)
    exact = np.abs(spectrum) ** 2
    assert relative(image[0, 0], exact) < 1e-6
    # The kernels of the convolution are rounded to float32: 5.4e-3 dB off beside the tone.
    assert decibels_off(image[0, 0].numpy(), exact, 80) < (5e-3 if backend == "fft" else 1e-2)


def test_noise_under_a_tone_is_heard():
    wave = tone_over_noise(16000)
    image = build_frontend(stft_config())(torch.from_numpy(wave)[None])[0, 0].numpy()
    exact = np.abs(librosa.stft(wave.astype("f8"), n_fft=1024, hop_length=167, pad_mode="constant")) ** 2
    quiet = exact < exact.max() * 1e-8
    assert quiet.mean() > 0.3
    # A cell of the noise lies 100 dB below the tone, 30 dB above the rounding of float32.
    assert decibels_off(image, exact, 100) < 0.1


def test_bins_between_f_min_and_f_max():
    frontend = build_frontend(StftConfig(f_min=60.0, f_max=7800.0))
    assert frontend.frequencies.tolist() == [k * 15.625 for k in range(4, 500)]
    assert frontend(torch.randn(1, 1600)).shape == (1, 1, 496, frontend.n_frames(1600))


def test_magnitude_is_the_root_of_power():
    wave = torch.from_numpy(chirp_tone_noise(4000))[None]
    power = build_frontend(stft_config())(wave)
    magnitude = build_frontend(stft_config(output="magnitude"))(wave)
    assert relative(magnitude, power.sqrt().numpy()) < 1e-6


@BOTH
def test_complex_picture_is_librosas_spectrum(backend):
    wave = chirp_tone_noise(12345)
    image = build_frontend(stft_config(backend=backend, output="complex"))(torch.from_numpy(wave)[None])
    spectrum = librosa.stft(wave.astype("f8"), n_fft=1024, hop_length=167, pad_mode="constant", dtype=np.complex128)
    assert image.shape == (1, 2, 513, 74)
    assert relative(image[0], np.stack([spectrum.real, spectrum.imag])) < 1e-6


@pytest.mark.parametrize("compress", ["log", "db"])
def test_complex_picture_keeps_phases_and_has_the_height_of_the_power_picture(compress):
    wave = torch.from_numpy(chirp_tone_noise(4000))[None]
    power = build_frontend(stft_config(compress=compress))
    raw = build_frontend(stft_config(output="complex"))(wave)[:, 0:2]
    image = build_frontend(stft_config(output="complex", compress=compress))(wave)
    height = power(wave) - power(torch.zeros_like(wave))
    assert torch.allclose(image.square().sum(1, keepdim=True).sqrt(), height, atol=1e-3)
    turned = image[:, 0] * raw[:, 1] - image[:, 1] * raw[:, 0]
    assert (turned.abs() <= 1e-5 * image.square().sum(1).sqrt() * raw.square().sum(1).sqrt() + 1e-12).all()
    assert ((image * raw).sum(1) >= 0).all()


@BOTH
@pytest.mark.parametrize("compress", ["log", "db", "none"])
def test_complex_silence_is_zero_with_a_finite_gradient(backend, compress):
    silence = torch.zeros(2, 2000, requires_grad=True)
    image = build_frontend(stft_config(backend=backend, output="complex", compress=compress))(silence)
    image.square().sum().backward()
    assert (image == 0).all()
    assert silence.grad.isfinite().all()


def test_energy_is_that_of_the_windowed_wave():
    # Parseval, frame by frame: the two-sided spectrum's power is n_fft times the energy under the window.
    wave = torch.from_numpy(chirp_tone_noise(5000))[None]
    power = build_frontend(stft_config())(wave)[0, 0].double()
    both_sides = 2 * power.sum(0) - power[0] - power[-1]
    frames = torch.nn.functional.pad(wave, (512, 512)).unfold(-1, 1024, 167)[0].double()
    torch.testing.assert_close(both_sides, 1024 * (frames * hann(1024, 1024)).square().sum(1), rtol=1e-5, atol=1e-9)


@BOTH
def test_trainable_kernels_receive_gradients(backend):
    if backend == "fft":
        with pytest.raises(UserError, match="backend=nnaudio"):
            build_frontend(stft_config(trainable=True))
        return
    frontend = build_frontend(stft_config(backend="nnaudio", trainable=True, compress="log", n_fft=256, win_length=256))
    frontend(torch.randn(2, 2000)).sum().backward()
    parameters = dict(frontend.named_parameters())
    assert sorted(parameters) == ["spectrum.stft.wcos", "spectrum.stft.wsin"]
    assert all(p.grad.abs().sum() > 0 and p.grad.isfinite().all() for p in parameters.values())
    assert sorted(frontend.state_dict()) == sorted(parameters)


def test_fixed_kernels_stay_out_of_files_and_stdout(capsys):
    for backend in ("fft", "nnaudio"):
        frontend = build_frontend(stft_config(backend=backend))
        assert not frontend.state_dict()
        assert not list(frontend.parameters())
    assert capsys.readouterr().out == ""


def test_window_is_the_periodic_hann_in_the_middle():
    n = np.arange(400)
    np.testing.assert_allclose(hann(400, 1024)[312:712], 0.5 - 0.5 * np.cos(2 * np.pi * n / 400), atol=1e-7)
    assert hann(400, 1024)[:312].sum() == hann(400, 1024)[712:].sum() == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"f_max": 8001.0}, "f_max=8001 Hz lies above 8000 Hz"),
        ({"f_min": 9000.0}, "f_min=9000"),
        ({"f_min": 1.0, "f_max": 2.0}, "no Fourier bin"),
        ({"n_fft": 1023, "win_length": 512}, "n_fft=1023 must be even"),
        ({"win_length": 2048}, "win_length=2048"),
        ({"hop_length": 0}, "hop_length=0"),
        ({"backend": "fftw"}, "backend='fftw'"),
        ({"pad_mode": "wrap"}, "pad_mode='wrap'"),
        ({"output": "phase"}, "output='phase'"),
        ({"output": "complex", "compress": "pcen"}, "compress='pcen' .* output='complex'"),
    ],
)
def test_impossible_settings_name_the_setting(changes, words):
    with pytest.raises(UserError, match=words):
        build_frontend(stft_config(**changes))


def test_unknown_types_and_settings_are_named():
    with pytest.raises(UserError, match="type='cqt2' is unknown"):
        build_frontend("cqt2")
    with pytest.raises(UserError, match="stft has no setting 'nfft'; did you mean n_fft"):
        build_frontend("stft", nfft=512)
