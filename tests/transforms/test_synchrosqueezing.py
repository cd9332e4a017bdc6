"""Synchrosqueezing: equal to a plain loop in float64, lines of one row, and no power lost that was not left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from audiossl.transforms import FrontEnd, build_frontend

from audiossl.errors import UserError

SECONDS = torch.arange(16000) / 16000


def noise(batch: int, n_samples: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return 0.1 * torch.randn(batch, n_samples, generator=torch.Generator().manual_seed(0), dtype=dtype)


def written_out(wave: np.ndarray, squeezed: FrontEnd) -> tuple[np.ndarray, float]:
    """Picture in float64, cell by cell, and the summed power of the cells that it holds."""
    config, margin = squeezed.config, 8000
    padded = np.pad(wave.astype("f8"), margin)
    frequency = np.fft.fftfreq(len(padded))
    spectrum = np.fft.fft(padded)
    step = math.log(config.f_max / config.f_min) / (config.n_bins - 1)
    beyond = math.ceil(math.log(1 + 3 / config.w0) / step * config.voices)
    last = config.voices * (config.n_bins - 1)
    hz = config.f_min * np.exp(np.arange(-beyond, last + beyond + 1) * step / config.voices)
    frames = margin + config.hop_length * np.arange(1 + len(wave) // config.hop_length)
    cells = []
    for centre in hz:
        r = frequency * config.sample_rate / centre
        w2 = config.w0**2
        response = 2 * np.exp(-0.5 * w2 * (r - 1) ** 2) * (1 - np.exp(-w2 * np.abs(r))) / (1 - math.exp(-w2))
        response[(frequency <= 0) | (frequency > 0.5)] = 0
        value = np.fft.ifft(spectrum * response)[frames]
        slope = np.fft.ifft(spectrum * response * 2j * np.pi * frequency)[frames]
        cells.append((value, slope))
    largest = max(np.abs(value).max() for value, _ in cells)
    # Squared heights of a sine in wavelets of all frequencies.
    norm = sum(math.exp(-(config.w0**2) * ((hz[1] / hz[0]) ** k - 1) ** 2) for k in range(-1000, 1001))
    image, kept = np.zeros((config.n_bins, len(frames))), 0.0
    for value, slope in cells:
        for t in range(len(frames)):
            if abs(value[t]) <= config.threshold * largest:
                continue
            turns_hz = (slope[t] / value[t]).imag / (2 * np.pi) * config.sample_rate
            row = round(math.log(turns_hz / config.f_min) / step) if turns_hz > 0 else -1
            if 0 <= row < config.n_bins:
                image[row, t] += abs(value[t]) ** 2 / norm
                kept += abs(value[t]) ** 2 / norm
    return image, kept


@pytest.mark.parametrize("n_samples", [4000, 501])
@pytest.mark.parametrize(("n_bins", "voices", "w0"), [(32, 2, 12.0), (16, 4, 6.0)])
def test_picture_equals_a_plain_loop(n_samples, n_bins, voices, w0):
    seconds = SECONDS[:n_samples]
    wave = 0.01 * noise(1, n_samples) + torch.sin(2 * torch.pi * (300 * seconds + 4000 * seconds**2))
    squeezed = build_frontend(
        "synchrosqueezing", f_min=200.0, n_bins=n_bins, voices=voices, w0=w0, threshold=1e-2, compress="none"
    )
    image = squeezed(wave)[0, 0].double().numpy()
    expected, kept = written_out(wave[0].numpy(), squeezed)
    assert expected.sum() == pytest.approx(kept)
    assert image.sum() == pytest.approx(kept, rel=2e-3)
    # A cell that turns just at the edge of two rows may fall to either side.
    assert np.abs(image - expected).sum() < 0.02 * expected.sum()


@pytest.mark.parametrize("row", [0, 5, 20, 40, 60])
def test_tone_lies_in_its_one_row_with_height_1(row):
    squeezed = build_frontend("synchrosqueezing", compress="none")
    tone = torch.sin(2 * torch.pi * squeezed.frequencies[row] * SECONDS)
    image = squeezed(tone[None])[0, 0, :, 30:-30]
    assert torch.allclose(image[row], torch.tensor(1.0), atol=0.01)
    assert (image.sum(0) - image[row]).max() < 1e-4


def test_two_tones_stand_apart_where_wavelets_overlap():
    squeezed = build_frontend("synchrosqueezing", compress="none")
    rows = [40, 44]
    wave = sum(torch.sin(2 * torch.pi * squeezed.frequencies[row] * SECONDS) for row in rows)
    image = squeezed(wave[None])[0, 0, :, 30:-30].mean(1)
    wavelets = build_frontend("cwt", w0=12.0, compress="none")(wave[None])[0, 0, :, 30:-30].mean(1)
    assert sorted(image.topk(2).indices.tolist()) == rows
    assert image[rows].sum() > 0.9 * image.sum()
    assert wavelets[rows].sum() < 0.6 * wavelets.sum()


def test_chirp_is_a_line():
    squeezed = build_frontend("synchrosqueezing", compress="none")
    hz = 500.0 * 2 ** (3 * SECONDS)
    wave = torch.sin(2 * torch.pi * 500.0 * (2 ** (3 * SECONDS) - 1) / (3 * math.log(2)))
    image = squeezed(wave[None])[0, 0, :, 10:-10]
    expected = (hz[::167][10:-10, None].log() - squeezed.frequencies.log()).abs().argmin(1)
    assert (image.argmax(0) - expected).abs().max() <= 1
    assert (image.amax(0) / image.sum(0)).mean() > 0.75


def test_no_power_is_lost_where_batch_and_single_clip_differ():
    # Which of two rows a cell belongs to may hang on rounding, but not how much there is of it.
    waves = noise(3, 8000)
    squeezed = build_frontend("synchrosqueezing", compress="none")
    whole, single = squeezed(waves).sum(2), torch.cat([squeezed(wave[None]) for wave in waves]).sum(2)
    assert (whole - single).norm() < 1e-6 * single.norm()


def test_quiet_clip_is_measured_by_itself():
    waves = torch.stack([noise(1, 8000)[0], 1e-3 * noise(1, 8000)[0]])
    loud, quiet = build_frontend("synchrosqueezing", compress="none")(waves)
    assert torch.allclose(quiet * 1e6, loud, rtol=1e-2, atol=1e-4)


def test_gradient_of_the_power_is_right():
    squeezed = build_frontend("synchrosqueezing", compress="none", n_bins=8, f_min=500.0, hop_length=50)
    wave = noise(1, 120, torch.float64)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    # Along the wave's own direction no cell moves, so that the gradient is the whole derivative.
    (gradient,) = torch.autograd.grad(squeezed.transform(scale * wave).sum(), scale)
    assert float(gradient) == pytest.approx(2.0 * float(squeezed.transform(wave).sum()), rel=1e-9)


def test_impossible_settings_say_what_to_do():
    with pytest.raises(UserError, match="n_bins=1 must be at least 2"):
        build_frontend("synchrosqueezing", n_bins=1)
    with pytest.raises(UserError, match="voices=0 must be at least 1"):
        build_frontend("synchrosqueezing", voices=0)
    with pytest.raises(UserError, match=r"w0=2\.0 must be at least 3"):
        build_frontend("synchrosqueezing", w0=2.0)
    with pytest.raises(UserError, match="f_min=0 Hz is no row of a wavelet transform"):
        build_frontend("synchrosqueezing", f_min=0.0)
