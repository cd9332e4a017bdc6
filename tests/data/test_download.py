from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl.data import download
from audiossl.data.config import DataConfig
from audiossl.data.download import SPEECH_COMMANDS, Archive, extract, fetch
from audiossl.data.speech_commands import open_speech_commands
from audiossl.errors import UserError

WORDS = ("no", "yes")


@functools.cache
def archive_bytes() -> bytes:
    """A small archive laid out as the official ones: ./<word>/<speaker>_nohash_<n>.wav and the two lists."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        add("./validation_list.txt", b"yes/00000001_nohash_0.wav\n")
        add("./testing_list.txt", b"no/00000002_nohash_0.wav\n")
        for word in WORDS:
            for speaker in range(6):
                # noise does not compress, so the archive is larger than one piece of the download
                noise = np.random.default_rng(speaker).integers(-9000, 9000, 16000).astype(np.int16)
                wav = io.BytesIO()
                soundfile.write(wav, noise, 16000, format="wav")
                add(f"./{word}/{speaker:08x}_nohash_0.wav", wav.getvalue())
    return packed.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; `breaks_at`, `content`, `knows_range`, `status` and `length` say how it misbehaves."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = archive_bytes()
        self.breaks_at: list[int] = []  # the first answer ends after so many bytes, and so on
        self.knows_range = True
        self.status = 0
        self.length: str | None = ""  # what is said of it; None for nothing
        self.ranges: list[str | None] = []

    @property
    def archive(self) -> Archive:
        url = f"http://127.0.0.1:{self.server_port}/data/words.tar.gz"
        content = archive_bytes()
        return Archive(url, len(content), hashlib.sha256(content).hexdigest(), 10 * len(content))


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.server.status:
            self.send_error(self.server.status)
            return
        content = self.server.content
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.knows_range else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.length is not None:
            self.send_header("Content-Length", self.server.length or str(len(content) - start))
        self.end_headers()
        end = self.server.breaks_at.pop(0) if self.server.breaks_at else len(content)
        self.wfile.write(content[start:end])
        self.close_connection = True  # a shorter answer than announced is a broken connection

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(download, "CHUNK_BYTES", 4096)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_downloaded_archive_is_a_data_set(server: Server, tmp_path: Path) -> None:
    root = fetch(server.archive, tmp_path / "words", progress=False)
    clips = open_speech_commands(DataConfig(root=str(root)))
    assert (len(clips), clips.labels) == (12, WORDS)
    assert [clip.id for clip in clips.split("validation")] == ["yes/00000001_nohash_0"]
    assert [clip.id for clip in clips.split("testing")] == ["no/00000002_nohash_0"]
    assert left_over(tmp_path) == ["words"]
    assert server.ranges == [None]


def test_a_folder_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()  # an empty folder counts as missing
    fetch(server.archive, tmp_path / "words", progress=False)
    fetch(server.archive, tmp_path / "words", progress=False)
    assert len(server.ranges) == 1


def test_two_that_ask_at_once_fetch_it_once(server: Server, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(fetch, server.archive, tmp_path / "words", progress=False) for _ in range(2)]
    assert [len(list(future.result().iterdir())) for future in asked] == [4, 4]
    assert len(server.ranges) == 1


def test_a_broken_download_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.breaks_at = [102_400, 151_552]
    root = fetch(server.archive, tmp_path / "words", progress=False)
    assert len(open_speech_commands(DataConfig(root=str(root)))) == 12
    assert server.ranges == [None, "bytes=102400-", "bytes=151552-"]


def test_a_later_process_goes_on_too(server: Server, tmp_path: Path) -> None:
    (tmp_path / "words.tar.gz.part").write_bytes(archive_bytes()[:70_000])
    fetch(server.archive, tmp_path / "words", progress=False)
    assert server.ranges == ["bytes=70000-"]


def test_a_server_without_range_sends_all_of_it_again(server: Server, tmp_path: Path) -> None:
    server.knows_range = False
    server.breaks_at = [102_400]
    fetch(server.archive, tmp_path / "words", progress=False)
    assert server.ranges == [None, "bytes=102400-"]
    assert left_over(tmp_path) == ["words"]


def test_wrong_bytes_are_removed_and_the_next_try_succeeds(server: Server, tmp_path: Path) -> None:
    good = server.content
    server.content = good[:-9] + b"not these"
    with pytest.raises(UserError, match=r"SHA-256 [0-9a-f]{64} where .* expected: the file was removed; try again"):
        fetch(server.archive, tmp_path / "words", progress=False)
    assert left_over(tmp_path) == []
    server.content = good
    assert fetch(server.archive, tmp_path / "words", progress=False).is_dir()


def test_another_size_is_refused_before_it_is_read(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>moved</html>"
    with pytest.raises(UserError, match=r"holds 18 bytes where \d+ were expected"):
        fetch(server.archive, tmp_path / "words", progress=False)
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("length", [None, "many", "-1"])
def test_a_server_that_sends_without_end_is_cut_off(server: Server, tmp_path: Path, length: str | None) -> None:
    server.length = length
    good = server.content
    server.content = good + b"x" * 10_000_000
    with pytest.raises(UserError, match=r"sends more than the \d+ bytes that were expected"):
        fetch(server.archive, tmp_path / "words", progress=False)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= len(good)
    server.content, server.length = good, ""
    assert fetch(server.archive, tmp_path / "words", progress=False).is_dir()


def test_a_piece_of_another_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "words.tar.gz.part"
    part.write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match="the file was removed"):
        fetch(server.archive, tmp_path / "words", progress=False)
    part.write_bytes(b"x" * (len(archive_bytes()) + 1))  # longer than the whole
    with pytest.raises(UserError, match="the file was removed"):
        fetch(server.archive, tmp_path / "words", progress=False)
    assert left_over(tmp_path) == []


def test_a_server_that_always_breaks_off_is_given_up_but_what_came_is_kept(server: Server, tmp_path: Path) -> None:
    server.breaks_at = [4096] * 20
    with pytest.raises(UserError, match=r"cannot be downloaded \(.*; 4096 of \d+ bytes are kept\): try again"):
        fetch(server.archive, tmp_path / "words", progress=False)
    assert left_over(tmp_path) == ["words.tar.gz.part"]
    assert len(server.ranges) == 1 + download.BARREN_TRIES


def test_a_missing_file_and_no_server_are_told_in_one_sentence(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(UserError, match=r"cannot be downloaded \(HTTP 404; 0 of \d+ bytes are kept\)"):
        fetch(server.archive, tmp_path / "words", progress=False)
    nobody = replace(server.archive, url="http://127.0.0.1:9/words.tar.gz")
    with pytest.raises(UserError, match=r"cannot be downloaded \(ConnectionError;.*--data.root"):
        fetch(nobody, tmp_path / "words", progress=False)


def test_too_small_a_disk_is_told_before_anything_is_asked_for(server: Server, tmp_path: Path) -> None:
    huge = replace(server.archive, n_bytes_extracted=10**18)
    with pytest.raises(UserError, match=r"GB free where words.tar.gz needs 1000000000.\d GB: make room"):
        fetch(huge, tmp_path / "words", progress=False)
    assert server.ranges == []


def test_a_place_that_cannot_be_written_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file.* cannot be written .*--data.root"):
        fetch(server.archive, tmp_path / "file" / "words", progress=False)


def pack(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        harmless = tarfile.TarInfo("yes/0_nohash_0.wav")
        harmless.size = 3
        tar.addfile(harmless, io.BytesIO(b"abc"))
        for member in members:
            tar.addfile(member, io.BytesIO(b"\0" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside.wav"),
        member("yes/../../outside.wav"),
        member("/tmp/audiossl-outside.wav"),
        member("yes/link.wav", tarfile.SYMTYPE, "../../outside.wav"),
        member("yes/link.wav", tarfile.SYMTYPE, "0_nohash_0.wav"),
        member("yes/hard.wav", tarfile.LNKTYPE, "../outside.wav"),
        member("yes/device", tarfile.CHRTYPE),
        member("yes/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: f"{bad.type.decode()} {bad.name}",
)
def test_unsafe_members_are_refused_and_nothing_is_left(bad: tarfile.TarInfo, tmp_path: Path) -> None:
    path = pack(tmp_path / "bad.tar.gz", bad)
    with pytest.raises(UserError, match=r"bad.tar.gz holds .*, which is no plain file or folder inside it"):
        extract(path, tmp_path / "words", progress=False)
    assert left_over(tmp_path) == ["bad.tar.gz"]
    assert not Path("/tmp/audiossl-outside.wav").exists()


@pytest.mark.parametrize("keep", [0.3, 0.0])
def test_a_cut_archive_is_told_and_nothing_is_left(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(archive_bytes()[: round(keep * len(archive_bytes()))])
    with pytest.raises(UserError, match=r"cut.tar.gz is not a whole .tar.gz"):
        extract(path, tmp_path / "words", progress=False)
    assert left_over(tmp_path) == ["cut.tar.gz"]


def test_the_official_archives_are_stated_completely() -> None:
    assert set(SPEECH_COMMANDS) == {"v0.01", "v0.02"}
    for version, archive in SPEECH_COMMANDS.items():
        assert archive.file_name == f"speech_commands_{version}.tar.gz"
        assert archive.url.startswith("https://")
        assert len(bytes.fromhex(archive.sha256)) == 32
        assert archive.n_bytes_extracted > archive.n_bytes > 10**9
