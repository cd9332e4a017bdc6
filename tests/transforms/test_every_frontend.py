"""What every front end owes, whatever its type: shapes, times, finiteness, independence of batch and precision."""

from __future__ import annotations

import pytest
import torch
from audiossl.transforms import FrontEnd, FrontEndConfig, build_frontend
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
EVERY = pytest.mark.parametrize("kind", sorted(FrontEndConfig.get_known_choices()))


def build(kind: str, **changes) -> FrontEnd:
    return build_frontend(kind, **{**SETTINGS.get(kind, {}), **changes})


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
def test_batch_equals_single(kind, waves):
    frontend = build(kind)
    whole, single = frontend(waves), torch.cat([frontend(wave[None]) for wave in waves])
    differ = ~torch.isclose(whole, single, atol=1e-3)
    assert differ.float().mean() <= MOVED.get(kind, 0.0)


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
