"""Levels, channels, pools, layers and normalisation, against the same written out."""

import warnings

import numpy as np
import pytest
import soundfile
import torch

from audiossl.audio import fit_length
from audiossl.embed.rows import CHUNK_ROWS
from audiossl.errors import UserError
from audiossl.featurize import featurize

RATE = 16000
pytestmark = pytest.mark.filterwarnings("ignore:these recordings")  # of noise, by a network with random weights


def windows_of(wave, n=1600):
    return [fit_length(wave[i : i + n], n) for i in range(0, len(wave), n)]


def test_pools_written_out(levels, noise):
    wave = noise(0.25)
    with torch.inference_mode():
        x = levels.eval()(torch.from_numpy(np.stack(windows_of(wave)))).double().numpy()
    w = np.array([1600, 1600, 800]) / 4000
    mean = w @ x
    wanted = {
        "mean": mean,
        "max": x.max(0),
        "mean_max": mean + x.max(0),
        "mean_std": np.concatenate([mean, np.sqrt(w @ (x - mean) ** 2)]),
    }
    for pool, vector in wanted.items():
        assert featurize(wave, levels, RATE, pool=pool).embeddings[0] == pytest.approx(vector, abs=1e-6)


def test_every_channel_has_rows_of_its_own(tmp_path, levels, noise):
    left, right = noise(0.25, 1), noise(0.25, 2)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    result = featurize(tmp_path, levels, channels="each")
    assert result.column("channel") == ["0", "1"]
    for row, wave in zip(result.embeddings, (left, right), strict=True):
        assert row == pytest.approx(featurize(wave, levels, RATE).embeddings[0], abs=1e-6)
    by_window = featurize(tmp_path, levels, channels="each", level="window")
    assert list(zip(by_window.column("channel"), by_window.column("start_s"), strict=True)) == [
        (channel, pytest.approx(0.1 * n)) for n in range(3) for channel in "01"
    ]
    for channels, wave in (("first", left), ("mix", (left + right) / 2)):
        alone = featurize(tmp_path, levels, channels=channels)
        assert alone.column("channel") == [channels]
        assert alone.embeddings[0] == pytest.approx(featurize(wave, levels, RATE).embeddings[0], abs=1e-6)


def test_frames_follow_each_other_and_cover_the_sound(resnet, noise):
    wave = noise(2.4)
    result = featurize(wave, resnet, RATE, level="frame")
    start, end = np.array(result.column("start_s")), np.array(result.column("end_s"))
    assert (start[0], end[-1]) == (0.0, pytest.approx(2.4))
    assert np.allclose(start[1:], end[:-1])
    assert np.allclose(result.column("valid_s"), end - start)
    patches = resnet.patches(torch.from_numpy(wave[:RATE])[None])
    frames = patches.patches.unflatten(1, patches.grid).mean(1)[0]
    here = result.embeddings[: len(frames)]
    assert np.abs(here - frames.detach().numpy()).max() < 1e-5
    inside = (start[: len(frames)] < patches.centres_s.numpy()) & (patches.centres_s.numpy() < end[: len(frames)])
    assert inside.all()


def test_layers_stand_side_by_side(resnet, noise):
    wave = noise(1.0)
    result = featurize(wave, resnet, RATE, layers=[-2, -1])
    with torch.inference_mode():
        assert np.allclose(result.embeddings, resnet.last_blocks(torch.from_numpy(wave)[None], 2).numpy(), atol=1e-5)
    with pytest.raises(UserError, match="layers has 9, and the network has 4"):
        featurize(wave, resnet, RATE, layers=[9])


def test_normalisation_by_the_recordings_undoes_a_gain(resnet, noise):
    waves = [noise(1.0, n) for n in range(4)]
    louder = [8 * wave for wave in waves]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for normalize in ("dataset", "clip"):
            plain = featurize(waves, resnet, RATE, normalize=normalize).embeddings
            loud = featurize(louder, resnet, RATE, normalize=normalize).embeddings
            assert np.abs(plain - loud).max() < 1e-3 * np.abs(plain).max()
        model = [featurize(some, resnet, RATE).embeddings for some in (waves, louder)]
    assert np.abs(model[0] - model[1]).max() > 1e-2 * np.abs(model[0]).max()


def test_dataset_statistics_are_those_of_the_sound(resnet, noise):
    """A short clip is centred in zeros, and these do not count."""
    wave = noise(0.6)
    image = resnet.frontend(torch.from_numpy(fit_length(wave, RATE))[None])
    first, last = (RATE - len(wave)) // 2, (RATE + len(wave)) // 2
    middle = resnet.frontend.times(RATE) * RATE
    sound = image[..., (middle >= first) & (middle <= last)].double()
    with pytest.warns(UserWarning, match="these recordings are far"):
        meta = featurize(wave, resnet, RATE).meta["input"]
    assert meta["input_mean"] == pytest.approx(sound.mean().item(), rel=1e-5)
    assert meta["input_std"] == pytest.approx(sound.std(correction=0).item(), rel=1e-4)
    assert (meta["model_mean"], meta["model_std"]) == (0.0, 1.0)


def test_what_the_model_knows_is_no_warning(resnet, noise):
    wave = noise(1.0)
    image = resnet.frontend(torch.from_numpy(wave)[None])
    before = resnet.normalize.mean.clone(), resnet.normalize.std.clone()
    resnet.normalize.mean.fill_(image.mean().item())
    resnet.normalize.std.fill_(image.std().item())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            featurize(wave, resnet, RATE)
    finally:
        resnet.normalize.mean.copy_(before[0])
        resnet.normalize.std.copy_(before[1])


def test_silence_by_every_normalisation_is_finite(resnet):
    silence = np.zeros(RATE, np.float32)
    assert np.isfinite(featurize(silence, resnet, RATE, normalize="clip").embeddings).all()
    with pytest.raises(UserError, match="nothing but silence"):
        featurize(silence, resnet, RATE, normalize="dataset")


def test_clipped_and_padded_windows_are_flagged(levels, noise):
    wave = np.concatenate([noise(0.1), np.sign(noise(0.1)), noise(0.05), np.zeros(0, np.float32)])
    result = featurize(wave, levels, RATE, level="window")
    assert result.column("status") == ["ok", "clipped", "padded"]
    assert "at full scale" in result.table[1]["message"]
    assert result.column("valid_s") == pytest.approx([0.1, 0.1, 0.05])
    peaks = 20 * np.log10([np.abs(w).max() for w in windows_of(wave)])
    assert np.allclose(result.column("peak_db"), peaks, atol=0.01)


def test_a_long_recording_comes_in_parts_and_in_order(levels, noise):
    waves = [noise(0.1), noise(0.01 * (CHUNK_ROWS + 900)), noise(0.1, 3)]
    result = featurize(waves, levels, RATE, level="window", window_s=0.01)
    n = [10, CHUNK_ROWS + 900, 10]
    assert result.column("file") == [f"array[{i}]" for i in range(3) for _ in range(n[i])]
    assert np.allclose(result.column("start_s")[10:-10], 0.01 * np.arange(n[1]))


def test_a_recording_that_breaks_off_keeps_its_windows(tmp_path, levels, noise):
    path = tmp_path / "long.flac"
    soundfile.write(path, noise(60.0), RATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    result = featurize(path, levels, level="window")
    assert len(result) > 64
    assert set(result.column("status")[:-1]) == {"ok"}
    assert result.table[-1]["status"] == "error"
    assert len(result.skipped) == 1
    clip = featurize(path, levels)
    assert clip.column("status") == ["error"]
    assert np.isnan(clip.embeddings).all()
