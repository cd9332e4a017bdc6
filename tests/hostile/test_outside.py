"""Paths in a manifest stay in its folder unless that is allowed: the list may have come with the sounds."""

from __future__ import annotations

import os

import numpy as np
import pytest
import soundfile
from fuzzing.models import small_encoder
from fuzzing.sounds import Ear, encoded

from audiossl.cli import main
from audiossl.data import DataConfig, open_clips
from audiossl.data.inside import way_out
from audiossl.embed.sources import find_items
from audiossl.errors import UserError
from audiossl.featurize import featurize

WAYS_OUT = [
    "../secret.wav",
    "{outside}/secret.wav",
    "words/../../secret.wav",
    "link.wav",
    "linked/secret.wav",
    "deep/../secret.wav",
    "~/secret.wav",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with sounds, and links to a sound outside, to the folder outside and to one below that."""
    monkeypatch.setenv("HOME", str(tmp_path))
    inside = tmp_path / "shared"
    (inside / "words").mkdir(parents=True)
    for place in (tmp_path / "secret.wav", inside / "a.wav", inside / "words" / "b.wav"):
        place.write_bytes(encoded("wav"))
    (inside / "link.wav").symlink_to(tmp_path / "secret.wav")
    (inside / "linked").symlink_to(tmp_path)
    (tmp_path / "other").mkdir()
    (inside / "deep").symlink_to(tmp_path / "other")
    return inside


def manifest(folder, *paths, name="list.csv"):
    (folder / name).write_text("\n".join(["path", *paths]))
    return folder / name


@pytest.mark.parametrize("way", WAYS_OUT)
def test_a_path_out_of_the_manifests_folder_is_refused_by_name(folder, way):
    way = way.format(outside=folder.parent)
    place = manifest(folder, "a.wav", way)
    with pytest.raises(UserError, match=r"line 3: .*secret\.wav|link\.wav") as caught:
        open_clips(DataConfig(root=str(place)))
    assert "lies outside of the folder of list.csv" in str(caught.value)
    assert "--data.outside true" in str(caught.value)
    with pytest.raises(UserError, match=r"list\.csv names 1 of 2 files outside of its own folder.*--outside"):
        find_items(place)


@pytest.mark.parametrize("way", WAYS_OUT)
def test_it_is_read_where_that_is_allowed(folder, way):
    place = manifest(folder, "a.wav", way.format(outside=folder.parent))
    assert len(open_clips(DataConfig(root=str(place), outside=True))) == 2
    result = featurize(place, Ear(), outside=True)
    assert result.column("status") == ["ok", "ok"]


def test_paths_inside_are_read_however_they_are_written(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert sum(1 for _ in find_items(manifest(folder, "a.wav", "words/../a.wav", "./words/./b.wav"))) == 3
    place = manifest(folder, "a.wav", f"{folder}/words/b.wav")
    for name in (str(place), "list.csv", "../shared/list.csv"):
        assert len(open_clips(DataConfig(root=name))) == 2
        assert sum(1 for _ in find_items(name)) == 2


def test_folders_are_followed_to_where_they_lead(folder):
    leaves = way_out(folder)
    inside = [f"{folder}/{name}" for name in ("words", "words/", "words/.", "words/../a.wav")]
    # The folder itself is not in it.
    outside = [f"{folder}/{name}" for name in ("", ".", "words/..", "deep/..", "words/../link.wav")]
    assert [name for name in inside + outside if leaves(name)] == outside


def test_a_manifest_that_is_reached_by_a_link_has_the_folder_that_it_names(folder, tmp_path):
    os.symlink(folder, tmp_path / "data")
    manifest(folder, "a.wav", f"{folder}/words/b.wav", f"{tmp_path}/data/words/b.wav")
    assert sum(1 for _ in find_items(tmp_path / "data" / "list.csv")) == 3


def test_the_commands_allow_it_by_a_flag(folder, tmp_path, capsys):
    small_encoder().save_pretrained(tmp_path / "encoder")
    soundfile.write(tmp_path / "secret.wav", np.ones(8000), 8000)
    place = manifest(folder, "../secret.wav")
    words = ["featurize", str(place), "--model", str(tmp_path / "encoder"), "-o", str(tmp_path / "e.npz"), "--quiet"]
    with pytest.raises(SystemExit):
        main(words)
    assert "outside of its own folder" in capsys.readouterr().err
    assert main([*words, "--outside"]) == 0
    with pytest.raises(SystemExit):
        main(["predict", str(place), "--model", str(tmp_path / "encoder")])
    assert "outside of its own folder" in capsys.readouterr().err
