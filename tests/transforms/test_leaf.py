"""LEAF: the paper's convolutions written out, energies, and filters that learn to find a tone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from audiossl.transforms import LeafConfig, Pcen, build_frontend
from audiossl.transforms.leaf import MAX_WIDTH_S, MIN_WIDTH_SAMPLES

from audiossl.errors import UserError


def by_convolution(wave: np.ndarray, centres, widths, pools, hop: int) -> np.ndarray:
    """Gabor filters, squared modulus, Gaussian low-pass at every hop-th sample, in the time domain and float64."""
    rows = []
    for centre, width, pool in zip(centres, widths, pools, strict=True):
        reach = int(8 * width)
        t = np.arange(-reach, reach + 1)
        gabor = np.exp(1j * centre * t - t**2 / (2 * width**2)) / (np.sqrt(2 * np.pi) * width)
        power = np.abs(np.convolve(np.pad(wave, 2000), gabor, mode="same")) ** 2
        t = np.arange(-int(6 * pool * hop), int(6 * pool * hop) + 1)
        lowpass = np.exp(-(t**2) / (2 * (pool * hop) ** 2))
        smooth = np.convolve(power, lowpass / lowpass.sum(), mode="same")[2000 : 2000 + len(wave) + 1]
        rows.append(smooth[::hop][: 1 + len(wave) // hop])
    return np.stack(rows)


@pytest.mark.parametrize(("n_samples", "hop_length"), [(4000, 167), (3001, 100), (16800, 400)])
def test_equals_the_papers_convolutions(n_samples, hop_length):
    wave = torch.randn(1, n_samples, generator=torch.Generator().manual_seed(0))
    leaf = build_frontend(LeafConfig(n_bins=6, f_min=300.0, f_max=7000.0, hop_length=hop_length, compress="none"))
    with torch.no_grad():
        # From the narrowest to the widest filter and low-pass that are allowed.
        leaf.widths.copy_(torch.tensor([MIN_WIDTH_SAMPLES, 5.0, 15.0, 40.0, 80.0, leaf.max_width]))
        leaf.centres.copy_(torch.tensor([1.5, 0.8, 0.5, 1.0, 2.0, 2.9]))
        leaf.pools.copy_(torch.tensor([0.5, 0.25, 1.0, 0.5, 0.3, 0.7]))
        image = leaf(wave)[0, 0]
        expected = by_convolution(
            wave[0].double().numpy(), leaf.centres.tolist(), leaf.widths.tolist(), leaf.pools.tolist(), hop_length
        )
    error = np.linalg.norm(image.numpy() - expected, axis=1) / np.linalg.norm(expected, axis=1)
    # The filter of 1.5 samples reaches beyond 0 and half the sample rate, where this one has nothing.
    assert error[0] < 0.3
    assert error[1:].max() < 1e-4


def test_a_tone_has_its_power_in_its_row():
    leaf = build_frontend(LeafConfig(compress="none"))
    hz = float(leaf.frequencies[30])
    tone = 0.5 * torch.cos(2 * torch.pi * hz * torch.arange(16000) / 16000)[None]
    column = leaf(tone)[0, 0, :, 48].detach()
    assert column.argmax() == 30
    assert float(column[30]) == pytest.approx(0.5**2 / 4, rel=1e-3)  # |A/2 e^iwt|^2, gain 1 at the centre


def test_frame_is_centred_on_its_sample():
    click = torch.zeros(1, 16000)
    click[0, 50 * 167] = 1.0
    image = build_frontend(LeafConfig(compress="none"))(click)[0, 0]
    assert (image[10:].argmax(1) == 50).all()
    assert torch.allclose(image[10:, 49], image[10:, 51], rtol=1e-3)


def test_twice_as_loud_is_four_times_the_power_and_a_shift_moves_frames():
    leaf = build_frontend(LeafConfig(compress="none"))
    wave = torch.randn(1, 6000, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(leaf(2.0 * wave), 4.0 * leaf(wave), rtol=1e-4, atol=1e-8)
    later = torch.nn.functional.pad(wave, (5 * 167, 0))
    assert torch.allclose(leaf(later)[..., 5:], leaf(wave), rtol=1e-3, atol=1e-6)


def test_all_parameters_are_saved_and_receive_gradients():
    for compress, names in (("log", set()), ("pcen", {f"compress.{n}" for n in ("gain", "bias", "power", "share")})):
        leaf = build_frontend(LeafConfig(compress=compress))
        assert isinstance(leaf.compress, Pcen) == (compress == "pcen")
        leaf(0.1 * torch.randn(2, 4000)).square().mean().backward()
        parameters = dict(leaf.named_parameters())
        assert set(parameters) == set(leaf.state_dict()) == {"centres", "widths", "pools"} | names
        assert all(p.grad.isfinite().all() and (p.grad != 0).any() for p in parameters.values())


def test_gradient_is_right_for_waves_and_parameters():
    leaf = build_frontend(LeafConfig(n_bins=2, f_min=1000.0, f_max=5000.0, hop_length=40, compress="none")).double()
    wave = torch.randn(1, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
    # gradcheck changes the parameters in place, and transform reads them: `forward` would compute in float32.
    assert torch.autograd.gradcheck(lambda wave, *_: leaf.transform(wave), (wave, *leaf.parameters()), rtol=1e-3)


def test_steps_move_a_filter_to_the_tone_it_is_asked_to_find():
    leaf = build_frontend(LeafConfig(n_bins=1, f_min=1000.0, f_max=2200.0))
    start = float(leaf.centres_hz())
    tone = torch.sin(2 * torch.pi * 1700.0 * torch.arange(4000) / 16000)[None]
    assert abs(start - 1700.0) > 150
    optimizer = torch.optim.Adam([leaf.centres], lr=5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        (-leaf(tone).mean()).backward()
        optimizer.step()
    assert abs(float(leaf.centres_hz()) - 1700.0) < 30


def test_parameters_out_of_bounds_are_held_there():
    leaf = build_frontend(LeafConfig(compress="pcen"))
    wave = 0.1 * torch.randn(1, 3000)
    with torch.no_grad():
        for value in (-100.0, 1e4):
            for parameter in leaf.parameters():
                parameter.fill_(value)
            assert leaf(wave).isfinite().all()
    assert leaf.max_width == pytest.approx(MAX_WIDTH_S * 16000) == pytest.approx(150.3, abs=0.1)


def test_impossible_settings_name_the_setting():
    with pytest.raises(UserError, match="n_bins=0"):
        build_frontend(LeafConfig(n_bins=0))
    with pytest.raises(UserError, match="f_max=9000"):
        build_frontend(LeafConfig(f_max=9000.0))
