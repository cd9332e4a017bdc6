"""Matching pursuit: scikit-learn's choice and residual, the atoms' shapes, and a picture that holds their energy."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from audiossl.transforms import MatchingPursuit, MatchingPursuitConfig, build_frontend
from audiossl.transforms.matching_pursuit import gabor_dictionary, gaussian_shares, orthogonal_pursuit
from sklearn.linear_model import orthogonal_mp_gram

from audiossl.errors import UserError

SMALL = {"segment_length": 256, "n_scales": 2, "n_atoms": 4, "hop_length": 100, "compress": "none"}


def matching_pursuit(**changes) -> MatchingPursuit:
    frontend = build_frontend(MatchingPursuitConfig(**{**SMALL, **changes}))
    assert isinstance(frontend, MatchingPursuit)
    return frontend


@functools.cache
def dictionary() -> tuple[torch.Tensor, torch.Tensor]:
    """Atoms (A, 256) and their Gram matrix in float64."""
    atoms = gabor_dictionary(MatchingPursuitConfig(**SMALL)).atoms
    return atoms, atoms @ atoms.T


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def residual_norms(signals, atoms, pursuit, coefficients) -> torch.Tensor:
    return (signals - torch.einsum("nk,nkl->nl", coefficients, atoms[pursuit.chosen])).norm(dim=1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_separated_signals_get_sklearns_atoms_and_amplitudes(dtype):
    atoms, gram = dictionary()
    generator = torch.Generator().manual_seed(1)
    picked = torch.randperm(len(atoms), generator=generator)[:400]
    far = gram[picked][:, picked].abs() < 0.05
    sets = [[int(i), int(j), int(k)] for i, j, k in torch.randint(400, (600, 3), generator=generator)]
    sets = [s for s in sets if far[s][:, s].sum() == 6][:40]
    assert len(sets) == 40
    amplitudes = torch.tensor([1.0, -0.6, 0.3], dtype=torch.float64)
    signals = torch.stack([amplitudes @ atoms[picked[s]] for s in sets]) + 1e-4 * noise(40, 256)
    correlations = signals @ atoms.T
    pursuit = orthogonal_pursuit(correlations.to(dtype), gram.to(dtype), 3)
    coefficients = pursuit.coefficients(correlations.to(dtype).gather(1, pursuit.chosen))
    expected = orthogonal_mp_gram(gram.numpy(), correlations.T.numpy(), n_nonzero_coefs=3).T
    ours = np.zeros_like(expected)
    np.put_along_axis(ours, pursuit.chosen.numpy(), coefficients.double().numpy(), axis=1)
    assert ((ours != 0) == (expected != 0)).all()
    assert np.abs(ours - expected).max() < (1e-10 if dtype == torch.float64 else 1e-5)


def test_on_noise_sklearn_has_the_same_atoms_and_residual():
    atoms, gram = dictionary()
    signals = noise(20, 256)
    correlations = signals @ atoms.T
    expected = torch.from_numpy(orthogonal_mp_gram(gram.numpy(), correlations.T.numpy(), n_nonzero_coefs=16).T)
    norms = (signals - expected @ atoms).norm(dim=1)
    pursuit = orthogonal_pursuit(correlations, gram, 16)
    assert (expected.gather(1, pursuit.chosen) != 0).all()
    single = orthogonal_pursuit(correlations.float(), gram.float(), 16)
    for found in (pursuit, single):
        coefficients = found.coefficients(correlations.gather(1, found.chosen).to(found.factor.dtype)).double()
        ours = residual_norms(signals, atoms, found, coefficients)
        assert torch.allclose(ours, norms, rtol=1e-4)


def test_each_step_is_the_best_atom_and_a_new_least_squares_fit():
    atoms, gram = dictionary()
    signal = noise(1, 256)
    pursuit = orthogonal_pursuit(signal @ atoms.T, gram, 8)
    explained = pursuit.explained((signal @ atoms.T).gather(1, pursuit.chosen))[0].square()
    residual, support = signal[0], []
    for k in range(8):
        support.append(int((atoms @ residual).abs().argmax()))
        basis = atoms[support].T
        after = signal[0] - basis @ torch.linalg.lstsq(basis, signal[0]).solution
        assert support[-1] == pursuit.chosen[0, k]
        assert explained[k] == pytest.approx(float(residual.square().sum() - after.square().sum()), rel=1e-9)
        residual = after


def test_nothing_left_to_explain_is_no_trouble_in_single_precision():
    atoms, gram = dictionary()
    signals = torch.stack([atoms[3] + atoms[900], 1e-3 * atoms[50], torch.zeros(256, dtype=torch.float64)])
    correlations = (signals @ atoms.T).float()
    pursuit = orthogonal_pursuit(correlations, gram.float(), 40)
    assert all(len(set(row)) == 40 for row in pursuit.chosen.tolist())
    found = correlations.gather(1, pursuit.chosen)
    assert pursuit.used[1:].sum(1).tolist() == [1.0, 0.0]
    energies = pursuit.explained(found).square()
    assert torch.allclose(energies.sum(1), signals.square().sum(1).float(), rtol=1e-4)
    norms = []
    for k in range(1, 41):
        part = pursuit._replace(
            chosen=pursuit.chosen[:, :k], factor=pursuit.factor[:, :k, :k], used=pursuit.used[:, :k]
        )
        norms.append(residual_norms(signals, atoms, part, part.coefficients(found[:, :k]).double()))
    assert (torch.stack(norms).diff(dim=0) <= 1e-6 * signals.norm(dim=1)).all()


def test_an_atom_that_adds_nothing_is_left_out():
    gram = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    correlations = torch.tensor([[2.0, 2.0, 0.5]])
    pursuit = orthogonal_pursuit(correlations, gram, 3)
    assert pursuit.chosen.tolist() == [[0, 2, 1]]
    assert pursuit.used.tolist() == [[1.0, 1.0, 0.0]]
    assert pursuit.coefficients(correlations.gather(1, pursuit.chosen)).tolist() == [[2.0, 0.5, 0.0]]


def test_atoms_are_gaussians_where_the_dictionary_says():
    config = MatchingPursuitConfig()
    atoms, scales, centres, hz = gabor_dictionary(config)
    assert len(atoms) == 3594
    assert sorted(set(scales.tolist())) == [16.0, 64.0, 256.0]
    assert torch.allclose(atoms.norm(dim=1), torch.ones(len(atoms), dtype=torch.float64))
    assert hz.min() >= config.f_min
    assert hz.max() <= config.f_max
    assert centres.abs().max() == 128
    # Away from the ends of segment and spectrum the energy lies as the picture draws it.
    inside = (scales < 200) & (torch.minimum(hz, 8000 - hz) * scales > 16000)
    t = torch.arange(512, dtype=torch.float64) - 256
    energy = atoms[inside].square()
    middle = energy @ t
    deviation = (energy * (t - middle[:, None]).square()).sum(1).sqrt()
    assert torch.allclose(middle, centres[inside], atol=0.2)
    assert torch.allclose(deviation, scales[inside] / (2 * math.sqrt(math.pi)), rtol=0.05)


@pytest.mark.parametrize("n_samples", [1, 2, 127, 128, 129, 1000])
def test_segments_add_up_to_the_clip(n_samples):
    frontend = matching_pursuit().double()
    wave = noise(2, n_samples)
    segments = frontend.segments(wave)
    whole = torch.zeros(2, 256 + 128 * segments.shape[1], dtype=torch.float64)
    for i in range(segments.shape[1]):
        whole[:, 128 * i : 128 * i + 256] += segments[:, i]
    assert torch.allclose(whole[:, 128 : 128 + n_samples], wave, atol=1e-7)
    assert 0 <= 128 * (segments.shape[1] - 1) - (n_samples - 1) < 128  # the last is centred at the end or after it


@pytest.mark.parametrize("hop_length", [50, 100, 167, 1000])
@pytest.mark.parametrize("n_samples", [1, 300, 4001])
def test_the_picture_holds_the_energy_that_the_atoms_explain(hop_length, n_samples):
    frontend = matching_pursuit(hop_length=hop_length).double()
    wave = noise(2, n_samples)
    segments = frontend.segments(wave)
    for clip, image in zip(segments, frontend.transform(wave), strict=True):
        pursuit, correlations = frontend.pursue(clip)
        coefficients = pursuit.coefficients(correlations)
        left = residual_norms(clip, frontend.atoms, pursuit, coefficients).square()
        assert float(image.sum()) == pytest.approx(float(clip.square().sum() - left.sum()), rel=1e-6)


def test_an_atom_is_drawn_at_its_time_and_frequency():
    frontend = matching_pursuit(n_bins=40)
    places = gabor_dictionary(frontend.config)
    for atom in (0, 500, 1200, len(places.atoms) - 1):
        image = frontend.draw(torch.tensor([[atom]] * 9), torch.eye(9)[5][:, None] * 2.0, 9, 12)[0, 0]
        assert image.sum() == pytest.approx(2.0, rel=1e-5)
        at = 5 * 128 + float(places.centres[atom])
        mean = float((image.sum(0) * torch.arange(12)).sum() / image.sum()) * 100
        assert mean == pytest.approx(at, abs=25)  # a quarter of a cell
        edges = 60 * (7800 / 60) ** (np.arange(41) / 40)
        row = int(np.searchsorted(edges, float(places.frequencies[atom]))) - 1
        assert abs(int(image.sum(1).argmax()) - row) <= 2  # wider rows above collect more of a wide atom


def test_shares_of_a_gaussian():
    shares = gaussian_shares(torch.linspace(-3, 3, 7), torch.tensor([0.5, 100.0]), torch.tensor([1.0, 0.1]))
    assert shares.shape == (2, 8)
    assert torch.allclose(shares.sum(1), torch.ones(2))
    assert shares[1, -1] == 1.0


def test_shift_and_scale():
    frontend = matching_pursuit(hop_length=64)
    wave = torch.zeros(1, 4096)
    wave[0, 1000:2500] = noise(1500).float()
    image = frontend(wave)
    assert torch.equal(frontend(4 * wave), 16 * image)
    assert torch.allclose(frontend(wave.roll(256)), image.roll(4, dims=-1), rtol=1e-3, atol=1e-4)


def test_two_tones_and_a_click_are_seen():
    frontend = matching_pursuit(n_bins=32, n_atoms=8, hop_length=128)
    t = torch.arange(8000) / 16000
    wave = torch.sin(2 * torch.pi * 500 * t) + 0.5 * torch.sin(2 * torch.pi * 3000 * t)
    wave[4000] += 10.0
    image = frontend(wave[None])[0, 0]
    rows = image[:, 5:25].mean(1)
    for hz in (500.0, 3000.0):
        row = int((frontend.frequencies.log() - math.log(hz)).abs().argmin())
        assert abs(int(rows[row - 3 : row + 4].argmax()) - 3) <= 1
    assert int(image[-4:].sum(0).argmax()) == 31


def test_gradients_are_those_of_the_amplitudes():
    frontend = matching_pursuit(n_bins=4, n_atoms=2, segment_length=32, n_scales=1, hop_length=20).double()
    wave = (0.1 * noise(2, 40)).requires_grad_()
    assert torch.autograd.gradcheck(frontend.transform, wave)


@pytest.mark.parametrize(("n_bins", "hop_length"), [(64, 167), (32, 334)])
def test_rows_have_equal_width_in_octaves(n_bins, hop_length):
    frontend = matching_pursuit(n_bins=n_bins, hop_length=hop_length)
    hz = frontend.frequencies.double()
    assert torch.allclose(hz[1:] / hz[:-1], torch.full((n_bins - 1,), (7800 / 60) ** (1 / n_bins)).double(), rtol=1e-5)
    assert hz[0] > 60 > hz[0] ** 2 / hz[1]
    assert frontend(torch.zeros(1, 16000)).shape == (1, 1, n_bins, 1 + 16000 // hop_length)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"f_min": 0.0}, "f_min=0 Hz"),
        ({"f_max": 9000.0}, "f_max=9000 Hz"),
        ({"segment_length": 130}, "segment_length=130 must be a multiple of 4"),
        ({"n_scales": 5}, "n_scales=5 makes atoms of 0.5 samples"),
        ({"f_min": 100.0, "f_max": 110.0}, "n_scales=2: no atom of 128 samples"),
        ({"n_atoms": 257}, "n_atoms=257 is more than the 256"),
        ({"n_atoms": 0}, "n_atoms=0"),
    ],
)
def test_impossible_settings_name_the_setting(changes, words):
    with pytest.raises(UserError, match=words):
        matching_pursuit(**changes)
