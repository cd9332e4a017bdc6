"""Whether a path leaves a folder: by `..`, as an absolute path, or through a link."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

Place = str | os.PathLike[str]


def way_out(folder: Place) -> Callable[[Place], bool]:
    """A function that says of a path whether it leads out of `folder`, links followed.

    >>> leaves = way_out("/data/sounds")
    >>> leaves("/data/sounds/a/../b.wav"), leaves("/data/sounds/../other/b.wav"), leaves("/etc/passwd")
    (False, True, True)
    """
    root = os.path.join(os.path.realpath(folder), "")
    real = functools.cache(os.path.realpath)  # of many files in few folders

    def leaves(path: Place) -> bool:
        try:
            parent, name = os.path.split(path)
            # Not by `abspath`, which strikes .. out of the text: behind a link it is the folder above the link's end.
            place = os.path.join(real(parent), name)
            if name in ("", ".", "..") or os.path.islink(place):
                place = os.path.realpath(place)
        except ValueError:  # a name that no file can have
            return False
        return not place.startswith(root)

    return leaves
