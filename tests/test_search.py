"""The nearest sounds, against the definition; repeats; the command on real files."""

import json
import shutil
import sys

import numpy as np
import pytest
import scipy.sparse
import soundfile

from audiossl import search
from audiossl.cli import main
from audiossl.embeddings import load_embeddings
from audiossl.encoder import AudioEncoder
from audiossl.errors import UserError
from audiossl.featurize import featurize
from audiossl.search import embed_query, nearest, repeats
from audiossl.search_index import nearly_nearest

RATE = 16000
pytestmark = pytest.mark.filterwarnings("ignore:these recordings")


@pytest.mark.parametrize("block", [2, 4096])
def test_neighbours_by_the_definition(monkeypatch, block):
    monkeypatch.setattr(search, "BLOCK", block)
    generator = np.random.default_rng(0)
    x, q = generator.normal(size=(100, 7)).astype(np.float32), generator.normal(size=(5, 7))
    x[[3, 50]] = np.nan
    cosine = (q / np.linalg.norm(q, axis=1)[:, None]) @ (x / np.linalg.norm(x, axis=1)[:, None]).T
    found = nearest(x, q, k=6)
    for row, value, all_of_it in zip(found.rows, found.cosines, cosine, strict=True):
        wanted = np.argsort(-np.nan_to_num(all_of_it, nan=-2))[:6]
        assert row.tolist() == wanted.tolist()
        assert np.allclose(value, all_of_it[wanted], atol=1e-6)
    assert nearest(x, q, k=1000).rows.shape == (5, 98)


def test_the_approximate_search_finds_nearly_all(tmp_path):
    generator = np.random.default_rng(0)
    x, q = generator.normal(size=(5000, 32)).astype(np.float32), generator.normal(size=(50, 32))
    x[7] = np.nan
    exact = nearest(x, q, k=10)
    for _ in range(2):  # built, and read
        found = nearly_nearest(x, q, k=10, keep_in=tmp_path)
        assert len(list(tmp_path.iterdir())) == 1
        shares = [len(set(a) & set(b)) / 10 for a, b in zip(exact.rows.tolist(), found.rows.tolist(), strict=True)]
        assert np.mean(shares) > 0.9
        assert np.allclose(found.cosines[:, 0], exact.cosines[:, 0], atol=0.05)
        assert (np.diff(found.cosines, axis=1) <= 1e-6).all()
    nearly_nearest(x[:100], q, k=10, keep_in=tmp_path)  # other rows, another graph
    assert len(list(tmp_path.iterdir())) == 2
    assert nearly_nearest(x[:5], q, k=10).rows.shape == (50, 5)


def test_without_usearch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(UserError, match=r"pip install \"audiossl-toolkit\[search\]\""):
        nearly_nearest(np.ones((2, 4)), np.ones((1, 4)))


def test_what_cannot_be_searched_is_said():
    with pytest.raises(UserError, match="query has 3 numbers and the embeddings have 4"):
        nearest(np.ones((2, 4)), np.ones((1, 3)))
    with pytest.raises(UserError, match="all rows are errors"):
        nearest(np.full((2, 4), np.nan), np.ones((1, 4)))
    with pytest.raises(UserError, match="a query is no embedding"):
        nearest(np.ones((2, 4)), np.array([[1, 0, np.nan, 0]]))


@pytest.mark.parametrize("block", [3, 4096])
def test_repeats_are_found_across_blocks(monkeypatch, block):
    monkeypatch.setattr(search, "BLOCK", block)
    x = np.random.default_rng(0).normal(size=(40, 16))
    x[30] = 3 * x[2]
    x[11] = x[2] + 1e-4
    x[39] = x[38]
    x[5] = np.nan
    found = repeats(x)
    assert sorted(found.groups) == [[2, 11, 30], [38, 39]]
    assert found.share == pytest.approx(5 / 39)
    assert repeats(np.random.default_rng(1).normal(size=(40, 16))).groups == []


@pytest.mark.parametrize("block", [7, 4096])
def test_many_equal_rows_are_one_group_in_bounded_memory(monkeypatch, block):
    monkeypatch.setattr(search, "BLOCK", block)
    held, matrix = [], scipy.sparse.coo_matrix

    def counted(values, **more):
        held.append(len(values[0]))
        return matrix(values, **more)

    monkeypatch.setattr(scipy.sparse, "coo_matrix", counted)
    x = np.tile(np.eye(3), (50, 1))  # three sounds, fifty times each
    assert repeats(x).groups == [list(range(n, 150, 3)) for n in range(3)]
    if block == 7:
        assert max(held) <= 7 * 50 + 150  # and not 50 * 49 / 2 pairs of each sound


@pytest.fixture
def model(encoder_folder):
    return encoder_folder


@pytest.fixture
def tones(tmp_path):
    folder = tmp_path / "tones"
    folder.mkdir()
    for n, hz in enumerate([200, 400, 800, 1600, 3200]):
        wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(2 * RATE) / RATE)
        soundfile.write(folder / f"{n}.wav", wave, RATE)
    soundfile.write(folder / "2_again.wav", 0.3 * np.sin(2 * np.pi * 800 * np.arange(2 * RATE) / RATE), RATE)
    (folder / "bad.wav").write_text("no sound")
    return folder


@pytest.mark.parametrize("level", ["clip", "window", "frame"])
def test_a_sound_finds_itself(tones, model, level):
    found = featurize(tones, model, level=level)
    query = embed_query(found, [tones / "3.wav", tones / "0.wav"])
    assert len(query) == 2
    rows = nearest(found.embeddings, query.embeddings, k=1).rows[:, 0]
    assert [found.table[row]["file"] for row in rows] == [str(tones / "3.wav"), str(tones / "0.wav")]


def test_a_model_by_name_is_found_by_its_name_again(tones):
    found = featurize(tones, "words-tiny", level="clip")
    query = embed_query(found, [tones / "3.wav"])
    assert found.table[nearest(found.embeddings, query.embeddings, k=1).rows[0, 0]]["file"] == str(tones / "3.wav")


def test_a_model_that_moved_is_asked_for(tones, model, tmp_path):
    found = featurize(tones, shutil.copytree(model, tmp_path / "moving"))
    (tmp_path / "moving").rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"moving of these embeddings cannot be opened .* with --model"):
        embed_query(found, [tones / "3.wav"])
    assert len(embed_query(found, [tones / "3.wav"], tmp_path / "moved")) == 1


def test_the_command_finds_and_lists(capsys, tones, model, tmp_path):
    out = tmp_path / "out.parquet"
    assert main(["featurize", str(tones), "--model", str(model), "-o", str(out), "--quiet"]) == 0
    assert main(["search", str(out), str(tones / "2.wav"), "-k", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {hit["file"] for hit in said["nearest"]} == {str(tones / "2.wav"), str(tones / "2_again.wav")}
    assert said["nearest"][0]["cosine"] == pytest.approx(1.0, abs=1e-5)
    assert main(["search", str(out), str(tones / "2.wav"), "-k", "2", "--json", "--approximate"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {hit["file"] for hit in again["nearest"]} == {
        hit["file"] for hit in said["nearest"]
    }  # which are all but one
    assert main(["search", str(out), "--repeats"]) == 0
    said = capsys.readouterr().out
    assert "2.wav  0.00-2.00 s\n" in said
    assert "2_again.wav" in said
    assert "1 groups of 2 rows, 33.3 % of all" in said


def test_mistakes(capsys, tones, model, tmp_path):
    out = tmp_path / "out.npz"
    main(["featurize", str(tones), "--model", str(model), "-o", str(out), "--quiet"])
    other = tmp_path / "other"
    AudioEncoder.from_pretrained(model).randomised(5).save_pretrained(other)
    for arguments, words in (
        ([str(out)], "give a recording to look for, or --repeats"),
        ([str(tones), "a.wav"], "holds no embeddings"),
        ([str(tones / "none.npz"), "a.wav"], "none.npz does not exist"),
        ([str(tones / "bad.wav"), "a.wav"], "cannot be read as embeddings"),
        ([str(out), str(tones / "bad.wav")], "bad.wav cannot be decoded"),
        ([str(out), str(tones / "none.wav")], "none.wav does not exist"),
        ([str(out), str(tones / "1.wav"), "--model", str(other)], "its weights are others"),
        ([str(out), str(tones / "1.wav"), "-k", "0"], "-k is 0"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main(["search", *arguments])
        err = capsys.readouterr().err
        assert words in err
        assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_what_was_written_is_read_back(tones, model, tmp_path, ending):
    result = featurize(tones, model, level="window")
    back = load_embeddings(result.save(tmp_path / f"out.{ending}"))
    assert np.array_equal(back.embeddings, result.embeddings, equal_nan=True)
    assert back.meta == json.loads(json.dumps(result.meta, default=str))
    for row, wanted in zip(back.table, result.table, strict=True):
        assert {k: v for k, v in row.items() if k != "sample_rate_in"} == {
            k: v for k, v in wanted.items() if k != "sample_rate_in"
        }


def test_to_dataset(tones, model):
    result = featurize(tones, model)
    table = result.to_dataset()
    assert table["file"][:] == result.column("file")
    assert np.allclose(np.array(table["embedding"][:], np.float32), result.embeddings, equal_nan=True)
