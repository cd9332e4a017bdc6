"""Features that are written batch after batch: what is there is not embedded again, and what is damaged is."""

import numpy as np
import pytest
import torch

from audiossl.errors import UserError
from audiossl.probes.feature_file import read_features
from audiossl.probes.features import in_order
from audiossl.probes.kept_features import KeptFeatures, written_in_order

N, DIM, BATCH = 23, 5, 4
ROWS = torch.randn(N, DIM, generator=torch.Generator().manual_seed(0))
KEY = "0" * 32


class Embed:
    """Rows from a table; notes which were asked for, and is interrupted after so many batches."""

    def __init__(self, batches=None):
        self.asked, self.batches = [], batches

    def __call__(self, start, stop):
        if len(self.asked) == self.batches:
            raise KeyboardInterrupt
        self.asked.append(start)
        return ROWS[start:stop]


def interrupted(path, batches, key=KEY, batch_size=BATCH):
    with pytest.raises(KeyboardInterrupt):
        written_in_order(path, key)(Embed(batches), N, batch_size)


def test_the_same_rows_as_without_a_file(tmp_path):
    rows = written_in_order(tmp_path / "rows", KEY)(Embed(), N, BATCH)
    np.testing.assert_array_equal(rows, in_order(Embed(), N, BATCH))
    assert rows.dtype == np.float32
    rows[0] = 0.0  # as every array


@pytest.mark.parametrize("batches", [0, 1, 5, 6])
def test_it_goes_on_behind_the_last_batch(tmp_path, batches):
    path = tmp_path / "rows"
    if batches < 6:
        interrupted(path, batches)
    else:  # all are there, and the program ended before it had used them
        written_in_order(path, KEY)(Embed(), N, BATCH)
    rest = Embed()
    np.testing.assert_array_equal(written_in_order(path, KEY)(rest, N, BATCH), ROWS)
    assert rest.asked == list(range(batches * BATCH, N, BATCH))


def test_a_batch_that_was_cut_off_is_embedded_again(tmp_path):
    path = tmp_path / "rows"
    interrupted(path, 3)
    path.write_bytes(path.read_bytes()[:-7])
    rest = Embed()
    np.testing.assert_array_equal(written_in_order(path, KEY)(rest, N, BATCH), ROWS)
    assert rest.asked[0] == 2 * BATCH


@pytest.mark.parametrize(
    "head",
    [b"", b"\n", b"x" * 4096, b"%s 4 0\n", b"%s 4 -5\n", b"%s 4 5 5\n", b"%s 4 99999999999999999999\n", b"\xff\n"],
)
def test_a_damaged_file_is_begun_anew(tmp_path, head):
    path = tmp_path / "rows"
    path.write_bytes(head.replace(b"%s", KEY.encode()) + bytes(40))
    whole = Embed()
    np.testing.assert_array_equal(written_in_order(path, KEY)(whole, N, BATCH), ROWS)
    assert whole.asked[0] == 0


@pytest.mark.parametrize(("key", "batch_size"), [("1" * 32, BATCH), (KEY, BATCH + 1)])
def test_rows_of_something_else_are_replaced(tmp_path, key, batch_size):
    path = tmp_path / "rows"
    interrupted(path, 3, key, batch_size)
    whole = Embed()
    np.testing.assert_array_equal(written_in_order(path, KEY)(whole, N, BATCH), ROWS)
    assert whole.asked == list(range(0, N, BATCH))


def test_what_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match=r"rows cannot be written \(No such file or directory\): make room"):
        written_in_order(tmp_path / "no" / "rows", KEY)(Embed(), N, BATCH)


def test_a_complete_kind_stands_in_the_file_alone(tmp_path):
    path, hashes = tmp_path / "f.npz", ("a", "b")
    kept = KeptFeatures(path, hashes, {})
    with pytest.raises(KeyboardInterrupt):
        kept.batches("encoder")(Embed(2), N, BATCH)
    assert [p.name for p in tmp_path.iterdir()] == ["f.npz.rows"]
    other = Embed()  # another kind is not what was begun
    KeptFeatures(path, hashes, {}).batches("random weights, seed 0")(other, N, BATCH)
    assert other.asked[0] == 0
    kept["encoder"] = kept.batches("encoder")(Embed(), N, BATCH)
    assert [p.name for p in tmp_path.iterdir()] == ["f.npz"]
    np.testing.assert_array_equal(read_features(path, *hashes)["encoder"], ROWS)
