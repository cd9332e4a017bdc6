"""Read files of tensors, torch's and safetensors, without running what is in them; each fails with a ValueError."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

Place = str | os.PathLike[str]


class ForbiddenNameError(ValueError):
    """A file asks for a class or function that could run code of its own: `name` is what it asks for."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it asks for {name}, which could run code")
        self.name = name


def read_torch(path: Place, classes: Sequence[type] = (), mapped: bool = False, checked: bool = False) -> Any:
    """What torch.save wrote, on the CPU: tensors, plain values, and objects of these classes.

    mapped: tensors stay in the file until they are touched. checked: its checksums are compared with its bytes, which
    torch.load does not do (not every writer of such files keeps them). Raises OSError, ForbiddenNameError, or
    ValueError for what is damaged, packed, or no such file.
    """
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip:
            _check_stored(Path(path))
        with torch.serialization.safe_globals(list(classes)):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and is_zip)
        if is_zip and checked:
            _check_sums(path)
        return content
    except OSError:
        raise
    except Exception as error:  # a damaged file can make its reader trip over anything
        if isinstance(error, pickle.UnpicklingError) and (found := re.search(r"GLOBAL ([\w.]+)", str(error))):
            raise ForbiddenNameError(found[1]) from None
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from None


def _check_stored(path: Path) -> None:
    """Raise ValueError where a zip file holds packed members: torch writes none, and they may unpack to anything."""
    with zipfile.ZipFile(path) as packed:
        for member in packed.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > path.stat().st_size:
                raise ValueError(f"{member.filename} in it is packed, which torch.save does not do")


def _check_sums(path: Place) -> None:
    """Raise ValueError where a byte of a zip file is not the one that was written."""
    with zipfile.ZipFile(path) as packed:
        if broken := packed.testzip():
            raise ValueError(f"{broken} in it is not what was written: the disk or a copy changed it")


def read_safetensors(path: Place) -> dict[str, Tensor]:
    """Tensors by name; raises OSError, or ValueError for what is damaged or no such file."""
    try:
        return dict(load_file(path))
    except OSError:
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from None


def are_plain(tensors: Any) -> bool:
    """Whether this is a dictionary of tensors by name, each of whose numbers is in the file.

    >>> are_plain({"weight": torch.ones(2)}), are_plain({"weight": torch.ones(2, device="meta")}), are_plain({"a": 1})
    (True, False, False)
    """
    if not isinstance(tensors, dict):
        return False
    return all(isinstance(x, Tensor) and x.layout == torch.strided and x.device.type == "cpu" for x in tensors.values())
