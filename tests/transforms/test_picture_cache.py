"""The caches of slow pictures: bounded in memory, whole in a folder, and indifferent to damage."""

from __future__ import annotations

import numpy as np
import pytest
from audiossl.transforms.picture_cache import FolderCache, MemoryCache

from audiossl.errors import UserError


def picture(value: float, n_frames: int = 2) -> np.ndarray:
    return np.full((3, n_frames), value, dtype=np.float32)


def test_memory_forgets_what_was_not_used_for_longest():
    cache = MemoryCache(limit_bytes=3 * 24)
    for key in "abc":
        cache.put(key, picture(1))
    cache.get("a")
    cache.put("d", picture(2))
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]
    cache.put("d", picture(3, n_frames=4))
    assert cache.used_bytes == 72
    assert [key for key in "abcd" if cache.get(key) is not None] == ["c", "d"]
    assert cache.get("d").shape == (3, 4)


def test_a_folder_keeps_pictures_for_others(tmp_path):
    folder = tmp_path / "new" / "folder"
    FolderCache(str(folder)).put("abcd", picture(1))
    assert np.array_equal(FolderCache(str(folder)).get("abcd"), picture(1))
    assert FolderCache(str(folder)).get("abce") is None
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["abcd.npy"]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00", b"something else"])
def test_a_damaged_file_counts_as_missing(tmp_path, damage):
    cache = FolderCache(str(tmp_path))
    cache.put("abcd", picture(1))
    whole = cache.place("abcd").read_bytes()
    for content in (damage, whole[:-3]):
        cache.place("abcd").write_bytes(content)
        assert cache.get("abcd") is None
    cache.place("abcd").unlink()
    np.save(cache.place("abcd"), np.zeros(3))  # another type of numbers
    assert cache.get("abcd") is None
    cache.put("abcd", picture(2))
    assert np.array_equal(cache.get("abcd"), picture(2))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cache=.*file cannot be written"):
        FolderCache(str(tmp_path / "file")).put("abcd", picture(1))


def test_nothing_is_left_beside_when_writing_fails(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="no space left"):
        FolderCache(str(tmp_path)).put("abcd", picture(1))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
