"""A folder of very many recordings becomes training data: every clip once an epoch, and no memory for their sound."""

import numpy as np
import psutil
import pytest
import soundfile

from audiossl.data import DataConfig, cache_clips, open_clips
from audiossl.data.loader import training_loader

RATE, CLIP_S = 16000, 0.1


def fill(folder, n_files):
    """Recordings of 10 ms, all in one folder; the n-th one holds the value n modulo 30,000."""
    sound = folder / "sound.wav"
    soundfile.write(sound, np.zeros(160, np.int16), RATE)
    header = sound.read_bytes()[:-320]
    sound.unlink()
    for n in range(n_files):
        (folder / f"{n:06d}.wav").write_bytes(header + np.full(160, n % 30_000, np.int16).tobytes())


@pytest.mark.parametrize("n_files", [2_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_one_folder_of_many_files_is_training_data(tmp_path, n_files):
    folder = tmp_path / "sounds"
    folder.mkdir()
    fill(folder, n_files)
    config = DataConfig(root=str(folder), sample_rate=RATE, clip_s=CLIP_S, cache=str(tmp_path))
    cached = cache_clips(open_clips(config), config)
    assert (len(cached), cached.skipped) == (n_files, [])
    n_open = len(psutil.Process().open_files())
    seen = np.zeros(n_files, bool)
    for batch in training_loader(cached, batch_size=500):
        middle = batch.wave[:, batch.wave.shape[1] // 2].numpy()
        np.testing.assert_array_equal(middle, batch.index.numpy() % 30_000)
        assert not seen[batch.index].any()
        seen[batch.index] = True
    assert seen.all()
    assert len(psutil.Process().open_files()) <= n_open + 1  # the memory map
    again = cache_clips(open_clips(config), config)
    assert again.waves.path == cached.waves.path
