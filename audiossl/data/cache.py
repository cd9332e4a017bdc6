"""Decode every clip once into a memory-mapped int16 file, so that an epoch reads at memory speed.

A cache is a folder `clips/<name>-<key>` of two files: `waves.int16`, the clips one after the other, and
`table.json`, what they are, behind its own checksum. The key is a hash of the settings and of every clip: its
id, label, speaker, split, part, gain and the fingerprint of its file, so a cache is never stale: what changed
has another key.

A file's fingerprint is its size, inode, and times of change of content and of status. The last (ctime) is set
by the system and cannot be put back, so a file that was replaced by another one of the same size and date is
noticed too, at the price of one stat a file; hashing the contents would read everything at every start.

One process builds while others wait for it (see `cache_folder`). A cache that is damaged is built anew, and said to be.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from audiossl import audio
from audiossl.data.cache_folder import (
    WAVES,
    DamagedError,
    alone,
    open_cache,
    private_folder,
    publish,
    remove_abandoned,
    write_table,
)
from audiossl.data.cached import CachedClips
from audiossl.data.clips import Clip, ClipSet, ClipStream
from audiossl.data.config import DataConfig, cache_root
from audiossl.data.kept_open import KeptOpen
from audiossl.errors import UserError

FORMAT = 1
_THREADS = min(8, 2 * (os.cpu_count() or 1))  # decoding releases the interpreter's lock
_WINDOW = 32 * _THREADS  # clips decoded ahead of the one that is written
_LISTED = 10

Reading = tuple[np.ndarray, int] | audio.AudioError


def cache_clips(clips: ClipSet | ClipStream, config: DataConfig, progress: bool = True) -> CachedClips:
    """Open the cache of these clips; build it, or wait for who builds it, if there is none or it is damaged.

    Every clip is brought to `config.clip_s` at `config.sample_rate`. With `config.on_error` "skip" clips that
    cannot be read are left out, listed in `skipped`, and shown when `progress` is true.
    Raises `AudioError` for such a clip with "raise", and `UserError` for a set without a readable clip, a
    folder that cannot be written, or a full disk.
    """
    folder = cache_root(config) / "clips" / f"{_plain(clips.name)}-{cache_key(clips, config)}"
    cached = _found(folder, progress)
    if cached is None:
        with _writing(folder.parent, None):
            folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder, progress):
            cached = _found(folder, progress=False) or _built(folder, clips, config, progress)
    if cached.skipped and config.on_error == "raise":
        raise audio.AudioError(_listing(cached.skipped[:1]) + "; mend it, or use --data.on_error=skip.")
    if cached.skipped and progress:
        print(_report(cached), file=sys.stderr)
    return cached


def cache_key(clips: ClipSet | ClipStream, config: DataConfig) -> str:
    """Hash of everything that the cached clips depend on, as 20 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=10)
    settings: list[Any] = [FORMAT, clips.name, clips.split_rule, config.sample_rate, config.n_samples]
    if isinstance(clips, ClipStream):
        digest.update(json.dumps([*settings, config.clip_s, config.limit, clips.fingerprint]).encode())
        return digest.hexdigest()
    digest.update(json.dumps([*settings, clips.labels]).encode())
    known: dict[Path, str] = {}
    for clip in clips:
        part = (clip.start_s, clip.duration_s, clip.gain)
        what = (clip.id, clip.label, clip.speaker, clip.split, part, _fingerprint(clip.source, known))
        digest.update(repr(what).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _fingerprint(source: Path | Callable[[], bytes], known: dict[Path, str]) -> str:
    if callable(source):
        stated = getattr(source, "fingerprint", None)
        return stated or hashlib.blake2b(source(), digest_size=16).hexdigest()
    if source not in known:
        try:
            stat = source.stat()
            known[source] = f"{stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}"
        except OSError:
            known[source] = "missing"
    return known[source]


def _found(folder: Path, progress: bool) -> CachedClips | None:
    """The cache in a folder, None when it must be built; says so of one that is damaged."""
    try:
        return open_cache(folder)
    except DamagedError as error:
        if progress:
            print(f"the cache {folder} is damaged ({error}): it is built anew.", file=sys.stderr)
        return None


def _built(folder: Path, clips: ClipSet | ClipStream, config: DataConfig, progress: bool) -> CachedClips:
    n_clips = len(clips) if isinstance(clips, ClipSet) else None
    if n_clips == 0:
        raise UserError(f"the data set {clips.name} has no clips; check --data.root.")
    needed = None if n_clips is None else n_clips * config.n_samples * 2
    with _writing(folder.parent, needed):
        remove_abandoned(folder.parent)
        if needed is not None and shutil.disk_usage(folder.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        private = private_folder(folder)
    try:
        # disable=None: a bar in a terminal, nothing in a log file.
        bar = tqdm(clips, f"caching {clips.name}", n_clips, unit=" clips", disable=None if progress else True)
        with bar, _writing(folder.parent, needed), open(private / WAVES, "wb") as file:
            kept, skipped = _write_waves(file, _decoded(bar, config), config)
            file.flush()
            os.fsync(file.fileno())
        if not kept:
            why = f"none of its {len(skipped)} clips can be read; the first: {skipped[0][1]}" if skipped else ""
            raise UserError(f"the data set {clips.name} has no clips: {why or 'it is empty.'}")
        with _writing(folder.parent, needed):
            write_table(private, _table(clips, config, kept, skipped))
            publish(private, folder)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    cached = _found(folder, progress)
    if cached is None:
        raise UserError(f"the cache {folder} was damaged while it was written; delete it and start again.")
    return cached


def _write_waves(
    file: BinaryIO, readings: Iterable[tuple[Clip, Reading]], config: DataConfig
) -> tuple[list[tuple[Clip, int]], list[tuple[str, str]]]:
    """Write clip after clip; returns the clips with their sound samples, and what was left out and why."""
    kept: list[tuple[Clip, int]] = []
    skipped: list[tuple[str, str]] = []
    for clip, reading in readings:
        if isinstance(reading, audio.AudioError):
            if config.on_error == "raise":
                raise reading
            skipped.append((clip.id, str(reading)))
            continue
        wave, n_valid = reading
        file.write(wave.data)
        kept.append((clip, n_valid))
    return kept, skipped


def _table(
    of: ClipSet | ClipStream,
    config: DataConfig,
    kept: list[tuple[Clip, int]],
    skipped: list[tuple[str, str]],
) -> dict[str, Any]:
    names = of.labels if isinstance(of, ClipSet) else {clip.label for clip, _ in kept} - {None}
    return {
        "name": of.name,
        "split_rule": of.split_rule,
        "sample_rate": config.sample_rate,
        "n_samples": config.n_samples,
        "label_names": sorted(name for name in names if name is not None),
        "ids": [clip.id for clip, _ in kept],
        "labels": [clip.label for clip, _ in kept],
        "speakers": [clip.speaker for clip, _ in kept],
        "splits": [clip.split for clip, _ in kept],
        "n_valid": [n_valid for _, n_valid in kept],
        "skipped": skipped,
    }


def _decoded(clips: Iterable[Clip], config: DataConfig) -> Iterator[tuple[Clip, Reading]]:
    """Every clip with what was read of it, in order; threads work a window ahead."""
    waiting: deque[tuple[Clip, Future[Reading]]] = deque()
    pool, kept = ThreadPoolExecutor(_THREADS), KeptOpen()
    try:
        for clip in clips:
            waiting.append((clip, pool.submit(_decode, clip, config, kept)))
            if len(waiting) >= _WINDOW:
                done, reading = waiting.popleft()
                yield done, reading.result()
        while waiting:
            done, reading = waiting.popleft()
            yield done, reading.result()
    finally:
        pool.shutdown(cancel_futures=True)
        kept.close()


def _decode(clip: Clip, config: DataConfig, kept: KeptOpen) -> Reading:
    """The clip as int16 (S,) and how many samples of it are sound, or the error that it gave."""
    try:
        wave = audio.to_int16(clip.wave(config.sample_rate, config.clip_s, kept))
    except audio.AudioError as error:
        return error
    return audio.fit_length(wave, config.n_samples), min(len(wave), config.n_samples)


@contextmanager
def _writing(folder: Path, needed: int | None) -> Iterator[None]:
    """Turn what the system says when it cannot write into a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            size = "" if needed is None else f" for the {needed} bytes of this cache"
            raise UserError(
                f"there is no room in {folder}{size}; free some, or choose a folder with --data.cache."
            ) from error
        raise UserError(
            f"the cache folder {folder} cannot be written ({error.strerror}); choose one with --data.cache."
        ) from error


def _plain(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:60] or "clips"


def _listing(skipped: list[tuple[str, str]]) -> str:
    return "\n".join(reason.rstrip(".") for _, reason in skipped)


def _report(cached: CachedClips) -> str:
    rest = len(cached.skipped) - _LISTED
    lines = [f"{len(cached.skipped)} clips of {cached.name} could not be read and were left out:"]
    lines += [f"  {reason}" for _, reason in cached.skipped[:_LISTED]]
    return "\n".join(lines + ([f"  and {rest} more"] if rest > 0 else []))
