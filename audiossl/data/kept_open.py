"""Long recordings that stay open from one part to the next.

An MP3 has no index: whoever opens one walks through all frames before the part that is wanted. Ten hours that are cut
into clips of a second would be 36,000 walks through five hours each; an open file knows the frames that it has passed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

from audiossl import audio

_SLOW_TO_REOPEN = "MP3"
_MOST = 32  # files that are open though nobody reads them; the usual limit of a process is 1024


class KeptOpen:
    """Lends recordings to threads, each open file to one at a time; `close` is to be called at the end."""

    def __init__(self) -> None:
        self._free: list[tuple[str, audio.Source, ExitStack]] = []  # the last one was given back last
        self._lock = Lock()

    @contextmanager
    def lent(self, source: audio.Source) -> Iterator[audio.Source]:
        """What to read a recording from: for a path the open file, else the source; raises `AudioError`."""
        if not isinstance(source, (str, os.PathLike)):
            yield source
            return
        path = os.fspath(source)
        file, closing = self._taken(path) or _opened(path)
        try:
            yield file
        except BaseException:
            closing.close()
            raise
        self._take_back(path, file, closing)

    def _taken(self, path: str) -> tuple[audio.Source, ExitStack] | None:
        with self._lock:
            for place in reversed(range(len(self._free))):
                if self._free[place][0] == path:
                    return self._free.pop(place)[1:]
        return None

    def _take_back(self, path: str, file: audio.Source, closing: ExitStack) -> None:
        if getattr(file, "format", None) != _SLOW_TO_REOPEN:
            closing.close()
            return
        with self._lock:
            self._free.append((path, file, closing))
            too_many = self._free.pop(0) if len(self._free) > _MOST else None
        if too_many:
            too_many[2].close()

    def close(self) -> None:
        """Close what nobody reads any more."""
        with self._lock:
            while self._free:
                self._free.pop()[2].close()


def _opened(path: str) -> tuple[audio.Source, ExitStack]:
    closing = ExitStack()
    return closing.enter_context(audio.opened(path)), closing
