"""What every front end owes, whatever its type: shapes, times, finiteness, independence of batch and precision."""

from __future__ import annotations

import pytest
import torch
from audiossl.transforms import CwtConfig, FrontEnd, FrontEndConfig, MelConfig, build_frontend
from audiossl.transforms import frontend as frontend_module
from audiossl.transforms.config import fingerprint_of
from audiossl.transforms.frontend import HOMES

from audiossl.errors import UserError

# Settings that make a slow type quick enough for tests; every other type is tested with its defaults.
SETTINGS: dict[str, dict] = {
    "matching_pursuit": {"segment_length": 256, "n_scales": 2, "n_atoms": 4},
}
# Types whose picture has no gradient, and why.
NO_GRADIENT: dict[str, str] = {
    "emd": "sifting is a loop of comparisons outside of torch",
}
# Types that move power to the cell of its own frequency: where that is all but halfway between two rows, rounding of a
# transform of three clips, which is not that of one, decides. Both rows of one coefficient in ten thousand may differ.
MOVED: dict[str, float] = {"synchrosqueezing": 5e-4}
# Settings so small that finite differences are quick: three frames of a hundred samples.
BAND = {"n_bins": 4, "f_min": 500.0, "f_max": 7000.0, "hop_length": 40}
FOURIER = {"n_fft": 64, "win_length": 64, "hop_length": 40, "f_min": 0.0, "f_max": 8000.0}
SMALL: dict[str, dict] = {
    "chroma": {**FOURIER, "n_bins": 3},
    "cqt": BAND,
    "cwt": BAND,
    "dwt": {"level": 3, "hop_length": 40},
    "fbank": {"n_bins": 4, "win_length": 64, "hop_length": 40},
    "gammatone": BAND,
    "leaf": BAND,
    "matching_pursuit": {**BAND, "segment_length": 64, "n_scales": 1, "n_atoms": 2},
    "mel": {**FOURIER, "n_bins": 4},
    "mfcc": {**FOURIER, "n_bins": 3, "n_mels": 4},
    "reassigned": {**FOURIER, "n_bins": 4},
    "scattering": BAND,
    "stack": {**BAND, "types": ["mel", "gammatone"]},
    "stft": FOURIER,
    "synchrosqueezing": BAND,
    "vqt": BAND,
    "wavelet_packet": {"level": 2, "hop_length": 40},
    "wigner_ville": {**BAND, "win_length": 15},
}
EVERY = pytest.mark.parametrize("kind", sorted(FrontEndConfig.get_known_choices()))


def build(kind: str, **changes) -> FrontEnd:
    return build_frontend(kind, **{**SETTINGS.get(kind, {}), **changes})


def compressions(kind: str) -> list[str]:
    """Cells that moved are told from others by their logarithm; cepstra are logarithms."""
    return ["log"] if kind in ("mfcc", *MOVED) else ["log", "none"]


def assert_same(kind: str, image: torch.Tensor, reference: torch.Tensor) -> None:
    """Equal to a millionth of the norm: FFTs and sums of several clips may run in another order than of one."""
    moved = ~torch.isclose(image, reference, atol=1e-3)
    assert moved.float().mean() <= MOVED.get(kind, 0.0)
    assert (image - reference)[~moved].norm() < 1e-6 * reference[~moved].norm()


@pytest.fixture(scope="module")
def waves() -> torch.Tensor:
    return 0.1 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))


def test_every_configuration_has_a_front_end():
    assert sorted(HOMES) == sorted(FrontEndConfig.get_known_choices())


@EVERY
@pytest.mark.parametrize("n_samples", [1, 2, 100, 1023, 8000])
def test_any_length_gives_the_stated_shape(kind, n_samples):
    frontend = build(kind)
    wave = 0.1 * torch.randn(2, n_samples, generator=torch.Generator().manual_seed(1))
    image = frontend(wave)
    assert image.shape == (2, frontend.n_channels, frontend.n_bins, frontend.n_frames(n_samples))
    assert image.dtype == torch.float32
    assert image.isfinite().all()
    assert frontend.times(n_samples).shape == (image.shape[-1],)


@EVERY
def test_no_buffer_is_of_a_type_that_some_devices_lack(kind):
    kinds = {buffer.dtype for buffer in build(kind).buffers()}
    assert not kinds & {torch.float64, torch.complex128}  # MPS has neither


@EVERY
def test_frequencies_ascend_within_the_band(kind):
    hz = build(kind).frequencies
    assert hz.shape == (build(kind).n_bins,)
    assert (hz.diff() >= 0).all()
    assert hz.min() >= 0
    assert hz.max() <= 8000


@EVERY
def test_batch_equals_single_and_pieces_equal_whole(kind, waves, monkeypatch):
    for compress in compressions(kind):
        frontend = build(kind, compress=compress)
        one_clip = frontend.temporary_bytes(waves.shape[1])
        pictures = {}
        for at_a_time in (3, 2, 1):
            monkeypatch.setattr(frontend_module, "CHUNK_BYTES", at_a_time * one_clip)
            assert frontend._chunk(waves) == at_a_time
            pictures[at_a_time] = frontend(waves)
        assert_same(kind, torch.cat([frontend(wave[None]) for wave in waves]), pictures[3])
        assert_same(kind, pictures[2], pictures[3])
        assert_same(kind, pictures[1], pictures[3])


@EVERY
def test_silence_is_finite_in_value_and_gradient(kind):
    frontend = build(kind)
    silence = torch.zeros(2, 3000, requires_grad=True)
    image = frontend(silence)
    assert image.isfinite().all()
    if kind not in NO_GRADIENT:
        image.sum().backward()
        assert silence.grad.isfinite().all()


@EVERY
def test_sound_makes_a_gradient(kind, waves):
    if kind in NO_GRADIENT:
        pytest.skip(NO_GRADIENT[kind])
    wave = waves.clone().requires_grad_()
    build(kind)(wave).square().mean().backward()
    assert wave.grad.isfinite().all()
    assert (wave.grad.abs().sum(1) > 0).all()


@EVERY
def test_gradients_in_float64(kind):
    if kind in NO_GRADIENT:
        pytest.skip(NO_GRADIENT[kind])
    frontend = build_frontend(kind, **SMALL[kind]).double()
    t = torch.arange(100) / 16000
    noise = 0.1 * torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    wave = (torch.sin(2 * torch.pi * (1000 + 40000 * t) * t) + noise).double().requires_grad_()
    # `forward` would round to float32.
    assert frontend.transform(wave).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda wave: frontend.compress(frontend.transform(wave)), wave)


@EVERY
def test_autocast_and_half_waves_do_not_touch_the_arithmetic(kind, waves):
    frontend = build(kind)
    plain = frontend(waves[:1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = frontend(waves[:1])
    assert torch.equal(plain, under)
    assert frontend(waves[:1].half()).dtype == torch.float32


@EVERY
def test_kernels_stay_out_of_files_unless_trained(kind):
    frontend = build(kind)
    assert sorted(frontend.state_dict()) == sorted(name for name, _ in frontend.named_parameters())


@EVERY
def test_a_configuration_survives_the_way_through_plain_values(kind):
    config = build(kind).config
    values = config.to_dict()
    again = FrontEndConfig.get_choice_class(values.pop("type"))(**values)
    assert again == config
    assert again.fingerprint() == config.fingerprint()


def test_fingerprints_are_those_of_files_that_exist():
    # Statistics and caches are found by them: a change means that none of those on disk fits any more.
    assert MelConfig().fingerprint() == "8a1acd0fb18ed665"
    assert CwtConfig().fingerprint() == "3c5acc86cf8a88d5"
    assert MelConfig(n_bins=32, hop_length=334).fingerprint() == "e62d408d11e4215f"  # of the models `words`
    # sha256 of {"floor": 1e-06, "n_bins": 64, "trainable": false, "type": "mel"}
    values = {"type": "mel", "n_bins": 64, "floor": 1e-6, "trainable": False}
    assert fingerprint_of(values) == "0aaf52e0200af614"


@EVERY
def test_it_prints_itself(kind):
    frontend = build(kind)
    assert f"type={kind}" in repr(frontend)
    assert f"sample_rate={frontend.sample_rate}" in repr(frontend)


@EVERY
def test_nan_and_wrong_shapes_are_refused(kind):
    frontend = build(kind)
    wave = torch.zeros(2, 1000)
    wave[1, 3] = float("nan")
    with pytest.raises(UserError, match="wave 1 of the batch holds NaN"):
        frontend(wave)
    for wrong in (torch.zeros(1000), torch.zeros(1, 1, 1000), torch.zeros(2, 0), torch.zeros(2, 9, dtype=torch.int16)):
        with pytest.raises(UserError, match="wave"):
            frontend(wrong)


@EVERY
@pytest.mark.parametrize(("key", "value"), [("hop_length", 0), ("sample_rate", 0), ("compress", "loud")])
def test_impossible_settings_name_the_setting(kind, key, value):
    with pytest.raises(UserError, match=key):
        build(kind, **{key: value})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@EVERY
def test_a_gpu_makes_the_same_picture(kind, waves):
    frontend = build(kind, compress="none")
    on_cpu = frontend(waves)
    on_gpu = frontend.to("cuda")(waves.to("cuda")).cpu()
    assert (on_gpu - on_cpu).norm() < 1e-3 * on_cpu.norm()
