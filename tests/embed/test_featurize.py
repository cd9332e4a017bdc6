from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import audiossl
from audiossl import audio
from audiossl.embed.sources import find_items
from audiossl.embed.windows import BLOCK_WINDOWS, Cut, read_block
from audiossl.errors import UserError
from audiossl.featurize import featurize

RATE = 16000
pytestmark = pytest.mark.filterwarnings("ignore:these recordings")  # of noise, by random weights
DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def encoder(levels):
    return levels


def noise(duration_s=0.1, seed=0, rate=RATE):
    return (0.1 * np.random.default_rng(seed).normal(size=round(duration_s * rate))).astype(np.float32)


def write(path, wave, rate=RATE):
    soundfile.write(path, wave, rate, subtype="FLOAT" if path.suffix == ".wav" else "PCM_16")
    return path


def expected(window):
    window = audio.fit_length(window, 1600).astype(np.float64)
    return np.array([window.mean(), np.square(window).mean(), window[:800].mean()])


def test_a_file_is_the_mean_of_its_windows_weighted_by_sound(tmp_path, encoder):
    wave = noise(0.25)
    result = featurize(write(tmp_path / "a.wav", wave), encoder)
    windows = [wave[:1600], wave[1600:3200], wave[3200:]]
    weighted = sum(expected(w) * len(w) for w in windows) / len(wave)
    assert result.embeddings.dtype == np.float32
    assert np.allclose(result.embeddings, weighted[None], atol=1e-7)
    row = result.table[0]
    assert (row["start_s"], row["end_s"], row["valid_s"], row["sample_rate_in"]) == (0.0, 0.25, 0.25, RATE)
    assert row["peak_db"] == pytest.approx(20 * np.log10(np.abs(wave).max()), abs=0.01)
    assert (row["status"], row["message"]) == ("ok", "")


def test_a_module_without_parameters_is_an_encoder_too(tmp_path):
    class Mean(torch.nn.Module):
        sample_rate, clip_s, n_samples, dim = RATE, 0.1, 1600, 1

        def forward(self, wave):
            return wave.mean(1, keepdim=True)

    assert featurize(np.full(3200, 0.25), Mean(), RATE).embeddings.tolist() == [[0.25]]


def test_one_row_a_window(tmp_path, encoder):
    wave = noise(0.25)
    result = featurize(write(tmp_path / "a.wav", wave), encoder, level="window")
    assert np.allclose(result.embeddings, [expected(w) for w in (wave[:1600], wave[1600:3200], wave[3200:])], atol=1e-7)
    assert result.column("start_s") == pytest.approx([0, 0.1, 0.2])
    assert result.column("end_s") == pytest.approx([0.1, 0.2, 0.3])
    assert result.column("valid_s") == pytest.approx([0.1, 0.1, 0.05])
    assert result.column("status") == ["ok", "ok", "padded"]


def test_windows_may_overlap_and_have_another_length(tmp_path, encoder):
    wave = noise(0.25)
    path = write(tmp_path / "a.wav", wave)
    result = featurize(path, encoder, level="window", window_s=0.2, hop_s=0.05)
    assert result.column("start_s") == pytest.approx([0, 0.05])
    assert result.embeddings[1, 0] == pytest.approx(wave[800:4000].mean(), abs=1e-7)
    assert result.meta["window_s"] == 0.2


def test_a_short_file_is_centred_in_zeros(tmp_path, encoder):
    wave = np.full(400, 0.5, np.float32)
    result = featurize(write(tmp_path / "a.wav", wave), encoder)
    assert result.embeddings[0] == pytest.approx([0.125, 0.0625, 0.125])
    assert result.table[0]["end_s"] == pytest.approx(0.025)


@pytest.mark.parametrize("level", ["clip", "window"])
def test_the_batch_size_does_not_matter(tmp_path, level):
    from audiossl.backbones.config import BackboneConfig
    from audiossl.encoder import AudioEncoder, EncoderConfig

    torch.manual_seed(0)
    encoder = AudioEncoder.build(EncoderConfig(backbone=BackboneConfig("resnet10")))
    for i, duration_s in enumerate([0.4, 1.0, 3.3, 2.05, 1.0]):
        write(tmp_path / f"{i}.wav", noise(duration_s, seed=i))
    one = featurize(tmp_path, encoder, batch_size=1, level=level, progress=False)
    many = featurize(tmp_path, encoder, batch_size=64, level=level, progress=False)
    assert len(one) == len(many) == (5 if level == "clip" else 10)
    assert one.embeddings.shape[1] == encoder.dim
    assert np.abs(one.embeddings - many.embeddings).max() < 1e-5
    assert one.embeddings.std(0).max() > 1e-3  # and they do differ from file to file


def test_order_is_the_order_of_the_inputs(tmp_path, encoder):
    paths = [write(tmp_path / f"{i}.wav", np.full(1600, i / 100, np.float32)) for i in range(40)]
    shuffled = [paths[i] for i in np.random.default_rng(0).permutation(40)]
    result = featurize(shuffled, encoder, batch_size=7)
    assert result.column("file") == [str(path) for path in shuffled]
    assert np.allclose(result.embeddings[:, 0], [int(path.stem) / 100 for path in shuffled], atol=1e-6)


def test_folders_and_patterns(tmp_path, encoder):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.wav", "a.flac", "deep/er/c.wav"):
        write(tmp_path / name, noise())
    (tmp_path / "notes.txt").write_text("no sound")
    folder = featurize(str(tmp_path), encoder)
    assert folder.column("file") == [str(tmp_path / name) for name in ("a.flac", "b.wav", "deep/er/c.wav")]
    pattern = featurize(str(tmp_path / "**" / "*.wav"), encoder)
    assert pattern.column("file") == [str(tmp_path / name) for name in ("b.wav", "deep/er/c.wav")]
    both = featurize([tmp_path / "b.wav", tmp_path / "deep"], encoder)
    assert both.column("file") == [str(tmp_path / name) for name in ("b.wav", "deep/er/c.wav")]


def test_a_name_with_brackets_is_a_name(tmp_path, encoder):
    path = write(tmp_path / "take [1].wav", noise())
    assert featurize(str(path), encoder).column("file") == [str(path)]


def test_arrays_equal_files(tmp_path, encoder):
    wave = noise(0.25)
    from_file = featurize(write(tmp_path / "a.wav", wave), encoder).embeddings
    for same in (wave, torch.from_numpy(wave), wave[None], [wave], wave.astype(np.float64)):
        assert np.allclose(featurize(same, encoder, sample_rate=RATE).embeddings, from_file, atol=1e-7)
    as_int16 = featurize(audio.to_int16(wave), encoder, sample_rate=RATE)
    assert np.allclose(as_int16.embeddings, from_file, atol=1e-4)
    assert as_int16.table[0]["file"] == "array[0]"


def test_a_long_array_is_read_whole(encoder):
    wave = noise(0.1 * (BLOCK_WINDOWS + 5))
    result = featurize(wave, encoder, sample_rate=RATE, level="window")
    assert len(result) == BLOCK_WINDOWS + 5
    assert result.embeddings[-1] == pytest.approx(expected(wave[-1600:]), abs=1e-7)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_by_itself(tmp_path, encoder, rate):
    wave = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    for result in (
        featurize(write(tmp_path / "a.wav", wave, rate), encoder),
        featurize(wave, encoder, sample_rate=rate),
    ):
        assert result.embeddings[0, 1] == pytest.approx(0.5, abs=0.01)  # the power of a sine
        assert result.table[0]["sample_rate_in"] == rate
        assert result.table[0]["end_s"] == pytest.approx(1.0)


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_a_long_file_in_blocks_equals_the_whole(tmp_path, encoder, rate):
    seconds = 0.1 * (2.5 * BLOCK_WINDOWS) + 0.03
    wave = noise(seconds, rate=rate)
    path = write(tmp_path / "long.wav", wave, rate)
    whole = audio.resample(wave, rate, RATE)
    windows = [whole[i : i + 1600] for i in range(0, len(whole), 1600)]
    result = featurize(path, encoder, level="window", batch_size=50)
    assert len(result) == len(windows) == 161
    assert np.allclose(result.embeddings, [expected(w) for w in windows], atol=1e-6)
    mean = featurize(path, encoder).embeddings[0]
    weights = np.array([len(w) for w in windows])
    assert np.allclose(mean, weights @ result.embeddings / weights.sum(), atol=1e-6)


def test_one_block_of_a_long_file_is_all_that_is_in_memory(tmp_path):
    path = write(tmp_path / "long.wav", noise(20.0))
    (item,), cut = find_items(path), Cut(RATE, 1600, 1600)
    assert read_block(item, cut, 1)[0].windows.shape == (1, BLOCK_WINDOWS, 1600)
    assert read_block(item, cut, 3)[0].windows.shape == (1, 200 - 3 * BLOCK_WINDOWS, 1600)


def test_every_window_has_sound():
    for n_samples, n_hop in [(100, 100), (100, 30), (100, 250), (7, 1), (1, 3)]:
        cut = Cut(10, n_samples, n_hop)
        for n_total in range(1, 700):
            last = (cut.n_windows(n_total) - 1) * n_hop
            assert last < n_total, (n_samples, n_hop, n_total)
            if n_hop <= n_samples:  # no more than a tenth of a window, or of a hop, is left out
                assert n_total - last - n_samples <= max(0.1 * n_samples, n_hop - 1, 0) + 1e-9


def bad_files(folder):
    (folder / "b_empty.wav").write_bytes(b"")
    (folder / "c_text.wav").write_text("this is not audio, whatever its name says")
    write(folder / "d_nan.wav", np.array([0.0, np.nan, 0.0], np.float32))
    soundfile.write(folder / "e_none.wav", np.zeros(0), RATE)
    good = write(folder / "whole.wav", noise(1.0)).read_bytes()
    (folder / "whole.wav").unlink()
    (folder / "f_cut.wav").write_bytes(good[: len(good) // 2])


def test_bad_files_are_rows_with_their_reason(tmp_path, encoder):
    write(tmp_path / "a.wav", noise())
    write(tmp_path / "g.wav", noise(seed=1))
    bad_files(tmp_path)
    result = featurize(tmp_path, encoder)
    assert result.column("status") == ["ok", *["error"] * 5, "ok"]
    assert np.isnan(result.embeddings[1:6]).all()
    assert np.isfinite(result.embeddings[[0, 6]]).all()
    for row in result.table[1:6]:
        assert Path(row["file"]).name in row["message"]
        assert row["start_s"] is None
    assert [Path(name).name for name, _ in result.skipped] == [Path(r["file"]).name for r in result.table[1:6]]
    assert "7 rows of 3 dimensions, 5 not read" in repr(result)


def test_bad_files_can_be_left_out_or_end_the_call(tmp_path, encoder):
    bad_files(tmp_path)
    write(tmp_path / "z.wav", noise())
    result = featurize(tmp_path, encoder, errors="skip")
    assert [Path(name).name for name in result.column("file")] == ["z.wav"]
    assert len(result.skipped) == 5
    with pytest.raises(UserError, match=r"b_empty\.wav is empty"):
        featurize(tmp_path, encoder, errors="raise")


def test_a_missing_file_in_a_list_is_a_row(tmp_path, encoder):
    result = featurize([tmp_path / "none.wav", write(tmp_path / "a.wav", noise())], encoder)
    assert result.column("status") == ["error", "ok"]
    assert "does not exist" in result.table[0]["message"]


def test_nothing_but_bad_files_still_has_the_right_shape(tmp_path, encoder):
    bad_files(tmp_path)
    assert featurize(tmp_path, encoder).embeddings.shape == (5, 3)
    assert featurize(tmp_path, encoder, errors="skip").embeddings.shape == (0, 3)


def test_silence_is_embedded_and_said(encoder):
    result = featurize(np.zeros(1600, np.float32), encoder, sample_rate=RATE)
    assert (result.table[0]["status"], result.table[0]["peak_db"]) == ("silent", None)
    assert np.isfinite(result.embeddings).all()


def test_samples_far_above_full_scale_are_said(encoder):
    result = featurize(noise() * 32768, encoder, sample_rate=RATE)
    assert "full scale is 1" in result.table[0]["message"]


def test_an_encoder_that_gives_nan_is_an_error_row(encoder):
    encoder.scale.data.fill_(float("nan"))
    result = featurize(noise(), encoder, sample_rate=RATE)
    assert result.column("status") == ["error"]
    assert "not finite" in result.table[0]["message"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (dict(inputs=np.zeros(10)), "give sample_rate"),
        (dict(inputs=[]), "empty list"),
        (dict(inputs=7), "int"),
        (dict(inputs=[np.zeros(10), 7], sample_rate=RATE), "holds a int"),
        (dict(inputs=np.zeros(10), sample_rate=RATE, level="window", pool="max"), "pool makes one row"),
        (dict(inputs=np.zeros(10), sample_rate=RATE, level="frame", hop_s=0.1), "hop_s is the distance of windows"),
        (dict(inputs=np.zeros(10), sample_rate=RATE, layers=[-1]), "layers needs an AudioEncoder"),
        (dict(inputs=np.zeros((2, 2, 2)), sample_rate=RATE), r"shape \(2, 2, 2\)"),
        (dict(inputs=np.zeros(10), sample_rate=0), "sample_rate is 0"),
        (dict(inputs="no/such/folder"), "no/such/folder does not exist"),
        (dict(inputs="no/such/*.wav"), "matches no file"),
        (dict(inputs=np.zeros(10), sample_rate=RATE, level="file"), "level is 'file'"),
        (dict(inputs=np.zeros(10), sample_rate=RATE, errors="ignore"), "errors is 'ignore'"),
        (dict(inputs=np.zeros(10), sample_rate=RATE, batch_size=0), "batch_size is 0"),
        (dict(inputs=np.zeros(10), sample_rate=RATE, window_s=0.0), "window_s is 0.0"),
        (dict(inputs=np.zeros(10), sample_rate=RATE, hop_s=-1.0), "hop_s is -1.0"),
        (dict(inputs=np.zeros(10), sample_rate=RATE, device="warp"), "device 'warp'"),
    ],
)
def test_mistakes_are_said_in_one_sentence(encoder, call, words):
    with pytest.raises(UserError, match=words) as caught:
        featurize(model=encoder, **call)
    assert "\n" not in str(caught.value)


def test_a_folder_without_audio_is_said(tmp_path, encoder):
    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(UserError, match="holds no audio file"):
        featurize(tmp_path, encoder)


@pytest.mark.parametrize(
    "wave", [np.zeros(0, np.float32), np.array([0.0, np.inf]), np.array([1, 2], np.int64), np.zeros((2, 5))]
)
def test_bad_arrays_are_rows(encoder, wave):
    result = featurize([noise(), wave], encoder, sample_rate=RATE)
    assert result.column("status") == ["ok", "error"]
    assert "array[1]" in result.table[1]["message"]


def test_the_encoder_comes_back_as_it_was(encoder):
    encoder.train()
    featurize(noise(), encoder, sample_rate=RATE)
    assert encoder.training


def test_the_package_is_called_by_its_function_whoever_imported_the_module(encoder):
    # The import above has put the module in the function's place in the package: both answer the call.
    for function in (audiossl.featurize, audiossl.__getattr__("featurize")):
        assert len(function(noise(), encoder, sample_rate=RATE)) == 1
        assert "Embed recordings" in function.__call__.__doc__ or "Embed recordings" in function.__doc__


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="the real recordings are not beside the project")
def test_real_recordings_of_other_rates(encoder):
    folder = DATA / "esc10"
    files = audio.find_audio(folder)[:5]
    result = featurize(files, encoder)
    assert set(result.column("sample_rate_in")) == {44100}
    assert result.column("end_s") == pytest.approx([5.0] * 5, abs=0.02)
    assert np.isfinite(result.embeddings).all()
