"""What `featurize` gives, written to files and read back."""

import csv
import json

import numpy as np
import pytest
import soundfile

from audiossl.embeddings import load_embeddings
from audiossl.errors import UserError
from audiossl.featurize import featurize

pytestmark = pytest.mark.filterwarnings("ignore:these recordings")  # of noise, by random weights


@pytest.fixture
def mixed(tmp_path, levels):
    """A recording and an empty file."""
    wave = (0.1 * np.random.default_rng(0).normal(size=4000)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    (tmp_path / "b.wav").write_bytes(b"")
    return featurize(tmp_path, levels)


def test_npz_round_trip(tmp_path, mixed):
    with np.load(mixed.to_npz(tmp_path / "out.npz")) as file:  # without pickles
        assert np.array_equal(file["embeddings"], mixed.embeddings, equal_nan=True)
        assert file["files"].tolist() == mixed.column("file")
        assert file["status"].tolist() == ["ok", "error"]
        assert np.array_equal(file["end_s"], [0.25, np.nan], equal_nan=True)
        assert json.loads(str(file["meta"]))["level"] == "clip"


def test_csv_round_trip(tmp_path, mixed):
    with open(mixed.to_csv(tmp_path / "out.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok", "error"]
    values = np.array([float(rows[0][f"e{i}"]) for i in range(3)], np.float32)
    assert np.array_equal(values, mixed.embeddings[0])
    assert rows[1]["e0"] == rows[1]["end_s"] == ""


def test_parquet_round_trip(tmp_path, mixed):
    from pyarrow import parquet, types

    table = parquet.read_table(mixed.to_parquet(tmp_path / "out.parquet"))
    assert types.is_fixed_size_list(table.schema.field("embedding").type)
    assert np.array_equal(np.array(table["embedding"].to_pylist(), np.float32), mixed.embeddings, equal_nan=True)
    assert table["end_s"].to_pylist() == [0.25, None]
    assert json.loads(table.schema.metadata[b"audiossl"])["window_s"] == 0.1


@pytest.mark.parametrize("name", ["out.npz", "out.parquet"])
def test_what_is_missing_comes_back_as_none(tmp_path, mixed, name):
    write = mixed.to_npz if name.endswith("npz") else mixed.to_parquet
    assert load_embeddings(write(tmp_path / name)).table == mixed.table
    assert mixed.table[1]["sample_rate_in"] is None


def test_nothing_half_written(tmp_path, mixed, monkeypatch):
    out = tmp_path / "out.npz"
    out.write_bytes(b"old")

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(UserError, match=r"out\.npz cannot be written \(No space left on device\)"):
        mixed.to_npz(out)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav", "out.npz"]


@pytest.mark.parametrize("name", ["out.txt", "out", "missing/out.csv"])
def test_an_output_that_cannot_be_is_said(tmp_path, mixed, name):
    with pytest.raises(UserError):
        mixed.save(tmp_path / name)
