"""A folder of everything that goes wrong: a row with a status for each file, and the good ones as ever."""

import os

import numpy as np
import pytest
import soundfile

from audiossl.embed.config import EmbedConfig
from audiossl.embed.corpus import featurize_corpus
from audiossl.embeddings import load_embeddings
from audiossl.featurize import featurize

RATE = 16000
pytestmark = pytest.mark.filterwarnings("ignore:these recordings")


def sine(rate, seconds=0.5):
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def hostile(folder):
    """Fill a folder; returns the status that each file shall have."""
    good = {
        "one_sample.wav": (np.full(1, 0.1), RATE, "FLOAT"),
        "one_ms.wav": (sine(RATE, 0.001), RATE, "PCM_16"),
        "8_khz.wav": (sine(8000), 8000, "PCM_16"),
        "192_khz.wav": (sine(192000), 192000, "PCM_24"),
        "eight_channels.wav": (np.stack([sine(RATE)] * 8, 1), RATE, "PCM_16"),
        "24_bit.flac": (sine(44100), 44100, "PCM_24"),
        "spaces and 'quotes' \"both\".wav": (sine(RATE), RATE, "PCM_16"),
        "emoji 🐋.wav": (sine(RATE), RATE, "PCM_16"),
        "two\nlines.wav": (sine(RATE), RATE, "PCM_16"),
    }
    status = dict.fromkeys(good, "ok")
    for name, (wave, rate, subtype) in good.items():
        soundfile.write(folder / name, wave, rate, subtype=subtype)
    for name, wave in {"above_one.wav": 5 * sine(RATE), "silence.wav": np.zeros(800, np.float32)}.items():
        soundfile.write(folder / name, wave, RATE, subtype="FLOAT")
    status |= {"above_one.wav": "clipped", "silence.wav": "silent"}
    for name, value in {"nan.wav": np.nan, "inf.wav": np.inf}.items():
        wave = sine(RATE)
        wave[100] = value
        soundfile.write(folder / name, wave, RATE, subtype="FLOAT")
    soundfile.write(folder / "no_samples.wav", np.zeros(0), RATE)
    soundfile.write(folder / "whole.flac", sine(RATE, 3.0) + 0.01 * np.random.default_rng(0).normal(size=48000), RATE)
    (folder / "truncated.flac").write_bytes((folder / "whole.flac").read_bytes()[:20000])
    (folder / "whole.flac").unlink()
    (folder / "text.wav").write_text("a poem, renamed")
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    bad = ["nan.wav", "inf.wav", "no_samples.wav", "truncated.flac", "text.wav", "empty.mp3", "gone.wav"]
    status |= dict.fromkeys(bad, "error")
    (folder / "folder.wav").mkdir()  # is searched through
    (folder / "folder.wav" / "loop").symlink_to(folder)
    soundfile.write(folder / "folder.wav" / "inside.wav", sine(RATE), RATE)
    status["folder.wav/inside.wav"] = "ok"
    if os.geteuid():  # nothing is forbidden to root
        soundfile.write(folder / "forbidden.wav", sine(RATE), RATE)
        (folder / "forbidden.wav").chmod(0)
        status["forbidden.wav"] = "error"
    return status


@pytest.mark.parametrize("level", ["clip", "frame"])
def test_every_file_has_its_status(tmp_path, resnet, level):
    status = hostile(tmp_path)
    result = featurize(tmp_path, resnet, level=level)
    found = {os.path.relpath(row["file"], tmp_path): row["status"] for row in result.table}
    assert found == status
    good = np.array([name != "error" for name in result.column("status")])
    assert np.isfinite(result.embeddings[good]).all()
    assert np.isnan(result.embeddings[~good]).all()
    assert all(row["message"] for row in result.table if row["status"] != "ok")


def test_good_rows_do_not_know_of_their_neighbours(tmp_path, resnet):
    hostile(tmp_path)
    together = featurize(tmp_path, resnet)
    for row, embedding in zip(together.table, together.embeddings, strict=True):
        if row["status"] != "error":
            alone = featurize(row["file"], resnet).embeddings[0]
            assert np.abs(alone - embedding).max() < 1e-5


def test_hostile_names_come_back_from_every_form(tmp_path, resnet):
    (tmp_path / "in").mkdir()
    status = hostile(tmp_path / "in")
    resnet.save_pretrained(tmp_path / "encoder")
    featurize_corpus([str(tmp_path / "in")], str(tmp_path / "encoder"), tmp_path / "out", EmbedConfig(), progress=False)
    found = load_embeddings(tmp_path / "out")
    assert {os.path.relpath(name, tmp_path / "in") for name in found.column("file")} == set(status)
    again = featurize_corpus(
        [str(tmp_path / "in")], str(tmp_path / "encoder"), tmp_path / "out", EmbedConfig(), progress=False
    )
    assert again.files == 0


def test_names_that_are_no_utf8_are_done_once(tmp_path, resnet):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "plain.wav", sine(RATE), RATE)
    os.rename(tmp_path / "plain.wav", os.fsencode(tmp_path / "in") + b"/caf\xe9.wav")
    resnet.save_pretrained(tmp_path / "encoder")
    words = ([str(tmp_path / "in")], str(tmp_path / "encoder"), tmp_path / "out", EmbedConfig())
    assert featurize_corpus(*words, progress=False).files == 1
    assert featurize_corpus(*words, progress=False).files == 0
    assert load_embeddings(tmp_path / "out").column("status") == ["ok"]


def test_a_file_that_goes_during_the_run_is_a_row(tmp_path, levels, noise):
    for n in range(60):
        soundfile.write(tmp_path / f"{n:02d}.wav", noise(0.1, n), RATE)

    class Thief(type(levels)):
        def forward(self, wave):
            (tmp_path / "59.wav").unlink(missing_ok=True)
            return super().forward(wave)

    result = featurize(tmp_path, Thief(), batch_size=1, workers=1)
    assert result.column("status") == ["ok"] * 59 + ["error"]
    assert "does not exist" in result.table[-1]["message"]


@pytest.mark.slow
def test_a_hundred_thousand_tiny_files(tmp_path, levels):
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, np.full(160, 0.1), RATE)
    content = sound.read_bytes()
    sound.unlink()
    for n in range(100_000):
        if n % 1000 == 0:
            (tmp_path / f"{n:06d}").mkdir()
        (tmp_path / f"{n // 1000 * 1000:06d}" / f"{n}.wav").write_bytes(content)
    result = featurize(tmp_path, levels, batch_size=512)
    assert len(result) == 100_000
    assert set(result.column("status")) == {"ok"}
    assert np.ptp(result.embeddings, axis=0).max() < 1e-6
