"""The mel front end: equal to librosa, and the properties that every front end must have."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from audiossl.transforms import MelConfig, Normalize, StftConfig, build_frontend, frontend
from audiossl.transforms.mel import hz_to_mel, mel_filters, mel_to_hz

from audiossl.errors import UserError

MINI = Path(__file__).parents[3] / "shared/data/speech-commands-35w-mini"
CONFIGS = {"mel": MelConfig, "stft": StftConfig}
EVERY = pytest.mark.parametrize(
    ("name", "backend"), [("mel", "fft"), ("mel", "nnaudio"), ("stft", "fft"), ("stft", "nnaudio")]
)
SCALES = pytest.mark.parametrize("scale", ["slaney", "htk"])
NORMS = pytest.mark.parametrize("norm", ["slaney", "none"])
RATES = pytest.mark.parametrize(
    ("rate", "n_fft", "n_bins", "f_max"), [(16000, 1024, 64, 7800.0), (32000, 2048, 128, 16000.0)]
)


@pytest.fixture(scope="module")
def wave() -> torch.Tensor:
    return 0.1 * torch.randn(5, 8000, generator=torch.Generator().manual_seed(0))


def relative(x: torch.Tensor | np.ndarray, reference: torch.Tensor | np.ndarray) -> float:
    x, reference = np.asarray(x), np.asarray(reference)
    return float(np.linalg.norm(x - reference) / np.linalg.norm(reference))


def two_signals(rate: int) -> np.ndarray:
    """Chirp, tone and noise; and a tone over noise at -80 dB: half a second each."""
    t = np.arange(rate // 2) / rate
    noise = np.random.default_rng(0).standard_normal(len(t))
    mixed = 0.3 * np.sin(2 * np.pi * (100 + 3000 * t) * t) + 0.1 * np.sin(2 * np.pi * 440 * t) + 0.05 * noise
    return np.stack([mixed, np.sin(2 * np.pi * 1000 * t) + 1e-4 * noise]).astype("f4")


@SCALES
@NORMS
@RATES
def test_filters_equal_librosa_and_torchaudio(scale, norm, rate, n_fft, n_bins, f_max):
    config = MelConfig(
        sample_rate=rate, n_fft=n_fft, win_length=n_fft, n_bins=n_bins, f_max=f_max, mel_scale=scale, norm=norm
    )
    filters, their_norm = mel_filters(config).numpy(), "slaney" if norm == "slaney" else None
    expected = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=n_bins, fmin=60.0, fmax=f_max, htk=scale == "htk", norm=their_norm,
        dtype=np.float64,
    )  # fmt: skip
    np.testing.assert_allclose(filters, expected, rtol=0.0, atol=1e-6 * expected.max())
    functional = pytest.importorskip("torchaudio").functional
    try:
        torch.set_default_dtype(torch.float64)  # in float32 theirs are off by 1e-5
        theirs = functional.melscale_fbanks(n_fft // 2 + 1, 60.0, f_max, n_bins, rate, their_norm, scale).T.numpy()
    finally:
        torch.set_default_dtype(torch.float32)
    assert theirs.dtype == np.float64
    np.testing.assert_allclose(filters, theirs, rtol=0.0, atol=1e-6 * theirs.max())


@SCALES
def test_mel_scale_inverts(scale):
    hz = torch.tensor([0.0, 60.0, 999.0, 1000.0, 1001.0, 8000.0], dtype=torch.float64)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz, scale), scale), hz, atol=1e-9)
    np.testing.assert_allclose(hz_to_mel(hz, scale), librosa.hz_to_mel(hz.numpy(), htk=scale == "htk"), atol=1e-9)


@pytest.mark.parametrize("backend", ["fft", "nnaudio"])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@SCALES
@NORMS
@RATES
def test_mel_equals_librosa(backend, pad_mode, scale, norm, rate, n_fft, n_bins, f_max):
    config = MelConfig(
        sample_rate=rate, n_fft=n_fft, win_length=n_fft, n_bins=n_bins, f_max=f_max, mel_scale=scale, norm=norm,
        backend=backend, pad_mode=pad_mode, compress="none",
    )  # fmt: skip
    waves = two_signals(rate)
    images = build_frontend(config)(torch.from_numpy(waves))[:, 0].numpy()
    expected = librosa.feature.melspectrogram(
        y=waves.astype("f8"), sr=rate, n_fft=n_fft, hop_length=167, pad_mode=pad_mode, n_mels=n_bins, fmin=60.0,
        fmax=f_max, htk=scale == "htk", norm="slaney" if norm == "slaney" else None, dtype=np.float64,
    )  # fmt: skip
    for image, exact in zip(images, expected, strict=True):
        assert relative(image, exact) < 1e-6
        heard = exact > 1e-8 * exact.max()  # 80 dB
        assert np.abs(10 * np.log10(image[heard] / exact[heard])).max() < 5e-3


@pytest.mark.parametrize("backend", ["fft", "nnaudio"])
def test_mel_of_magnitudes_equals_librosa(wave, backend):
    image = build_frontend(MelConfig(backend=backend, power=1.0, compress="none"))(wave)
    expected = librosa.feature.melspectrogram(
        y=wave.numpy().astype("f8"), sr=16000, n_fft=1024, hop_length=167, pad_mode="constant", power=1.0,
        n_mels=64, fmin=60.0, fmax=7800.0, dtype=np.float64,
    )  # fmt: skip
    assert relative(image[:, 0], expected) < 1e-6


def test_log_picture_of_both_backends_agrees(wave):
    pictures = [build_frontend(MelConfig(backend=backend))(wave) for backend in ("fft", "nnaudio")]
    assert (pictures[0] - pictures[1]).abs().max() < 1e-3


@EVERY
@pytest.mark.parametrize("compress", ["log", "none"])
def test_batch_equals_single_and_pieces_equal_whole(wave, name, backend, compress, monkeypatch):
    module = build_frontend(CONFIGS[name](backend=backend, compress=compress))
    whole = module(wave)
    # A convolution sums in another order: 2e-6 of the logarithms, where single bins all but vanish.
    bar = 3e-6 if (name, backend) == ("stft", "nnaudio") else 1e-6
    assert relative(torch.cat([module(one[None]) for one in wave]), whole) < bar
    monkeypatch.setattr(frontend, "CHUNK_BYTES", 2 * module.temporary_bytes(wave.shape[1]))
    assert module._chunk(wave) == 2
    assert relative(module(wave), whole) < bar


@EVERY
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("n_samples", [1, 511, 512, 513, 7919])
def test_any_length_gives_finite_pictures(name, backend, pad_mode, n_samples):
    module = build_frontend(CONFIGS[name](backend=backend, pad_mode=pad_mode))
    image = module(torch.randn(2, n_samples))
    assert image.shape == (2, 1, module.n_bins, module.n_frames(n_samples))
    assert image.isfinite().all()


@EVERY
@pytest.mark.parametrize("compress", ["log", "db", "pcen", "none"])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_silence_is_finite_in_value_and_gradient(name, backend, compress, power):
    held = {"power": power} if name == "mel" else {"output": "power" if power == 2.0 else "magnitude"}
    module = build_frontend(CONFIGS[name](backend=backend, compress=compress, **held))
    silence = torch.zeros(2, 2000, requires_grad=True)
    image = module(silence)
    image.sum().backward()
    assert image.isfinite().all()
    assert silence.grad.isfinite().all()


def test_gradient_of_the_wave_is_right():
    module = build_frontend(MelConfig(n_fft=256, win_length=256, n_bins=20, hop_length=64))
    wave = (0.5 * torch.randn(1, 600, generator=torch.Generator().manual_seed(1))).requires_grad_()
    module(wave).mean().backward()
    direction = torch.randn(1, 600, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        slope = (module(wave + 1e-3 * direction).mean() - module(wave - 1e-3 * direction).mean()) / 2e-3
    assert torch.allclose((wave.grad * direction).sum(), slope, rtol=1e-2)


@EVERY
def test_autocast_and_half_waves_do_not_touch_the_arithmetic(wave, name, backend):
    module = build_frontend(CONFIGS[name](backend=backend))
    plain = module(wave)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = module(wave)
    assert under.dtype == torch.float32
    assert torch.equal(plain, under)
    assert module(wave.half()).dtype == torch.float32


def test_low_frequency_comes_first():
    t = torch.arange(16000) / 16000
    module = build_frontend(MelConfig())
    for hz in (200.0, 1000.0, 5000.0):
        row = module(torch.sin(2 * torch.pi * hz * t)[None])[0, 0, :, 48].argmax()
        nearest = (module.frequencies - hz).abs().argmin()
        assert abs(int(row) - int(nearest)) <= 1


def test_frame_is_centred_on_its_sample():
    click = torch.zeros(1, 16000)
    click[0, 50 * 167] = 1.0
    energy = build_frontend(MelConfig(compress="none"))(click)[0, 0].sum(0)
    assert energy.argmax() == 50
    assert torch.allclose(energy[49], energy[51], rtol=1e-4)


def test_trainable_mel_receives_gradients_and_stays_finite_below_zero():
    config = MelConfig(backend="nnaudio", trainable=True, n_fft=256, win_length=256, n_bins=16)
    module = build_frontend(config)
    module(torch.randn(2, 2000)).sum().backward()
    gradients = {name: p.grad for name, p in module.named_parameters()}
    assert sorted(gradients) == ["filters", "spectrum.stft.wcos", "spectrum.stft.wsin"]
    assert all(g.isfinite().all() and g.abs().sum() > 0 for g in gradients.values())
    with torch.no_grad():
        module.filters -= 1.0
    assert module(torch.randn(2, 2000)).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_bins": 128, "n_fft": 256, "win_length": 256}, "n_bins=128 .* n_fft=256"),
        ({"n_bins": 0}, "n_bins=0"),
        ({"f_max": 9000.0}, "f_max=9000 Hz"),
        ({"mel_scale": "bark"}, "mel_scale='bark'"),
        ({"norm": "l1"}, "norm='l1'"),
        ({"compress": "root"}, "compress='root'"),
        ({"power": 3.0}, "power=3"),
        ({"floor": 0.0}, "floor=0"),
    ],
)
def test_impossible_settings_name_the_setting(changes, words):
    with pytest.raises(UserError, match=words):
        build_frontend(MelConfig(**changes))


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(16000), torch.zeros(1, 1, 16000), torch.zeros(2, 0), torch.zeros(2, 100, dtype=torch.int16)],
)
def test_wrong_waves_are_refused(wrong):
    with pytest.raises(UserError, match="wave"):
        build_frontend(MelConfig())(wrong)


@pytest.mark.slow
def test_compiles_into_one_graph_with_the_same_picture_and_gradient(wave):
    module = build_frontend(MelConfig())
    compiled = torch.compile(module, fullgraph=True)
    plain, fast = wave.clone().requires_grad_(), wave.clone().requires_grad_()
    expected, image = module(plain), compiled(fast)
    assert relative(image.detach(), expected.detach()) < 1e-6
    expected.square().mean().backward()
    image.square().mean().backward()
    assert relative(fast.grad, plain.grad) < 1e-6


@pytest.mark.data
@pytest.mark.skipif(not MINI.is_dir(), reason="the recordings of speech-commands-35w-mini are not there")
def test_statistics_of_speech_commands_are_those_of_byol_a():
    """BYOL-A's README: mean -9.660, std 4.722 over all of Speech Commands v2, hop 160, float32's epsilon.

    These 493 of its clips give -9.597 and 4.699; HTK filters without norm would be off by 4.
    """
    from audiossl import audio

    paths = sorted(MINI.rglob("*.flac"))
    clips = np.zeros((len(paths), 16000), dtype="f4")
    for row, path in zip(clips, paths, strict=True):
        clip, _ = audio.load(path, sample_rate=16000)
        start = (16000 - len(clip)) // 2
        row[start : start + len(clip)] = clip
    frontend = build_frontend(MelConfig(hop_length=160, floor=float(np.finfo("f4").eps)))
    statistics = Normalize.measure(frontend, torch.from_numpy(clips).split(64))
    assert len(paths) == 493
    assert float(statistics.mean) == pytest.approx(-9.660, abs=0.1)
    assert float(statistics.std) == pytest.approx(4.722, abs=0.05)
