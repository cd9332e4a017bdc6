"""Files that would run code when they are opened: nothing of it runs, and a sentence says what is wrong."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from audiossl.recipes.esvit_speechcommands import Config
from audiossl.transforms.picture_cache import FolderCache
from fuzzing.models import small_encoder
from fuzzing.tables import embeddings, report_files
from pyarrow import parquet

from audiossl.compare.cells import own_flags
from audiossl.compare.config import CompareConfig
from audiossl.config import parse
from audiossl.embed.sources import find_items
from audiossl.embeddings import load_embeddings
from audiossl.encoder import load_model
from audiossl.errors import UserError
from audiossl.probes.feature_file import read_features
from audiossl.released_byola import load_byola
from audiossl.run import files
from audiossl.run.checkpoint import checkpoints_of_run, read_state, weights_of_run
from audiossl.run.report import write_report

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


class Evil:
    """What pickle does when it opens this: make a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path):
    """A place that is there once an evil object was opened."""
    yield tmp_path / "opened"
    assert not (tmp_path / "opened").exists(), "code ran"


def zip_file(path, evil):
    torch.save({"teacher": {"weight": torch.ones(2)}, "epoch": evil}, path)


def old_file(path, evil):
    torch.save({"weight": evil}, path, _use_new_zipfile_serialization=False)


def plain_pickle(path, evil):
    path.write_bytes(pickle.dumps(evil))


def oldest_file(path, evil):
    """The tar files of torch 0.1: pickles in members."""
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            member, content = tarfile.TarInfo(name), pickle.dumps(evil)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def by_a_name(path, evil):
    """A pickle that names a function in a tensor's place: no object of ours, and torch's own reader."""
    torch.save({"weight": os.system}, path)


WRITERS = [zip_file, old_file, plain_pickle, oldest_file, by_a_name]


def test_the_file_would_do_harm_to_a_reader_that_trusts_it(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "opened")))
    assert (tmp_path / "opened").exists()


@pytest.mark.parametrize("write", WRITERS)
def test_a_released_file_runs_nothing(tmp_path, marker, write):
    write(tmp_path / "net.pth", Evil(marker))
    for open_file in (load_byola, load_model):
        with pytest.raises(UserError, match=r"net\.pth (asks for|is damaged)"):
            open_file(tmp_path / "net.pth", "audiontt_2020" if open_file is load_byola else "swin_tiny")


@pytest.mark.parametrize("write", WRITERS)
def test_a_checkpoint_runs_nothing(tmp_path, marker, write):
    folder = tmp_path / "run" / "checkpoints" / "epoch-0001_batch-00000"
    folder.mkdir(parents=True)
    (folder / "position.json").write_text('{"epoch": 1}')
    write(folder / "state.pt", Evil(marker))
    with pytest.raises(UserError, match=r"state\.pt cannot be read"):
        read_state(folder)
    with pytest.raises(UserError, match=r"state\.pt cannot be read"):
        weights_of_run(tmp_path / "run")


def test_an_encoders_folder_runs_nothing_that_lies_in_it(tmp_path, marker):
    small_encoder().save_pretrained(tmp_path / "encoder")
    plain_pickle(tmp_path / "encoder" / "pytorch_model.bin", Evil(marker))
    (tmp_path / "encoder" / "modeling.py").write_text(f"import os; os.mkdir({str(marker)!r})")
    load_model(tmp_path / "encoder")
    (tmp_path / "encoder" / "model.safetensors").write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(UserError, match="is damaged or cut off"):
        load_model(tmp_path / "encoder")


def test_arrays_of_objects_run_nothing(tmp_path, marker):
    evil = np.array([Evil(marker)], dtype=object)
    np.savez(tmp_path / "x.npz", embeddings=evil, meta=evil, encoder_hash=evil, about=evil)
    with pytest.raises(UserError, match=r"x\.npz is not a file of features"):
        read_features(tmp_path / "x.npz", "a", "b")
    with pytest.raises(UserError, match=r"x\.npz cannot be read as embeddings"):
        load_embeddings(tmp_path / "x.npz")
    place = FolderCache(str(tmp_path)).place("abc")
    place.parent.mkdir()
    np.save(place, evil)
    assert FolderCache(str(tmp_path)).get("abc") is None


def test_a_report_runs_nothing(tmp_path, marker):
    report_files(tmp_path)
    evil = np.array([Evil(marker)], dtype=object)
    for name in (files.VIEWS, files.WORST):
        np.savez(tmp_path / name, about=evil, name=evil)
    (tmp_path / files.CONFIG).write_text(f"run: !!python/object/apply:os.mkdir [{marker}]")
    page = write_report(tmp_path).read_text()
    for name in (files.VIEWS, files.WORST, files.CONFIG):
        assert f"{name} could not be read" in page


def test_metadata_of_parquet_runs_nothing(tmp_path, marker):
    """As CVE-2023-47248: the schema that Arrow keeps in a file may name a type of Python, with a pickle."""
    facts = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Evil(marker)),
    }
    table = embeddings().to_arrow()
    field = pa.field("file", pa.string(), metadata=facts)
    table = table.cast(table.schema.set(0, field)).replace_schema_metadata(
        table.schema.metadata | {b"pandas": pickle.dumps(Evil(marker)), b"audiossl": pickle.dumps(Evil(marker))}
    )
    parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x\.parquet cannot be read as embeddings"):
        load_embeddings(tmp_path / "x.parquet")
    find_items(tmp_path / "x.parquet", outside=True)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!evil"])
def test_yaml_runs_nothing(tmp_path, marker, tag):
    place = tmp_path / "config.yaml"
    place.write_text(f"run: {tag} [{marker}]")
    with pytest.raises(UserError, match=r"config\.yaml"):
        parse(Config, "esvit_speechcommands", ["--config", str(place)])
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        own_flags(CompareConfig(settings=str(place), steps=1))
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        checkpoints_of_run(tmp_path, keep=1)
