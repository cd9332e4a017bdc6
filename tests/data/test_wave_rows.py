"""Rows of a memory-mapped file: what comes out is an array's, and the system is told what will be read."""

from __future__ import annotations

import mmap
import pickle

import numpy as np
import pytest

from audiossl.data.cached import WaveRows, announce

N, SAMPLES = 50, 3000


@pytest.fixture
def waves(tmp_path):
    """The file as an array, and its rows."""
    array = np.random.default_rng(0).integers(-(2**15), 2**15, (N, SAMPLES)).astype(np.int16)
    path = tmp_path / "waves.int16"
    path.write_bytes(array.tobytes())
    return array, WaveRows(path, N, SAMPLES)


@pytest.mark.parametrize(
    "key",
    [
        *(3, -1, slice(None), slice(4, 40, 7), [7, 7, 0], np.array([49, 2]), np.arange(0)),
        *((5, slice(10, 20)), ([1, 2], slice(0, 3))),
    ],
    ids=str,
)
def test_rows_are_those_of_an_array(waves, key):
    array, rows = waves
    found = rows[key]
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, array[key])
    assert found.flags.owndata or found.base.flags.owndata  # a copy: nothing holds the file's pages


def test_a_subset_and_a_pickled_one_are_the_same_rows(waves):
    array, rows = waves
    chosen = rows.subset(np.array([9, 3, 3]))
    assert chosen.shape == (3, SAMPLES)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(chosen))[:], array[[9, 3, 3]])


def test_no_rows_of_an_empty_file(tmp_path):
    (tmp_path / "empty").touch()
    assert WaveRows(tmp_path / "empty", 0, SAMPLES)[:].shape == (0, SAMPLES)


class Told:
    """In the place of a map: notes what it is told."""

    def __init__(self):
        self.ranges = []

    def madvise(self, option, start, length):
        assert option == mmap.MADV_WILLNEED
        self.ranges.append((start, start + length))


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no advice")
def test_what_will_be_read_is_announced_once_from_the_page_on_where_it_begins():
    told, row = Told(), 2 * SAMPLES
    announce(told, np.array([[7, 5], [6, 20]]), row)
    page = mmap.PAGESIZE
    assert told.ranges == [(5 * row // page * page, 8 * row), (20 * row // page * page, 21 * row)]
