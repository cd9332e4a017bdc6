"""A folder is the old one or the new one, and never half of each."""

import pytest

from audiossl.errors import UserError
from audiossl.whole_folder import written_whole


def files(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def write(place, **content):
    with written_whole(place, ("a", "b")) as folder:
        for name, text in content.items():
            (folder / name).write_text(text)


def test_a_new_folder_takes_the_place_of_the_old_one_but_for_what_is_not_its_own(tmp_path):
    place = tmp_path / "deep" / "place"
    write(place, a="1", b="2")
    assert files(place) == {"a": "1", "b": "2"}
    (place / "notes").write_text("mine")
    write(place, a="3")
    assert files(place) == {"a": "3", "notes": "mine"}  # the old b is gone with its folder
    assert [path.name for path in place.parent.iterdir()] == ["place"]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), UserError("no such model"), KeyboardInterrupt()])
def test_what_goes_wrong_leaves_the_old_folder(tmp_path, error):
    place = tmp_path / "place"
    write(place, a="1")

    def break_off():
        with written_whole(place, ("a",)) as folder:
            (folder / "a").write_text("half")
            raise error

    with pytest.raises(UserError if isinstance(error, OSError) else type(error)):
        break_off()
    assert files(place) == {"a": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_rename_that_fails_brings_the_old_folder_back(tmp_path, monkeypatch):
    import os

    place, rename = tmp_path / "place", os.replace
    write(place, a="1")

    def failing(source, target):
        if str(source).endswith(".new"):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr("audiossl.whole_folder.os.replace", failing)
    with pytest.raises(UserError, match=r"place cannot be written: .*Input/output error"):
        write(place, a="2")
    assert files(place) == {"a": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
