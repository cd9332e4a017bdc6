"""Read files that may be damaged, or were made to do harm: JSON, YAML, arrays. Each fails in one way, a ValueError.

No reader here runs what is in a file, and none takes more memory than a file of its size can be worth: a header that
promises terabytes, a few kilobytes that unpack to gigabytes, lists within lists without end. What holds tensors is read
by `audiossl.reading_tensors`.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

Place = str | os.PathLike[str]

# A configuration is some kilobytes; YAML's reader takes a minute for ten megabytes.
YAML_BYTES = 1 << 20
# Values of a YAML file that stand in it once but are meant often: a few lines can mean a billion of them.
YAML_VALUES = 100_000
LONGEST_INT = 18  # digits
LAST_LETTER = 0x10FFFF  # of Unicode; numpy makes strings of whatever numbers there are, and Python stops at them
# What an array file may unpack to: silence packs a hundredfold, and small files more.
UNPACKED_BYTES, UNPACKED_TIMES = 64 << 20, 100


def read_json(path: Place) -> Any:
    """The content of a JSON file; raises OSError, or ValueError where it is none."""
    return parse_json(Path(path).read_bytes())


def parse_json(text: str | bytes) -> Any:
    """The content of a JSON text; raises ValueError where it is none, or nested without end.

    >>> parse_json('{"a": [1]}')
    {'a': [1]}
    """
    try:
        return json.loads(text, parse_int=_int)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _int(digits: str) -> int | float:
    """A whole number, as a float where it is larger than any that we write: arithmetic with 400 digits overflows."""
    return int(digits) if len(digits) <= LONGEST_INT else float(digits)


def read_yaml(path: Place) -> Any:
    """The content of a YAML file; raises OSError, or ValueError where it is none."""
    return parse_yaml(yaml_text(path))


def yaml_text(path: Place) -> str:
    """The text of a YAML file; raises OSError, or ValueError where it is no text or far too long."""
    n_bytes = os.path.getsize(path)
    if n_bytes > YAML_BYTES:
        raise ValueError(f"{n_bytes} bytes are no settings")
    return Path(path).read_text(encoding="utf-8")


def parse_yaml(text: str) -> Any:
    """The content of a YAML text, plain values alone; raises ValueError where it is none."""
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        check_yaml(root)
        return None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (TypeError, AttributeError, KeyError, IndexError) as error:  # of a tag on a value of another kind
        raise ValueError(f"a value is not of its kind, {error}") from None


def check_yaml(root: Any) -> None:
    """Raise ValueError where aliases make a document's values too many to go through.

    >>> import yaml
    >>> check_yaml(yaml.compose("a: &a [1, 2]\\nb: [*a, *a]"))
    """
    n_values, waiting = 0, [root]
    while waiting:
        node = waiting.pop()
        children = getattr(node, "value", None)
        n_values += 1
        if n_values > YAML_VALUES:
            raise ValueError(f"its aliases stand for more than {YAML_VALUES} values")
        if isinstance(children, list):
            for child in children:
                waiting.extend(child if isinstance(child, tuple) else (child,))


def read_arrays(path: Place) -> dict[str, Any]:
    """The arrays of an .npz file by name; raises OSError, or ValueError: damaged, or it holds Python objects."""
    import numpy as np

    try:
        with zipfile.ZipFile(path) as packed:
            check_sizes(packed, os.path.getsize(path))
            for member in packed.infolist():
                _check_array(packed, member)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except OSError:
        raise
    except Exception as error:  # a damaged file can make its reader trip over anything
        raise ValueError(str(error) or type(error).__name__) from None
    for name, array in arrays.items():
        letters = np.ascontiguousarray(array).view(np.uint32) if np.asarray(array).dtype.kind == "U" else np.empty(0)
        if (letters > LAST_LETTER).any():
            raise ValueError(f"{name} holds what is no text")
    if odd := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"{odd[0]} is no array")
    return arrays


def check_sizes(packed: zipfile.ZipFile, n_bytes: int) -> None:
    """Raise ValueError where a zip file of so many bytes unpacks to more than such files do."""
    unpacked = sum(member.file_size for member in packed.infolist())
    if unpacked > UNPACKED_BYTES + UNPACKED_TIMES * n_bytes:
        raise ValueError(f"its {n_bytes} bytes unpack to {unpacked}")


def _check_array(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise ValueError where an array's header promises more than its bytes can hold: numpy would make room first."""
    from numpy.lib import format as npy

    with packed.open(member) as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename} is of an unknown version")
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    n_bytes = dtype.itemsize
    for length in shape:
        n_bytes *= length
    if not 0 <= n_bytes <= member.file_size or any(length < 0 for length in shape):
        raise ValueError(f"{member.filename} promises {n_bytes} bytes and has {member.file_size}")
