"""Encoders on the Hugging Face Hub: push a folder there, and open one by its name, ORGANISATION/NAME."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from audiossl.errors import UserError

if TYPE_CHECKING:
    from audiossl.encoder import AudioEncoder

FILES = ["config.json", "model.safetensors", "README.md"]
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def looks_like_a_name(text: str) -> bool:
    """Whether this can be ORGANISATION/NAME, and not a folder that was mistyped.

    >>> looks_like_a_name("audiossl/words"), looks_like_a_name("runs/first/encoder"), looks_like_a_name("./encoder")
    (True, False, False)
    """
    return bool(_NAME.fullmatch(text)) and not os.path.isdir(text.partition("/")[0])


def fetch(name: str, revision: str | None = None, token: str | None = None) -> Path:
    """The folder of an encoder of the Hub in the local cache; raises `UserError` when it cannot be had."""
    try:
        return Path(snapshot_download(name, revision=revision, token=token, allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(
            f"there is no folder {name!r}, and no such model can be had from the Hugging Face Hub ({reason})."
        ) from error


def push(
    encoder: AudioEncoder, name: str, private: bool = False, token: str | None = None, message: str = "Upload encoder"
) -> str:
    """Write an encoder's folder to the Hub, making the repository where there is none; returns the commit's address.

    Raises `UserError` when the Hub refuses.
    """
    api = HfApi(token=token)
    try:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / name.rpartition("/")[2]
            encoder.save_pretrained(folder)
            api.create_repo(name, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message=message))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(f"{name} cannot be written to the Hugging Face Hub ({reason}): try `hf auth login`.") from error
