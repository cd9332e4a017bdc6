"""How a valid file is damaged: as bytes, as a tree of JSON, and inside containers whose checksums are mended again."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from random import Random
from typing import Any

# Numbers that overflow, allocate or loop where nobody looks at them.
EXTREMES = (0, 1, 2, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
HEADER = 128  # bytes at both ends that are hit more often than the rest: there the formats keep their numbers
DEEP = 100_000
PLAIN_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    float("nan"),
    float("-inf"),
    2**63,
    10**400,
    "",
    "\0",
    "../../../etc/passwd",
    "<script>alert(1)</script>",
    "x" * 100_000,
    [],
    {},
    [[]],
    {"": None},
    ["a", 1, None],
)


def damaged(content: bytes, random: Random) -> bytes:
    """Content with one to four changes."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = random.choice(CHANGES)(content, _place(content, random), random)
    return content


def _place(content: bytes, random: Random) -> int:
    size = len(content)
    end = random.choice((min(16, size), min(HEADER, size), size, size))
    place = random.randrange(end + 1)
    return size - place if random.random() < 0.25 else place


def _flip(content: bytes, place: int, random: Random) -> bytes:
    return (
        _over(content, place, bytes([content[place] ^ 1 << random.randrange(8)])) if place < len(content) else content
    )


def _set(content: bytes, place: int, random: Random) -> bytes:
    value = random.choice((0, 0xFF, 0x7F, 0x80, random.randrange(256)))
    return _over(content, place, bytes([value]) * random.choice((1, 1, 2, 4, 8, 64)))


def _number(content: bytes, place: int, random: Random) -> bytes:
    size, order = random.choice("HIQ"), random.choice("<>")
    value = random.choice(EXTREMES) % 256 ** struct.calcsize(size)
    return _over(content, place, struct.pack(order + size, value))


def _over(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new[: len(content) - place] + content[place + len(new) :]


def _cut(content: bytes, place: int, random: Random) -> bytes:
    return content[:place]


def _remove(content: bytes, place: int, random: Random) -> bytes:
    return content[:place] + content[place + random.choice((1, 2, 4, 64, 1000)) :]


def _insert(content: bytes, place: int, random: Random) -> bytes:
    new = random.choice((b"\0", b"\xff", random.randbytes(random.choice((1, 4, 16))), b"\0" * 1000))
    return content[:place] + new + content[place:]


def _double(content: bytes, place: int, random: Random) -> bytes:
    return content[:place] + content[place : place + random.choice((1, 16, 512, 4096))] * 2 + content[place:]


CHANGES = (_flip, _flip, _set, _number, _number, _cut, _remove, _insert, _double)


def damaged_text(content: bytes, random: Random) -> bytes:
    """Text with other characters, encodings, lines, nesting, or damaged as bytes."""
    kind = random.randrange(8)
    text = content.decode("utf-8", "replace")
    lines = text.splitlines(keepends=True) or [""]
    line = random.randrange(len(lines))
    if kind == 0:
        return random.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\x1b[2J")) + content
    if kind == 1:
        return text.encode(random.choice(("utf-16", "utf-32", "utf-7", "cp037")), "replace")
    if kind == 2:
        return "".join(random.sample(lines, len(lines))).encode()
    if kind == 3:
        lines[line] *= random.choice((2, 1000))
    elif kind == 4:
        odd = (
            "\0",
            "\u202e",
            "\ud7ff",
            "\x85",
            '"',
            "'",
            "\t",
            ": ",
            "- ",
            ",",
            "\r",
            "*a",
            "&a ",
            "!!python/name:os ",
        )
        place = random.randrange(len(lines[line]) + 1)
        lines[line] = lines[line][:place] + random.choice(odd) + lines[line][place:]
    elif kind == 5:
        opened = random.choice(("[", "{", "{a: ", "- ", '{"a":', '["'))
        lines[line] = lines[line].rstrip("\n") + opened * random.choice((10, DEEP)) + "\n"
    elif kind == 6:
        words = lines[line].replace(":", ": ").split(" ")
        words[random.randrange(len(words))] = str(random.choice(PLAIN_VALUES))
        lines[line] = " ".join(words)
    else:
        return damaged(content, random)
    return "".join(lines).encode("utf-8", "surrogatepass")


def damaged_json(content: bytes, random: Random) -> bytes:
    """JSON (or lines of it) with values of another kind, missing and doubled keys; a part of the time other text."""
    if random.random() < 0.2:
        return damaged_text(content, random)
    lines = content.decode().splitlines()
    try:
        parts = [json.loads(content)]
    except ValueError:
        parts = [json.loads(line) for line in lines]
    which = random.randrange(len(parts))
    for _ in range(random.choice((1, 1, 2, 3))):
        parts[which] = _changed_tree(parts[which], random)
    text = "\n".join(json.dumps(part) for part in parts)
    return text.encode("utf-8", "surrogatepass")


def _changed_tree(tree: Any, random: Random) -> Any:
    if isinstance(tree, dict) and tree and random.random() < 0.9:
        key = random.choice(list(tree))
        kind = random.randrange(8)
        if kind == 0:
            return {name: value for name, value in tree.items() if name != key}
        if kind == 1:
            return {**tree, random.choice(("", "\0", "x" * 1000, f"{key}2")): tree[key]}
        return {**tree, key: _changed_tree(tree[key], random)}
    if isinstance(tree, list) and tree and random.random() < 0.9:
        place = random.randrange(len(tree))
        if random.random() < 0.2:
            return tree[:place] + tree[place : place + 1] * random.choice((0, 2, 100)) + tree[place + 1 :]
        return [*tree[:place], _changed_tree(tree[place], random), *tree[place + 1 :]]
    if isinstance(tree, int) and not isinstance(tree, bool) and random.random() < 0.5:
        return random.choice((*EXTREMES, -tree, tree + 1, float(tree % 2**53)))
    return random.choice(PLAIN_VALUES)


def damaged_zip(content: bytes, random: Random) -> bytes:
    """One member of a zip file damaged and packed again with right checksums; a part of the time the zip itself."""
    if random.random() < 0.3:
        return damaged(content, random)
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = [(name, old.read(name)) for name in old.namelist()]
    which = random.randrange(len(members))
    change = random.randrange(10)
    name, inside = members[which]
    if change == 0:
        members.pop(which)
    elif change == 1:
        members.append((random.choice(("../x", "/x", name, "", "x" * 300)), inside))
    else:
        members[which] = name, damaged(inside, random)
    packed = io.BytesIO()
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(packed, "w", method) as new:
        for name, inside in members:
            new.writestr(zipfile.ZipInfo(name), inside, method)
    return packed.getvalue()


def damaged_ogg(content: bytes, random: Random) -> bytes:
    """An Ogg file that is damaged, with the checksums of its pages mended most of the time."""
    content = damaged(content, random)
    return _mended_pages(content) if random.random() < 0.8 else content


def _mended_pages(content: bytes) -> bytes:
    mended, place = bytearray(content), content.find(b"OggS")
    while place >= 0 and place + 27 <= len(mended):
        n_segments = mended[place + 26]
        end = place + 27 + n_segments + sum(mended[place + 27 : place + 27 + n_segments])
        mended[place + 22 : place + 26] = bytes(4)
        mended[place + 22 : place + 26] = _ogg_checksum(mended[place:end]).to_bytes(4, "little")
        place = mended.find(b"OggS", max(end, place + 4))
    return bytes(mended)


def _ogg_checksum(page: bytes) -> int:
    """RFC 3533's: the polynomial 0x04c11db7, not reflected, which zlib's is."""
    value = 0
    for byte in page:
        value = (value << 8) & 0xFFFFFFFF ^ _OGG_TABLE[value >> 24 ^ byte]
    return value


def _ogg_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


_OGG_TABLE = _ogg_table()


def damaged_tar(content: bytes, random: Random) -> bytes:
    """A tar file that is damaged, with the checksums of its headers mended most of the time."""
    mended = bytearray(damaged(content, random))
    if random.random() < 0.8:
        for place in range(0, len(mended) - tarfile.BLOCKSIZE + 1, tarfile.BLOCKSIZE):
            if mended[place + 257 : place + 262] == b"ustar":
                block = bytes(mended[place : place + tarfile.BLOCKSIZE])
                mended[place + 148 : place + 156] = b"%06o\0 " % tarfile.calc_chksums(block)[0]
    return bytes(mended)


def damaged_gzip(content: bytes, random: Random) -> bytes:
    """A gzipped tar file, damaged inside or outside."""
    if random.random() < 0.3:
        return damaged(content, random)
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(damaged_tar(zlib.decompress(content, wbits=47), random)) + packer.flush()


def damaged_safetensors(content: bytes, random: Random) -> bytes:
    """Weights whose JSON header is damaged, and its length mended; a part of the time the bytes."""
    if random.random() < 0.3:
        return damaged(content, random)
    size = int.from_bytes(content[:8], "little")
    header = damaged_json(content[8 : 8 + size], random)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]
