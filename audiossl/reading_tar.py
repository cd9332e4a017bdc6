"""Headers of tar files as they should be: what is damaged or makes no sense is an error, and not the archive's end."""

from __future__ import annotations

import tarfile
import zlib

HEADER_BYTES = 1 << 20  # of a long name, or of other facts about a member, which tarfile reads into memory
OF_HEADERS = (b"x", b"g", b"X", b"L", b"K")  # types of such headers: PAX for one member or for all, and GNU
# What a damaged archive raises: tarfile trips over numbers, names and nesting in more than its own way.
ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, RecursionError)


class SureHeader(tarfile.TarInfo):
    """A member that is one: give it to `tarfile.open` as `tarinfo`.

    tarfile by itself takes a damaged header for the end of the archive, and what follows is lost without a word.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> SureHeader:
        """Read a header; raises `tarfile.ReadError` for one that is damaged, cut off or far too long."""
        try:
            member = super().frombuf(buf, encoding or "utf-8", errors)
        except (tarfile.EmptyHeaderError, tarfile.EOFHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged header: {error}") from None
        if member.size < 0 or (member.type in OF_HEADERS and member.size > HEADER_BYTES):
            raise tarfile.ReadError(f"damaged header: it is said to have {member.size} bytes")
        return member
