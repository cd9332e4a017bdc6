"""What a page is given of pictures and sounds is what another writer is given afterwards, point by point."""

import io

import numpy as np
import pytest
from PIL import Image

from audiossl.map import media
from audiossl.map.media import HEIGHT, WIDTH, Kept, Media
from audiossl.map.points import Points
from audiossl.map.sounds import encode_sound

RATE, SILENT = 8000, 3


def wave(n):
    tone = 8000 * np.sin(2 * np.pi * (200 + 100 * n) * np.arange(400 + 50 * n) / RATE)
    return None if n == SILENT else (tone.astype(np.int16), RATE)


@pytest.mark.parametrize("form", ["opus", "flac", "none"])
def test_kept_pictures_and_sounds_are_those_of_the_blocks(monkeypatch, form):
    monkeypatch.setattr(media, "EACH", 4)  # several blocks, the last one of fewer
    kept = Kept()
    made = Media(Points([str(n) for n in range(10)], [], wave, "ten"), form, kept)
    done = []
    blocks = list(made.blocks(done.append))
    assert ([block.first for block in blocks], done, made.silent) == ([0, 4, 8], [4, 4, 2], [SILENT])
    sounds = [sound for block in blocks for sound in block.sounds]
    expected = [None if n == SILENT or form == "none" else encode_sound(*wave(n), form) for n in range(10)]
    assert sounds == expected
    assert (kept.sounds() is None) if form == "none" else (list(kept.sounds()) == expected)
    pictures = list(kept.pictures())
    assert len(pictures) == 10
    for n, picture in enumerate(pictures):
        block = blocks[n // 4]
        sheet = np.asarray(Image.open(io.BytesIO(block.sheet)))
        across = WIDTH * (n - block.first)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture))), sheet[:HEIGHT, across : across + WIDTH])
