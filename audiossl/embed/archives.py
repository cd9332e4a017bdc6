"""Sounds in a tar file, as WebDataset keeps them, in its order: read from front to back, and never unpacked.

Nothing in an archive can name a place on the disk: links, devices and folders are passed over, and a name is a name.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from audiossl import audio
from audiossl.embed.items import Item
from audiossl.reading_tar import ERRORS, SureHeader

# A sound is held in memory while it is embedded, and several wait. In a packed archive a file of any kind has to be
# unpacked to be passed over, and a few kilobytes may stand for terabytes.
LARGEST_BYTES = 256 << 20


def archived(path: str, rank: int = 0, world: int = 1) -> Iterator[Item]:
    """The sounds in an archive that process `rank` of `world` takes; what cannot be read on is an item's problem."""
    number = 0
    try:
        with tarfile.open(path, "r|*", tarinfo=SureHeader) as archive:
            packed = not path.lower().endswith(".tar")
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # else all are kept, of an archive of any length
                is_sound = member.isfile() and Path(member.name).suffix.lower() in audio.AUDIO_SUFFIXES
                if member.size > LARGEST_BYTES and (is_sound or packed):
                    raise tarfile.ReadError(f"{member.name} has {member.size} bytes: give so large a file by itself")
                if not is_sound:
                    continue
                number += 1
                if (number - 1) % world == rank:
                    opened = archive.extractfile(member)
                    yield Item(f"{path}/{member.name}", source=opened.read() if opened else b"")
    except ERRORS as error:
        reason = f"{path} cannot be read on after {number} sounds ({str(error) or type(error).__name__}): pack it anew."
        yield Item(path, problem=audio.AudioError(reason))
