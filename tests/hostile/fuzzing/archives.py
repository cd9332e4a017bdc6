"""Archives: those that `featurize` reads without unpacking, and the one that `data/download.py` unpacks."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from audiossl.data.download import extract
from audiossl.featurize import featurize

from .mutations import damaged_gzip, damaged_tar
from .sounds import Ear, encoded
from .target import Target


def packed(mode: str, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar file of sounds, one with a long name."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode, format=form) as archive:
        for name in ("a.wav", "words/b.flac", f"words/{'long ' * 40}.wav", "words/list.txt"):
            member = tarfile.TarInfo(name)
            sound = encoded("flac" if name.endswith(".flac") else "wav")
            member.size = len(sound)
            archive.addfile(member, io.BytesIO(sound))
    return content.getvalue()


def _tar(folder: Path) -> Sequence[Path]:
    paths = [folder / "pax.tar", folder / "gnu.tar"]
    for path, form in zip(paths, (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT), strict=True):
        path.write_bytes(packed("w", form))
    return paths


def _tar_gz(folder: Path) -> Sequence[Path]:
    (folder / "words.tar.gz").write_bytes(packed("w:gz"))
    return [folder / "words.tar.gz"]


def open_archive(path: Path) -> None:
    """As `featurize` reads it: a row with its reason for what cannot be read."""
    result = featurize(path, Ear(), errors="record", workers=1)
    assert all(row["status"] in ("ok", "silent", "clipped", "error") for row in result.table)


def unpack(path: Path) -> None:
    """As a download is unpacked: nothing outside of the folder, and all of it or nothing."""
    folder, before = path.parent / "words", _tree(path.parent)
    try:
        extract(path, folder, progress=False)
    finally:
        assert all(place.is_file() or place.is_dir() for place in folder.rglob("*"))
        assert not any(place.is_symlink() for place in folder.rglob("*"))
        shutil.rmtree(folder, ignore_errors=True)
        assert _tree(path.parent) == before


def _tree(folder: Path) -> list[str]:
    return sorted(place.name for place in folder.iterdir())


ARCHIVES = [
    Target("tar of sounds", _tar, open_archive, damaged_tar, 600),
    Target("tar.gz of sounds", _tar_gz, open_archive, damaged_gzip, 600),
    Target("downloaded archive", _tar_gz, unpack, damaged_gzip, 600),
]
