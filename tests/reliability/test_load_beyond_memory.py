"""Data sets and recordings that are larger than the memory that they may have are gone through by limited processes.

The limit is on private memory (RLIMIT_DATA): a memory map of a file is not in it, since the system may drop its pages.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

HERE = Path(__file__).parent
RATE = 16000
COMMON = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import numpy as np, torch
from memory import allow_mb, settled_mb
"""

# Minutes: 48 GB on a machine of 24 GB.
LARGE = pytest.param("twice the memory of this machine", marks=[pytest.mark.slow, pytest.mark.timeout(7200)])

EPOCHS = (
    COMMON
    + """
from pathlib import Path
from audiossl.data.cached import CachedClips, WaveRows
from audiossl.data.loader import training_loader

path, n_clips, n_samples, allowed = Path(sys.argv[1]), int(sys.argv[2]), 16000, int(sys.argv[3])
blank = [None] * n_clips
clips = CachedClips(WaveRows(path, n_clips, n_samples), np.full(n_clips, n_samples), [str(i) for i in range(n_clips)],
                    blank, blank, blank, (), 16000, "large", "", [])
loader = training_loader(clips, 64)
next(iter(loader))
before = settled_mb()
allow_mb(allowed)
n_seen, marks = 0, 0
for batch in loader:
    n_seen += len(batch.index)
    marks += int((batch.wave[:, 0] == 1).sum())
print(n_seen, marks, settled_mb() - before)
"""
)


def run(script, *arguments):
    process = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr[-3000:]
    return [float(number) for number in process.stdout.split()]


def sparse_waves(path, n_clips):
    """A file of so many clips of a second that takes no room on the disk; the first sample of every 64th clip is 1."""
    with open(path, "wb") as file:
        file.truncate(n_clips * RATE * 2)
    waves = np.memmap(path, np.int16, "r+", shape=(n_clips, RATE))
    waves[::64, 0] = 1
    waves.flush()


@pytest.mark.parametrize("gigabytes", [1, LARGE])
def test_an_epoch_over_a_cache_larger_than_the_memory_allowed(tmp_path, gigabytes):
    if isinstance(gigabytes, str):
        gigabytes = round(2 * psutil.virtual_memory().total / 2**30)
    n_clips = gigabytes * 2**30 // (RATE * 2) // 64 * 64
    sparse_waves(tmp_path / "waves.int16", n_clips)
    n_seen, marks, grown_mb = run(EPOCHS, tmp_path / "waves.int16", n_clips, 256)
    assert (n_seen, marks) == (n_clips, n_clips // 64)
    assert grown_mb < 64


BUILD = (
    COMMON
    + """
from audiossl.data import DataConfig, cache_clips, open_clips

folder, cache, allowed = sys.argv[1], sys.argv[2], int(sys.argv[3])
config = DataConfig(root=folder, sample_rate=16000, clip_s=1.0, cache=cache)
clips = open_clips(config)
allow_mb(allowed)
cached = cache_clips(clips, config)
power = [float(batch.wave.float().square().mean()) for batch in cached.batches(100)]
print(len(cached), len(cached.skipped), min(power), max(power))
"""
)

FEATURIZE = (
    COMMON
    + """
from audiossl.embed.config import EmbedConfig
from audiossl.featurize import featurize

class Levels(torch.nn.Module):
    sample_rate, clip_s, n_samples, dim = 16000, 1.0, 16000, 2
    def forward(self, wave):
        return torch.stack([wave.mean(1), wave.square().mean(1)], 1)

allow_mb(int(sys.argv[2]))
result = featurize(sys.argv[1], Levels(), level="window", progress=False)
power = result.embeddings[:, 1]
print(len(result), sum(row["status"] != "ok" for row in result.table), power.min(), power.max())
"""
)


def write_tone(path, minutes):
    """A steady tone, minute by minute: small as FLAC and as MP3, and known everywhere."""
    minute = (0.3 * np.sin(2 * np.pi * 440 * np.arange(60 * RATE) / RATE)).astype(np.float32)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(minutes):
            file.write(minute)


LONG = [
    ("wav", 180),
    pytest.param("flac", 600, marks=pytest.mark.slow),
    pytest.param("mp3", 600, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("suffix", "minutes"), LONG)
def test_a_long_recording_is_cut_into_clips_in_the_memory_of_a_few(tmp_path, suffix, minutes):
    # Three hours in float32 take 690 MB, ten hours 2,300 MB. Stacks of threads, and what the allocator keeps, are in
    # the limit too: embedding took 130 MB of it.
    folder = tmp_path / "sounds"
    folder.mkdir()
    write_tone(folder / f"long.{suffix}", minutes)
    n_clips, n_skipped, least, most = run(BUILD, folder, tmp_path, 256)
    assert (n_clips, n_skipped) == (60 * minutes, 0)
    assert least == pytest.approx(0.045 * 32768**2, rel=0.01)
    assert most == pytest.approx(0.045 * 32768**2, rel=0.01)


@pytest.mark.parametrize(("suffix", "minutes"), LONG)
def test_a_long_recording_is_embedded_in_the_memory_of_a_few_blocks(tmp_path, suffix, minutes):
    path = tmp_path / f"long.{suffix}"
    write_tone(path, minutes)
    n_rows, n_bad, least, most = run(FEATURIZE, path, 256)
    assert (n_rows, n_bad) == (60 * minutes, 0)
    assert least == pytest.approx(0.045, rel=0.01)
    assert most == pytest.approx(0.045, rel=0.01)
