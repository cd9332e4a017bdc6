"""Fetch a large archive: size, checksum, resume, progress bar, safe extraction.

pooch, used for small files, starts a broken download again from its first byte; 2.4 GB deserve better. A
piece lies beside the archive as `<name>.part` and is continued by HTTP Range. Nothing is visible under its
final name before its checksum agrees, and no folder before all of it is extracted.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from filelock import FileLock
from tqdm import tqdm

from audiossl.errors import UserError
from audiossl.reading_tar import ERRORS, SureHeader

# Of a connection that breaks, at most so many bytes are lost.
CHUNK_BYTES = 1 << 16
TIMEOUT_S = 30.0
# A try that brings no byte at all counts; after so many in a row we give up.
BARREN_TRIES = 4
FIRST_PAUSE_S = 0.5


@dataclass(frozen=True)
class Archive:
    """A .tar.gz on the network: its address, its size and SHA-256, and about how many bytes are in it."""

    url: str
    n_bytes: int
    sha256: str
    n_bytes_extracted: int

    @property
    def file_name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


# Sizes as served; SHA-256 as torchaudio and TensorFlow Datasets state them. Extracted: files of 32 kB each.
SPEECH_COMMANDS = {
    "v0.01": Archive(
        url="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.01.tar.gz",
        n_bytes=1_489_096_277,
        sha256="743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
        n_bytes_extracted=2_400_000_000,
    ),
    "v0.02": Archive(
        url="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        n_bytes=2_428_923_189,
        sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        n_bytes_extracted=3_900_000_000,
    ),
}


def fetch(archive: Archive, folder: str | os.PathLike[str], progress: bool = True) -> Path:
    """Download `archive` and extract it as `folder`; returns the folder.

    A folder that has content is left alone. The archive is removed when the folder is complete. Two processes
    may ask for the same folder at once: the second waits and finds it done. Raises UserError, naming what to
    do, when the server cannot be reached or serves something else, the disk is too small, or the archive has
    unsafe members.
    """
    target = Path(folder)
    with _told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not (target.is_dir() and any(target.iterdir())):
                _check_disk(target.parent, archive.n_bytes + archive.n_bytes_extracted, archive.file_name)
                for dead in target.parent.glob(f"{target.name}.*.part"):  # of a process that was killed
                    shutil.rmtree(dead, ignore_errors=True)
                path = download(archive, target.parent, progress)
                extract(path, target, progress, 2 * archive.n_bytes_extracted)
                path.unlink()
    return target


def download(archive: Archive, folder: str | os.PathLike[str], progress: bool = True) -> Path:
    """Download `archive` into `folder`, going on where an earlier try broke off; returns the checked file.

    Raises UserError when the server cannot be reached, or the file has another size or checksum than stated
    (it is removed then).
    """
    path = Path(folder) / archive.file_name
    part = path.with_name(path.name + ".part")
    if not path.exists():
        _fill(archive, part, progress)
        part = _checked(archive, part)
        os.replace(part, path)
        return path
    return _checked(archive, path)


def extract(path: Path, folder: Path, progress: bool = True, most_bytes: int | None = None) -> Path:
    """Extract the .tar.gz `path` as `folder` (made beside it, then renamed); returns the folder.

    Only plain files and folders inside `folder` are accepted: a link, a device, an absolute path or one with
    `..` raises UserError, and so does a damaged archive, and one of more than `most_bytes` (by default what the disk
    has left); nothing is left then.
    """
    most_bytes = shutil.disk_usage(folder.parent).free if most_bytes is None else most_bytes
    staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        with _told(staging):
            _unpack(path, staging, progress, most_bytes)
        # mkdtemp's folder is for its owner only; the finished one gets the usual permissions.
        staging.chmod(0o755)
        if folder.is_dir():
            folder.rmdir()  # an empty folder; anything in it is an error and stays
        os.replace(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return folder


def _fill(archive: Archive, part: Path, progress: bool) -> None:
    """Ask for the missing end of `part` until it has the stated size."""
    barren = 0
    problem: Exception | None = None
    bar = tqdm(total=archive.n_bytes, unit="B", unit_scale=True, desc=archive.file_name, disable=not progress or None)
    with bar:
        while (have := part.stat().st_size if part.exists() else 0) < archive.n_bytes:
            bar.update(have - bar.n)
            try:
                _request(archive, part, have, bar)
            except requests.RequestException as error:
                problem = error
            grown = (part.stat().st_size if part.exists() else 0) > have
            barren = 0 if grown else barren + 1
            if barren == BARREN_TRIES:
                raise UserError(
                    f"{archive.url} cannot be downloaded ({_reason(problem)}; {have} of {archive.n_bytes} "
                    "bytes are kept): try again to go on from there, or give recordings with --data.root."
                ) from problem
            if not grown:
                time.sleep(FIRST_PAUSE_S * 2 ** (barren - 1))


def _request(archive: Archive, part: Path, have: int, bar: tqdm) -> None:
    """One request for the bytes from `have` on, appended to `part`; a server without Range starts it anew."""
    # identity: a proxy that packs the answer again would change sizes and positions
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(archive.url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == 416:
            part.unlink()  # the server has fewer bytes than we: what we hold is of another file
        answer.raise_for_status()
        goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if not goes_on:
            have = 0
            bar.update(-bar.n)
        left = archive.n_bytes - have
        length = answer.headers.get("Content-Length", "")
        offered = int(length) if length.isdecimal() else left
        if offered > left or (answer.status_code == 200 and offered != left):
            raise UserError(
                f"{archive.url} holds {have + offered} bytes where {archive.n_bytes} were expected: "
                "it is not the file that was published; get it elsewhere and give --data.root."
            )
        with part.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_content(CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:  # of a server that did not say how much it sends, and may never end
                    raise UserError(
                        f"{archive.url} sends more than the {archive.n_bytes} bytes that were expected: "
                        "it is not the file that was published; get it elsewhere and give --data.root."
                    )
                file.write(chunk)
                bar.update(len(chunk))


def _checked(archive: Archive, path: Path) -> Path:
    found_bytes = path.stat().st_size
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
    if found_bytes == archive.n_bytes and found.hexdigest() == archive.sha256:
        return path
    path.unlink()
    raise UserError(
        f"{archive.url} gave {found_bytes} bytes with SHA-256 {found.hexdigest()} where {archive.n_bytes} "
        f"bytes with {archive.sha256} were expected: the file was removed; try again, or give recordings of "
        "your own with --data.root."
    )


def _unpack(path: Path, staging: Path, progress: bool, most_bytes: int) -> None:
    try:
        with tarfile.open(path, "r:gz", tarinfo=SureHeader) as tar:
            members = _safe(tar, path, most_bytes)
            hidden = not progress or None
            for member in tqdm(members, desc=f"extracting {path.name}", unit=" files", disable=hidden):
                # "data" also drops set-uid bits and foreign owners; Python before 3.11.4 does not know it
                if hasattr(tarfile, "data_filter"):
                    tar.extract(member, staging, filter="data")
                else:
                    tar.extract(member, staging, set_attrs=False)
    except ERRORS as error:
        if isinstance(error, UserError) or (isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)):
            raise
        raise UserError(f"{path} is not a whole .tar.gz ({error}): remove it and download it again.") from error


def _safe(tar: tarfile.TarFile, path: Path, most_bytes: int) -> Iterator[tarfile.TarInfo]:
    n_bytes = 0
    for member in tar:
        parts = Path(member.name).parts
        inside = not member.name.startswith(("/", "\\")) and ".." not in parts and ":" not in member.name
        if not inside or not (member.isfile() or member.isdir()):
            raise UserError(
                f"{path} holds {member.name!r}, which is no plain file or folder inside it: "
                "it is not the archive that was published; remove it."
            )
        n_bytes += member.size
        if n_bytes > most_bytes:
            raise UserError(
                f"{path} unpacks to more than {most_bytes} bytes: it is not the archive that was published; remove it."
            )
        yield member


def _check_disk(folder: Path, needed: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder} has {free / 1e9:.1f} GB free where {what} needs {needed / 1e9:.1f} GB: "
            "make room, or choose another disk with --data.root."
        )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say in one sentence what the operating system refused."""
    try:
        yield
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise
        todo = "make room" if error.errno == errno.ENOSPC else "choose another place with --data.root"
        raise UserError(f"{error.filename or path} cannot be written ({error.strerror or error}): {todo}.") from error


def _reason(problem: Exception | None) -> str:
    if problem is None:
        return "the server sends nothing"
    if isinstance(problem, requests.HTTPError) and problem.response is not None:
        return f"HTTP {problem.response.status_code}"
    return type(problem).__name__
