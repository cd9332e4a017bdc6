"""Everything that can be given to featurize gives the embeddings of the same sounds."""

import io
import json
import tarfile
from itertools import chain

import datasets
import numpy as np
import pytest
import soundfile

from audiossl.embed.sources import find_items
from audiossl.errors import UserError
from audiossl.featurize import featurize

RATE = 16000


@pytest.fixture
def expected(sounds, levels):
    return featurize(sounds, levels).embeddings


def encoded(path):
    return path.read_bytes()


def paths(sounds):
    return sorted(sounds.glob("*.wav"))


def manifest(sounds, ending):
    names = [path.name for path in paths(sounds)]
    file = sounds / f"list{ending}"
    if ending == ".jsonl":
        file.write_text("\n".join(json.dumps({"label": "x", "path": name}) for name in names))
    elif ending == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"label": ["x"] * 3, "file": names}), file)
    else:
        comma = "\t" if ending == ".tsv" else ","
        file.write_text("\n".join(["label" + comma + "path", *(f"x{comma}{name}" for name in names)]))
    return file


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_manifests_name_files_beside_them(sounds, levels, expected, ending):
    result = featurize(manifest(sounds, ending), levels)
    assert np.array_equal(result.embeddings, expected)
    assert result.column("file") == [str(path) for path in paths(sounds)]


def test_a_name_with_brackets_that_is_missing_in_a_list_is_a_row(sounds, levels):
    result = featurize([paths(sounds)[0], sounds / "none[1].wav"], levels)
    assert result.column("status") == ["ok", "error"]
    with pytest.raises(UserError, match="matches no file: check the pattern"):
        find_items(sounds / "none[1].wav")


def test_a_manifest_without_paths_is_said(tmp_path):
    (tmp_path / "list.csv").write_text("label,name\nx,y\n")
    with pytest.raises(UserError, match=r"list\.csv has no column of paths \(it has: label, name\): name it path"):
        find_items(tmp_path / "list.csv")


@pytest.mark.parametrize("form", ["bytes", "file objects", "open files", "mixed"])
def test_bytes_and_file_objects(sounds, levels, expected, form):
    files = paths(sounds)
    if form == "bytes":
        inputs = [encoded(path) for path in files]
    elif form == "file objects":
        inputs = [io.BytesIO(encoded(path)) for path in files]
    elif form == "open files":
        inputs = [path.open("rb") for path in files]
    else:
        wave, rate = soundfile.read(files[1], dtype="float32")
        inputs = [str(files[0]), {"array": wave, "sampling_rate": rate}, encoded(files[2])]
    assert np.allclose(featurize(inputs, levels).embeddings, expected, atol=1e-7)
    assert np.allclose(featurize(inputs[0], levels).embeddings, expected[:1], atol=1e-7)


def test_a_long_file_object_is_read_in_blocks(levels, noise):
    content = io.BytesIO()
    soundfile.write(content, noise(20.0), RATE, format="WAV", subtype="FLOAT")
    result = featurize(content, levels, level="window", workers=4)
    assert np.allclose(result.embeddings, featurize(noise(20.0), levels, RATE, level="window").embeddings, atol=1e-7)


def packed(sounds, name="all.tar", mode="w"):
    with tarfile.open(sounds.parent / name, mode) as archive:
        for path in paths(sounds):
            archive.add(path, path.name)
            label = tarfile.TarInfo(path.stem + ".cls")
            label.size = 1
            archive.addfile(label, io.BytesIO(b"0"))
    return sounds.parent / name


@pytest.mark.parametrize(("name", "mode"), [("all.tar", "w"), ("all.tar.gz", "w:gz")])
def test_archives_are_read_from_front_to_back(sounds, levels, expected, name, mode):
    path = packed(sounds, name, mode)
    result = featurize(path, levels)
    assert np.array_equal(result.embeddings, expected)
    assert result.column("file") == [f"{path}/{n}.wav" for n in range(3)]
    assert find_items(path).n_known is None


def test_an_archive_that_breaks_off_is_a_row(sounds, levels, expected):
    path = packed(sounds)
    path.write_bytes(path.read_bytes()[:9000])  # within the second sound
    result = featurize(path, levels)
    assert result.column("status") == ["ok", "error"]
    assert "cannot be read on after" in result.table[1]["message"]
    assert np.array_equal(result.embeddings[:1], expected[:1])


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_data_sets(sounds, levels, expected, streaming):
    table = datasets.Dataset.from_dict({"audio": [{"path": str(path)} for path in paths(sounds)], "label": [0, 1, 2]})
    table = table.cast_column("audio", datasets.Audio(decode=False))
    result = featurize(table.to_iterable_dataset(num_shards=3) if streaming else table, levels)
    assert np.array_equal(result.embeddings, expected)
    assert [name.rpartition("/")[2] for name in result.column("file")] == ["0.wav", "1.wav", "2.wav"]


def test_a_stream_that_breaks_off_is_a_row(sounds, levels, expected):
    def rows():
        yield {"audio": {"path": str(paths(sounds)[0]), "bytes": None}}
        raise ConnectionError("the line is dead")

    table = datasets.IterableDataset.from_generator(rows)
    table = table.cast(datasets.Features({"audio": datasets.Audio(decode=False)}))
    result = featurize(table, levels)
    assert result.column("status") == ["ok", "error"]
    assert "the line is dead" in result.table[1]["message"]
    assert np.array_equal(result.embeddings[:1], expected[:1])


def test_rows_of_plain_arrays(levels, noise):
    table = datasets.Dataset.from_dict({"audio": [{"array": noise().tolist(), "sampling_rate": RATE}]})
    assert np.allclose(featurize(table, levels).embeddings, featurize(noise(), levels, RATE).embeddings, atol=1e-6)


def test_a_data_set_saved_to_disk_by_name(sounds, levels, expected, tmp_path):
    table = datasets.Dataset.from_dict({"audio": [{"path": str(path)} for path in paths(sounds)]})
    table.cast_column("audio", datasets.Audio(decode=False)).save_to_disk(tmp_path / "saved")
    assert np.array_equal(featurize(f"hf:{tmp_path / 'saved'}", levels).embeddings, expected)
    with pytest.raises(UserError, match="hf:no/such/set cannot be opened"):
        find_items("hf:no/such/set")


def test_a_data_set_without_audio_is_said(levels):
    with pytest.raises(UserError, match="0 columns of audio"):
        featurize(datasets.Dataset.from_dict({"text": ["a"]}), levels)


def test_shares_are_disjoint_whole_and_even_in_size(tmp_path, noise):
    for n in range(20):
        (tmp_path / f"{n:02d}.wav").write_bytes(bytes(1000 * (1 + n) ** 2))
    items = find_items(tmp_path)
    for world in (1, 2, 3, 7):
        shares = [[item.name for item in items.share(rank, world)] for rank in range(world)]
        assert sorted(chain.from_iterable(shares)) == [item.name for item in items]
        assert all(share == sorted(share) for share in shares)
        sizes = [sum((tmp_path / name).stat().st_size for name in share) for share in shares]
        assert max(sizes) < 1.2 * sum(sizes) / world + 1000


@pytest.mark.parametrize("kind", ["archive", "streamed", "indexed"])
@pytest.mark.parametrize("world", [2, 5])
def test_streams_are_shared_by_row_under_names_that_stay(sounds, kind, world):
    table = datasets.Dataset.from_dict({"audio": [{"path": str(path)} for path in paths(sounds)]})
    table = table.cast_column("audio", datasets.Audio(decode=False))
    whole = {"archive": packed(sounds), "streamed": table.to_iterable_dataset(num_shards=2), "indexed": table}[kind]
    items = find_items(whole)
    shares = [[item.name for item in items.share(rank, world)] for rank in range(world)]
    assert sorted(chain.from_iterable(shares)) == [item.name for item in items]
    done = shares[0]
    assert [item.name for item in items.without(done)] == [name for name in (i.name for i in items) if name not in done]
