"""The table that other tools open: every column with what was given, in bounded memory, whole or not at all."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from audiossl.errors import UserError
from audiossl.map import parquet as module
from audiossl.map.neighbours import nearest_of_all
from audiossl.map.parquet import write_parquet
from audiossl.map.projections import Projection


def projections(n: int) -> dict[str, Projection]:
    xy = np.random.default_rng(0).normal(size=(2, n, 2)).astype(np.float32)
    return {"pca": Projection("PCA", xy[0], "about", 0.2), "umap": Projection("UMAP", xy[1], "seed 0", 0.4)}


def rows(n: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, 4)).astype(np.float32)


def test_every_column_holds_what_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 3)
    x, places, path = rows(8), projections(8), tmp_path / "map.parquet"
    near = nearest_of_all(x, 2)
    table = {"file": [f"{n}.wav" for n in range(8)], "peak_db": [-1.5] * 7 + [None], "label": ["a", None] * 4}
    images = (bytes([n]) for n in range(8))
    sounds = [b"OggS" * n if n != 5 else None for n in range(8)]
    write_parquet(path, table, places, near, images, iter(sounds), embeddings=x)
    found = parquet.read_table(path)
    assert {name: found[name].to_pylist() for name in table} == table
    for axis, name in enumerate("xy"):
        assert np.array_equal(found[f"pca_{name}"], places["pca"].xy[:, axis])
        assert np.array_equal(found[f"umap_{name}"], places["umap"].xy[:, axis])
        assert found[f"projection_{name}"] == found[f"umap_{name}"]
    assert [point["ids"] for point in found["neighbors"].to_pylist()] == near.rows.tolist()
    distances = [point["distances"] for point in found["neighbors"].to_pylist()]
    assert np.allclose(distances, 1 - near.cosines, atol=1e-6)
    assert found["image"].to_pylist() == [{"bytes": bytes([n]), "path": None} for n in range(8)]
    assert [sound and sound["bytes"] for sound in found["sound"].to_pylist()] == sounds
    assert np.array_equal(np.stack(found["embedding"].to_numpy()), x)
    assert parquet.ParquetFile(path).num_row_groups == 3
    assert json.loads(found.schema.metadata[b"audiossl"]) == {
        "projections": {"pca": {"about": "about", "preserved": 0.2}, "umap": {"about": "seed 0", "preserved": 0.4}},
        "projection": "umap",
    }


def test_types_are_those_that_the_tools_look_for(tmp_path):
    write_parquet(tmp_path / "map.parquet", {}, projections(5), nearest_of_all(rows(5)), [b""] * 5, None)
    schema = parquet.read_schema(tmp_path / "map.parquet")
    assert schema.field("projection_x").type == pa.float32()
    assert schema.field("neighbors").type == pa.struct(
        [("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))]
    )
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert "sound" not in schema.names


def test_the_same_map_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_parquet(tmp_path / name, {"label": ["x"] * 5}, projections(5), nearest_of_all(rows(5)), None, [b"s"] * 5)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("n", [1, 2])
def test_few_points_and_no_places_are_a_table_too(tmp_path, n):
    alone = {"pca": Projection("PCA", np.zeros((n, 2), np.float32), "all points are the same", float("nan"))}
    for places in (alone, {}):
        write_parquet(tmp_path / "map.parquet", {"label": [None] * n}, places, nearest_of_all(rows(n)), None, None)
        found = parquet.read_table(tmp_path / "map.parquet")
        assert found.num_rows == n
        assert [len(point["ids"]) for point in found["neighbors"].to_pylist()] == [n - 1] * n
        assert "NaN" not in found.schema.metadata[b"audiossl"].decode()


def test_columns_of_the_same_name_stand_beside_the_maps(tmp_path):
    table = {"image": ["1"], "projection_x": [2.0], "sound": [3], "neighbors": ["\udcff"], "neighbors_": [None]}
    write_parquet(tmp_path / "map.parquet", table, projections(1), nearest_of_all(rows(1)), [b"i"], [b"s"])
    found = parquet.read_table(tmp_path / "map.parquet")
    assert found["image_"].to_pylist() == ["1"]
    assert found["image"].to_pylist() == [{"bytes": b"i", "path": None}]
    assert found["projection_x_"].to_pylist() == [2.0]
    assert found["neighbors_"].to_pylist() == ["\\udcff"]
    assert found["neighbors__"].to_pylist() == [None]


def test_files_are_read_as_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 10)
    groups, made, write = [], [], parquet.ParquetWriter.write_table

    def images():
        for n in range(50):
            made.append(n)
            yield b"image"

    def written(writer, table):
        groups.append((table.num_rows, len(made)))
        write(writer, table)

    monkeypatch.setattr(parquet.ParquetWriter, "write_table", written)
    write_parquet(tmp_path / "map.parquet", {}, {}, nearest_of_all(rows(50)), images(), None)
    assert groups == [(10, 10), (10, 20), (10, 30), (10, 40), (10, 50)]


def test_what_goes_wrong_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "map.parquet"
    path.write_bytes(b"before")

    def images():
        yield b"first"
        raise UserError("the second cannot be read")

    near = nearest_of_all(rows(3))
    with pytest.raises(UserError, match="the second"):
        write_parquet(path, {}, projections(3), near, images(), None)
    with pytest.raises(ValueError, match="2 files for sound, and 3 points"):
        write_parquet(path, {}, projections(3), near, None, [b""] * 2)
    with pytest.raises(ValueError, match="the column label has 2 rows, and there are 3 points"):
        write_parquet(path, {"label": ["a", "b"]}, projections(3), near, None, None)
    assert [file.name for file in tmp_path.iterdir()] == ["map.parquet"]
    assert path.read_bytes() == b"before"
    with pytest.raises(UserError, match="cannot be written"):
        write_parquet(tmp_path / "nowhere" / "map.parquet", {}, projections(3), near, None, None)
