"""The Wigner-Ville picture: its formula, closed forms of chirps and tones, marginals, and tftb as the oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from audiossl.transforms import WignerVille, WignerVilleConfig, build_frontend
from audiossl.transforms.wigner_ville import (
    analytic_signal,
    hann_around,
    lag_basis,
    lag_products,
    smoothed_lag_products,
)

from audiossl.errors import UserError

RATE = 16000


def wigner_ville(**changes) -> WignerVille:
    plain = {"f_min": 0.0, "f_max": 8000.0, "compress": "none", "rectify": "none"}
    frontend = build_frontend(WignerVilleConfig(**{**plain, **changes}))
    assert isinstance(frontend, WignerVille)
    return frontend


def in_float64(frontend: WignerVille, wave: np.ndarray) -> np.ndarray:
    """The picture (F, T) of one clip, computed in double precision."""
    return frontend.double().transform(torch.from_numpy(wave)[None])[0, 0].numpy()


def noise(n_samples: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(n_samples)


def plain_distribution(z, at, half, g, hz):
    """The definition as it stands in the module's first lines, for one instant and an array of frequencies."""
    reach, window = len(g) // 2, hann_around(half).numpy()
    value = np.zeros(len(hz), dtype=complex)
    for p in range(-reach, reach + 1):
        for m in range(-half, half + 1):
            if 0 <= at + p + m < len(z) and 0 <= at + p - m < len(z):
                product = z[at + p + m] * z[at + p - m].conj()
                value += g[reach + p] * window[half + m] * product * np.exp(-4j * np.pi * hz * m / RATE)
    assert np.abs(value.imag).max() < 1e-12
    return value.real


@pytest.mark.parametrize("n_samples", [1, 2, 7, 400, 401])
def test_the_analytic_signal_is_scipys(n_samples):
    from scipy.signal import hilbert

    wave = noise(n_samples)
    assert np.abs(analytic_signal(torch.from_numpy(wave)).numpy() - hilbert(wave)).max() < 1e-14


@pytest.mark.parametrize("smoothing_hops", [0.0, 0.5, 2.0, 3.3])
def test_rows_are_means_of_the_definition(smoothing_hops):
    frontend = wigner_ville(hop_length=20, win_length=31, n_bins=5, smoothing_hops=smoothing_hops)
    wave = noise(101)
    image = in_float64(frontend, wave)
    assert image.shape == (5, 6)
    fine = np.linspace(0, 8000, 5000, endpoint=False) + 0.8  # a thousand frequencies a row
    z = analytic_signal(torch.from_numpy(wave)).numpy()
    for frame in range(6):
        exact = plain_distribution(z, 20 * frame, 15, frontend.smoothing.numpy(), fine)
        assert np.abs(image[:, frame] - exact.reshape(5, 1000).mean(1)).max() < 1e-6 * np.abs(exact).max()


def test_the_pseudo_distribution_is_tftbs():
    pytest.importorskip("tftb", reason="tftb, the oracle, is not installed")
    from tftb.processing import PseudoWignerVilleDistribution

    t = np.arange(1024) / RATE
    wave = np.cos(2 * np.pi * (500 + 30000 * t) * t) + 0.5 * np.cos(2 * np.pi * 6000 * t) + noise(1024)
    z = analytic_signal(torch.from_numpy(wave.astype("f4")))[None]
    oracle, _, _ = PseudoWignerVilleDistribution(
        z[0].numpy().astype(complex), n_fbins=512, fwindow=hann_around(100).numpy()
    ).run()
    basis = lag_basis(100, RATE, torch.arange(512) * RATE / 1024, 0.0)
    image = (basis.float() @ lag_products(z, 100, 10))[0].numpy()
    assert np.linalg.norm(image - oracle[:, ::10]) < 1e-6 * np.linalg.norm(oracle[:, ::10])


# Of `short_signal` tftb 0.2.0 gives these columns, with sixteen rows, at sample 10 and 20 (pseudo) and at 11 and 21
# (smoothed). It cannot be installed beside numpy 2, which it runs with.
PSEUDO = [
    [0.03221077, -0.16209283, 0.69115445, 3.53329339, 6.03247108, 4.78423583, 0.0036193, -4.40579901,
     -5.05184363, -2.28264279, 0.70834485, 1.67859796, 1.13479981, 0.38524712, -0.02289258, -0.00297563],
    [0.01459553, -0.02711853, 0.04883858, -0.05905898, -0.05437859, 1.81454718, 4.92153232, 4.66074418,
     -0.14404193, -3.75540583, -2.41008599, 0.48034828, 1.18610307, 0.41987802, -0.03469894, -0.00607028],
]  # fmt: skip
SMOOTHED = [
    [2.49183613, 2.56206519, 4.61270489, 5.89433705, 1.7524809, -3.26798581, -2.9080326, -0.20497309,
     0.40190632, -0.15792494, -0.44056994, 0.20530983, 1.89152051, 2.57408049, 1.94861052, 2.145548],
    [1.74824071, 1.74174897, 2.10790016, 2.02316408, 2.83118196, 2.94249185, -1.5119582, -5.27050334,
     -1.85437277, 2.16521492, 0.75056461, -0.3565232, 1.56979702, 2.2131753, 1.62924503, 1.81182993],
]  # fmt: skip


def short_signal() -> np.ndarray:
    t = np.arange(32)
    return np.exp(2j * np.pi * (0.05 * t + 0.004 * t**2)) + 0.5 * np.exp(2j * np.pi * 0.35 * t)


def test_the_columns_are_tftbs():
    processing = pytest.importorskip("tftb.processing", reason="tftb, the oracle, is not installed")
    window, smoothing = hann_around(5).numpy(), hann_around(3).numpy()
    pseudo, _, _ = processing.PseudoWignerVilleDistribution(short_signal(), n_fbins=16, fwindow=window).run()
    smoothed = processing.smoothed_pseudo_wigner_ville(short_signal(), freq_bins=16, twindow=smoothing, fwindow=window)
    np.testing.assert_allclose(pseudo[:, [10, 20]].T, PSEUDO, rtol=0.0, atol=1e-7)
    np.testing.assert_allclose(smoothed[:, [11, 21]].T, SMOOTHED, rtol=0.0, atol=1e-7)


def test_the_pseudo_distribution_is_tftbs_columns():
    basis = lag_basis(5, RATE, torch.arange(16) * RATE / 32, 0.0)
    image = (basis @ lag_products(torch.from_numpy(short_signal())[None], 5, 10))[0].T[1:3]
    np.testing.assert_allclose(image, PSEUDO, rtol=0.0, atol=1e-7)


def test_the_smoothed_products_are_tftbs_columns():
    smoothing = hann_around(3) / hann_around(3).sum()
    products = smoothed_lag_products(torch.from_numpy(short_signal())[None], 5, 10, smoothing)[0].numpy()
    ours = (products[0::2] + 1j * products[1::2])[:5, 1:3]
    # tftb has the products of lag m in the place of lag m + 1, under the mean of both neighbours' windows, and those of
    # lag 0 in their own place as well. It counts instants from 1, hence sample 10 for 11.
    lags = np.fft.ifft(np.array(SMOOTHED), axis=1).T
    window = np.append(hann_around(5).numpy()[5:], 0.0)
    neighbours = np.array([window[m + 1] + window[abs(m - 1)] for m in range(5)]) / 2
    np.testing.assert_allclose(lags[0], ours[0], rtol=0.0, atol=1e-7)
    np.testing.assert_allclose(lags[1:6], neighbours[:, None] * ours, rtol=0.0, atol=1e-7)


def test_without_weights_beside_the_frame_smoothing_changes_nothing():
    z = analytic_signal(torch.from_numpy(noise(500)))[None]
    plain = lag_products(z, 20, 30)
    assert torch.allclose(smoothed_lag_products(z, 20, 30, torch.ones(1, dtype=torch.float64)), plain, atol=1e-15)


def test_a_chirp_has_its_ridge_on_the_instantaneous_frequency():
    t = torch.arange(4000, dtype=torch.float64) / RATE
    z = torch.polar(torch.full_like(t, 0.7), 2 * torch.pi * (1000 * t + 0.5 * 16000 * t.square()))[None]
    products = lag_products(z, 127, 100)
    for frame in (10, 20, 30):
        ridge = 1000 + 16000 * frame * 100 / RATE
        hz = torch.tensor([ridge - 80, ridge - 10, ridge, ridge + 10, ridge + 80], dtype=torch.float64)
        values = lag_basis(127, RATE, hz, 0.0) @ products[0, :, frame]
        # On the ridge every lag has the same phase: 0.49 times the sum of the window, 128.
        assert values[2] == pytest.approx(0.49 * 128, rel=1e-9)
        assert torch.allclose(values, values.flip(0), rtol=1e-9)
        assert values[0].abs() < 0.1 * values[2]


def test_two_tones_beat_midway_and_smoothing_averages_it_away():
    t = torch.arange(8000, dtype=torch.float64) / RATE
    tones = [torch.polar(torch.ones_like(t), 2 * torch.pi * hz * t) for hz in (1000.0, 3000.0)]
    products = lag_products((tones[0] + tones[1])[None], 127, 1)[0, :, 500:7500]
    basis = lag_basis(127, RATE, torch.tensor([1000.0, 2000.0, 3000.0]), 0.0)
    low, cross, high = basis @ products
    beat = 2 * torch.cos(2 * torch.pi * 2000 * t[500:7500])
    assert torch.allclose(cross, 128 * beat, atol=0.1)  # both signs, twice as high as the tones
    assert torch.allclose(low, torch.full_like(low, 128.0), atol=0.1)
    assert torch.allclose(high, low, atol=0.1)
    smooth = smoothed_lag_products((tones[0] + tones[1])[None], 127, 100, hann_around(99) / 100)[0, :, 5:75]
    low, cross, high = basis @ smooth
    assert cross.abs().max() < 0.1
    assert torch.allclose(low, torch.full_like(low, 128.0), atol=0.1)


def test_the_mean_over_frequency_is_the_instantaneous_power():
    wave = noise(3001)
    image = in_float64(wigner_ville(hop_length=50, smoothing_hops=0.0), wave)
    power = analytic_signal(torch.from_numpy(wave)).abs().square().numpy()
    np.testing.assert_allclose(image.mean(0), power[::50], atol=1e-14)


def test_with_two_hops_of_smoothing_no_sample_is_missed():
    wave = noise(3000)
    wave[:300] = wave[-300:] = 0.0
    frontend = wigner_ville(hop_length=100)
    assert len(frontend.smoothing) == 199
    power = analytic_signal(torch.from_numpy(wave)).abs().square().sum()
    # The ends are not quite silent: the analytic signal of a sound reaches a little beyond it.
    assert in_float64(frontend, wave).mean(0).sum() * 100 == pytest.approx(float(power), rel=1e-3)


def test_a_click_stands_at_its_instant():
    wave = np.zeros(4000, dtype="f4")
    wave[2000] = 1.0
    image = wigner_ville(hop_length=100, rectify="positive")(torch.from_numpy(wave)[None])[0, 0]
    assert int(image.sum(0).argmax()) == 20
    assert image[:, 20].min() > 0.4 * image[:, 20].max()  # all frequencies
    assert image[:, 22:].sum() + image[:, :19].sum() < 0.01 * image.sum()


def test_shift_and_scale():
    wave = noise(4000)
    frontend = wigner_ville(hop_length=100)
    image = in_float64(frontend, wave)
    np.testing.assert_allclose(in_float64(frontend, 4.0 * wave), 16.0 * image, rtol=1e-12)
    shifted = in_float64(frontend, np.roll(wave, 300))
    np.testing.assert_allclose(shifted[:, 8:36], image[:, 5:33], atol=1e-12)


@pytest.mark.parametrize("smoothing_hops", [0.0, 2.0])
def test_single_precision_is_exact_to_a_millionth(smoothing_hops):
    wave = noise(8001).astype("f4")
    single = wigner_ville(smoothing_hops=smoothing_hops)(torch.from_numpy(wave)[None])[0, 0].numpy()
    double = in_float64(wigner_ville(smoothing_hops=smoothing_hops), wave.astype("f8"))
    assert np.linalg.norm(single - double) < 1e-6 * np.linalg.norm(double)


@pytest.mark.parametrize("smoothing_hops", [0.0, 1.5])
def test_gradients_are_those_of_the_formula(smoothing_hops):
    frontend = wigner_ville(hop_length=9, win_length=7, n_bins=3, smoothing_hops=smoothing_hops).double()
    wave = torch.from_numpy(noise(60)).view(2, 30).requires_grad_()
    assert torch.autograd.gradcheck(frontend.transform, wave)


def test_what_becomes_of_negative_cells():
    wave = torch.from_numpy(noise(2000).astype("f4"))[None]
    signed = wigner_ville(smoothing_hops=0.0)(wave)
    assert (signed < 0).any()
    assert torch.equal(wigner_ville(smoothing_hops=0.0, rectify="positive")(wave), signed.clamp(min=0))
    assert torch.equal(wigner_ville(smoothing_hops=0.0, rectify="magnitude")(wave), signed.abs())


@pytest.mark.parametrize(("n_bins", "hop_length"), [(64, 167), (32, 334)])
def test_rows_have_equal_width_within_the_band(n_bins, hop_length):
    frontend = build_frontend("wigner_ville", n_bins=n_bins, hop_length=hop_length)
    width_hz = 7740 / n_bins
    assert torch.allclose(frontend.frequencies, 60 + width_hz * (torch.arange(n_bins) + 0.5))
    assert len(frontend.smoothing) == 2 * hop_length - 1
    tone = torch.sin(torch.arange(16000) * (2 * torch.pi * float(frontend.frequencies[9]) / RATE))
    assert (frontend(0.1 * tone[None])[0, 0, :, 1:-2].argmax(0) == 9).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"win_length": 256}, "win_length=256 must be odd"),
        ({"smoothing_hops": -1.0}, "smoothing_hops=-1.0 must be at least 0"),
        ({"rectify": "square"}, "rectify='square' is unknown"),
        ({"rectify": "none", "compress": "log"}, "rectify=none keeps negative cells"),
        ({"n_bins": 0}, "n_bins=0"),
        ({"f_max": 8001.0}, "f_max=8001 Hz"),
    ],
)
def test_impossible_settings_name_the_setting(changes, words):
    with pytest.raises(UserError, match=words):
        wigner_ville(**changes)
