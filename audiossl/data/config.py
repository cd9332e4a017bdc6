"""Which recordings a run learns from: the `--data.*` flags. No torch here, so that `--help` is quick."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from audiossl.errors import UserError

# Of Speech Commands, and of any folder that has them: paths relative to the root.
LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
NAMES = ("auto", "spoken_words", "speech_commands", "folder", "manifest", "hub")


@dataclass
class DataConfig:
    """Settings of a data set; every field is a flag `--data.FIELD`.

    Raises `UserError` when a value makes no sense, naming its flag.

    >>> DataConfig(root="clips.csv").clip_s
    1.0
    >>> DataConfig(on_error="ignore")
    Traceback (most recent call last):
        ...
    audiossl.errors.UserError: --data.on_error is 'ignore'; choose one of skip, raise.
    """

    # auto: without a root spoken_words, else what the root is: speech_commands, manifest (.csv) or folder.
    name: str = "auto"
    # Folder, CSV file, or for `hub` a name on the Hugging Face hub or a local folder.
    root: str | None = None
    # Folder of the validation_list.txt and testing_list.txt that split the recordings, if it is not the root.
    lists: str | None = None
    # Speech Commands: v0.01 or v0.02; 35 words, 12 (10 words + silence + unknown) or 10 words.
    version: str = "v0.02"
    task: int = 35
    # Fetch the official archive of Speech Commands into the root when it is not there.
    download: bool = False
    # Hz; recordings of another rate are resampled.
    sample_rate: int = 16000
    # Every clip is brought to this length: short ones centred in zeros, long recordings cut into several.
    clip_s: float = 1.0
    # A file that cannot be read is left out and listed at the end (skip) or ends the program (raise).
    on_error: str = "skip"
    # Folder of the caches; default: $AUDIOSSL_CACHE, else the platform's folder for caches.
    cache: str | None = None
    # Column names of a manifest or a hub data set; only the column of the audio has to exist.
    path_column: str = "path"
    # Of a hub data set.
    audio_column: str = "audio"
    # Let a manifest name files outside of its own folder: by absolute paths, by .. or through links.
    outside: bool = False
    # Columns that may be absent.
    label_column: str = "label"
    split_column: str = "split"
    speaker_column: str = "speaker"
    # Configuration and split of a hub data set; without a split all of them are taken.
    hub_config: str | None = None
    hub_split: str | None = None
    # Read a hub data set as a stream, straight into the clip cache, without storing its files.
    streaming: bool = False
    # At most so many clips: a draw by hash of the ids; of a hub data set the first ones of every split, as many of each
    # and one at least.
    limit: int | None = None

    def __post_init__(self) -> None:
        _choice("name", self.name, NAMES)
        _choice("on_error", self.on_error, ("skip", "raise"))
        _choice("version", self.version, ("v0.01", "v0.02"))
        _choice("task", self.task, (35, 12, 10))
        if self.sample_rate < 1:
            raise UserError(f"--data.sample_rate is {self.sample_rate}; give a rate in Hz, for example 16000.")
        n_samples = self.clip_s * self.sample_rate
        if not (math.isfinite(n_samples) and round(n_samples) >= 1):
            raise UserError(f"--data.clip_s is {self.clip_s}; give a length in seconds above 0.")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--data.limit is {self.limit}; give a number of clips above 0, or leave it out.")

    def lists_folder(self, root: Path) -> Path:
        """Folder of the lists that split the clips of `root`; raises UserError when `lists` holds none."""
        if self.lists is None:
            return root
        folder = Path(os.path.expanduser(self.lists))
        if not any((folder / name).is_file() for name in LISTS.values()):
            raise UserError(f"--data.lists {folder} holds no {' and no '.join(LISTS.values())}: name their folder.")
        return folder

    @property
    def n_samples(self) -> int:
        """Samples of a clip of `clip_s` at `sample_rate`."""
        return round(self.clip_s * self.sample_rate)


def _choice(field: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise UserError(f"--data.{field} is {value!r}; choose one of {', '.join(map(str, allowed))}.")


def cache_root(config: DataConfig) -> Path:
    """Folder of every cache of this machine: `config.cache`, $AUDIOSSL_CACHE, or the platform's."""
    chosen = config.cache or os.environ.get("AUDIOSSL_CACHE")
    if chosen:
        return Path(os.path.expanduser(chosen))
    # Imported late: pooch brings an HTTP client along.
    import pooch

    return Path(pooch.os_cache("audiossl"))
