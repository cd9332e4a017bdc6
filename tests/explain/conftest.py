from __future__ import annotations

import numpy as np
import pytest
import soundfile

from audiossl.data import DataConfig, cache_clips, open_clips


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """A folder of 24 tones of half a second, from 300 Hz on."""
    folder = tmp_path_factory.mktemp("tones") / "MY SOUNDS"
    folder.mkdir()
    time = np.arange(8000) / 16000
    for i in range(24):
        soundfile.write(folder / f"{i:02}.wav", 0.3 * np.sin(2 * np.pi * 300 * (1 + i / 10) * time), 16000)
    return folder


@pytest.fixture(scope="module")
def clips(tones):
    """The same as cached clips of a second."""
    data = DataConfig(root=str(tones))
    return cache_clips(open_clips(data), data, progress=False)
