"""Archives that were made to do harm: `featurize` takes their sounds and nothing else, a download is refused whole."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from fuzzing.archives import packed
from fuzzing.sounds import Ear, encoded

from audiossl.data.download import extract
from audiossl.embed import archives
from audiossl.errors import UserError
from audiossl.featurize import featurize

SOUND = encoded("wav")


def pack(path, *members, mode="w"):
    """A tar file of (header, content)."""
    with tarfile.open(path, mode) as archive:
        for header, content in members:
            archive.addfile(header, io.BytesIO(content) if content else None)
    return path


def sound(name="a.wav"):
    header = tarfile.TarInfo(name)
    header.size = len(SOUND)
    return header, SOUND


def other(name, kind, target=""):
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header, b""


def rows(path):
    """Name below the archive, status and message of each sound in it."""
    result = featurize(path, Ear(), workers=1)
    return [(row["file"].removeprefix(f"{path}/"), row["status"], row["message"]) for row in result.table]


def statuses(path):
    return [(name, status) for name, status, _ in rows(path)]


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../secret.wav"),
        (tarfile.LNKTYPE, "a.wav"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
        (tarfile.DIRTYPE, ""),
    ],
)
def test_what_is_no_file_in_an_archive_is_passed_over(tmp_path, kind, target):
    (tmp_path / "secret.wav").write_bytes(SOUND)
    path = pack(tmp_path / "x.tar", other("link.wav", kind, target), sound())
    assert statuses(path) == [("a.wav", "ok")]


@pytest.mark.parametrize(
    "name", ["../../outside.wav", "/tmp/outside.wav", "words/../../outside.wav", "..\\outside.wav"]
)
def test_names_in_an_archive_are_names_and_no_places(tmp_path, name):
    (tmp_path / "in").mkdir()
    before = sorted(tmp_path.rglob("*"))
    path = pack(tmp_path / "in" / "x.tar", sound(name), sound(name))
    assert statuses(path) == [(name, "ok")] * 2  # twice the same name is two sounds
    assert sorted(tmp_path.rglob("*")) == [*before, path]


def test_an_archive_that_breaks_off_in_a_header_says_so(tmp_path):
    """Python's tarfile by itself takes such a header for the end, and the second sound would be lost in silence."""
    content = bytearray(pack(tmp_path / "x.tar", sound("a.wav"), sound("b.wav")).read_bytes())
    second = content.index(b"b.wav")
    content[second + 148 : second + 154] = b"777777"  # the header's checksum
    (tmp_path / "x.tar").write_bytes(content)
    (first, broken) = rows(tmp_path / "x.tar")
    assert first == ("a.wav", "ok", "")
    assert broken[1] == "error"
    assert "cannot be read on after 1 sounds (damaged header: bad checksum)" in broken[2]
    (tmp_path / "x.tar").write_bytes(content[: second + 100])
    assert [status for _, status in statuses(tmp_path / "x.tar")] == ["ok", "error"]


def bomb(path, name, n_bytes):
    """A gzipped archive of one member of zeros, a thousandth of its size."""
    header = tarfile.TarInfo(name)
    header.size = n_bytes
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.tobuf())
        for _ in range(0, n_bytes, 1 << 20):
            file.write(bytes(1 << 20))
    return path


@pytest.mark.parametrize("name", ["bomb.wav", "bomb.bin"])
def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archives, "LARGEST_BYTES", 1 << 20)
    path = bomb(tmp_path / "x.tar.gz", name, 1 << 23)
    assert path.stat().st_size < 1 << 16
    ((_, status, message),) = rows(path)
    assert status == "error"
    assert f"{name} has 8388608 bytes: give so large a file by itself" in message


@pytest.mark.parametrize("n_bytes", [1 << 33, 1 << 62])
def test_a_size_that_is_claimed_makes_no_room(tmp_path, n_bytes):
    header = tarfile.TarInfo("a.wav")
    header.size = n_bytes
    (tmp_path / "x.tar").write_bytes(header.tobuf() + SOUND)
    ((_, status, message),) = rows(tmp_path / "x.tar")
    assert status == "error"
    assert f"a.wav has {n_bytes} bytes" in message


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_name_of_gigabytes_is_not_read(tmp_path, kind):
    header = tarfile.TarInfo("a")
    header.type, header.size = kind, 1 << 32
    (tmp_path / "x.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    ((_, status, message),) = rows(tmp_path / "x.tar")
    assert status == "error"
    assert "damaged header: it is said to have 4294967296 bytes" in message


def test_headers_of_headers_without_end_are_an_error(tmp_path):
    header = tarfile.TarInfo("a")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    block = header.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")
    (tmp_path / "x.tar").write_bytes(block * 20_000)
    ((_, status, message),) = rows(tmp_path / "x.tar")
    assert status == "error"
    assert "cannot be read on after 0 sounds" in message


def test_an_archive_is_unpacked_up_to_what_was_promised(tmp_path):
    path = tmp_path / "words.tar.gz"
    path.write_bytes(packed("w:gz"))
    with pytest.raises(UserError, match=r"words\.tar\.gz unpacks to more than 9999 bytes"):
        extract(path, tmp_path / "words", progress=False, most_bytes=9999)
    assert [place.name for place in tmp_path.iterdir()] == ["words.tar.gz"]
    assert extract(path, tmp_path / "words", progress=False, most_bytes=100_000).is_dir()


@pytest.mark.parametrize("sparse", [False, True])
def test_a_download_that_claims_more_than_the_disk_has_is_refused(tmp_path, sparse):
    header = tarfile.TarInfo("a.wav")
    header.size = 1 << 60
    if sparse:
        header.pax_headers = {"GNU.sparse.size": str(1 << 60), "GNU.sparse.map": "0,512", "GNU.sparse.major": "0"}
        header.size = 512
    with gzip.open(tmp_path / "words.tar.gz", "wb") as file:
        file.write(header.tobuf(tarfile.PAX_FORMAT) + bytes(512))
    with pytest.raises(UserError, match=r"words\.tar\.gz unpacks to more than \d+ bytes"):
        extract(tmp_path / "words.tar.gz", tmp_path / "words", progress=False)
    assert not (tmp_path / "words").exists()


def test_a_file_under_a_files_name_is_told(tmp_path):
    path = pack(tmp_path / "words.tar.gz", sound("a"), sound("a/b.wav"), mode="w:gz")
    with pytest.raises(UserError, match=r"words"):
        extract(path, tmp_path / "words", progress=False)
    assert [place.name for place in Path(tmp_path).iterdir()] == ["words.tar.gz"]
