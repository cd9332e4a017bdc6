"""From what a person names to recordings: paths, folders, patterns, manifests, archives, arrays, data sets."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch

from audiossl import audio
from audiossl.embed.archives import archived
from audiossl.embed.items import Item
from audiossl.embed.lists import MANIFESTS, listed
from audiossl.embeddings import printable
from audiossl.errors import UserError

ARCHIVES = (".tar", ".tar.gz", ".tgz")
HUB = "hf:"  # hf:NAME[:SPLIT], a data set of Hugging Face, streamed


@dataclass(frozen=True)
class Stream:
    """Recordings that are read one after the other, such as those of an archive, of which `rank` of `world` are given.

    begin(rank, world): reads the share anew from its start.
    """

    begin: Callable[[int, int], Iterator[Item]]
    rank: int = 0
    world: int = 1

    def __iter__(self) -> Iterator[Item]:
        """Read from the start."""
        return self.begin(self.rank, self.world)


@dataclass(frozen=True)
class Items:
    """What was named, in order: recordings that are known one by one, and streams of others."""

    parts: tuple[Item | Stream, ...]
    done: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Item]:
        """Every recording whose name, as files can hold it, is not in `done`."""
        for part in self.parts:
            for item in part if isinstance(part, Stream) else (part,):
                if not self.done or printable(item.name) not in self.done:
                    yield item

    @property
    def n_known(self) -> int | None:
        """How many there are, None where a stream does not say."""
        if any(isinstance(part, Stream) for part in self.parts):
            return None
        return sum(1 for _ in self)

    def once(self) -> Items:
        """Every recording once, though it was named twice, as by its folder and by itself."""
        named = {part.name: part for part in reversed(self.parts) if isinstance(part, Item)}
        kept = tuple(part for part in self.parts if isinstance(part, Stream) or named[part.name] is part)
        return Items(kept, self.done)

    def without(self, done: Iterable[str]) -> Items:
        """The recordings whose names are not in `done`."""
        return Items(self.parts, frozenset(done))

    def share(self, rank: int, world: int) -> Items:
        """What process `rank` of `world` takes: files by size, the largest first to who has least; streams by row.

        >>> waves = find_items([np.zeros(4)] * 5, 8000)
        >>> [item.name for item in waves.share(1, 2)]
        ['array[1]', 'array[3]']
        """
        if world == 1:
            return self
        todo = [(place, part) for place, part in enumerate(self.parts) if isinstance(part, Item)]
        todo = [(place, part) for place, part in todo if printable(part.name) not in self.done]
        load, mine = [0] * world, set()
        for place, item in sorted(todo, key=lambda known: -known[1].n_bytes):
            least = min(range(world), key=load.__getitem__)
            load[least] += item.n_bytes + 4096  # a file costs something, however small
            if least == rank:
                mine.add(place)
        kept: list[Item | Stream] = []
        for place, part in enumerate(self.parts):
            if isinstance(part, Stream):
                kept.append(Stream(part.begin, rank, world))
            elif place in mine:
                kept.append(part)
        return Items(tuple(kept), self.done)


def find_items(inputs: Any, sample_rate: int | None = None, outside: bool = False) -> Items:
    """List what `inputs` names, in order; see `featurize`. Raises `UserError` when that is nothing."""
    return inputs if isinstance(inputs, Items) else Items(tuple(_parts(inputs, sample_rate, outside)))


def _parts(inputs: Any, sample_rate: int | None, outside: bool) -> Iterable[Item | Stream]:
    if isinstance(inputs, (str, os.PathLike)):
        return _from_path(os.fspath(inputs), must_exist=True, outside=outside)
    if _is_array(inputs):
        waves = np.asarray(inputs)
        if waves.ndim not in (1, 2):
            raise UserError(f"inputs is an array of shape {waves.shape}: give (samples,) or (clips, samples).")
        return [_array(wave, n, sample_rate) for n, wave in enumerate([waves] if waves.ndim == 1 else waves)]
    if isinstance(inputs, bytes) or hasattr(inputs, "read"):
        return [_in_memory(inputs, 0)]
    if _is_dataset(inputs):
        return [_from_dataset(inputs, "")]
    if isinstance(inputs, dict) and not _is_decoded(inputs):
        raise UserError("inputs is a dictionary: give one with 'array' and 'sampling_rate', or a list of recordings.")
    if isinstance(inputs, dict):
        return [_decoded(inputs, 0)]
    if not isinstance(inputs, Iterable):
        raise UserError(f"inputs is a {type(inputs).__name__}: give paths, folders, patterns, arrays or bytes.")
    entries = list(inputs)
    if not entries:
        raise UserError("inputs is an empty list: give at least one recording.")
    return chain.from_iterable(_of_entry(entry, n, sample_rate, outside) for n, entry in enumerate(entries))


def _of_entry(entry: Any, n: int, sample_rate: int | None, outside: bool) -> Iterable[Item | Stream]:
    if isinstance(entry, (str, os.PathLike)):
        return _from_path(os.fspath(entry), must_exist=False, outside=outside)
    if _is_array(entry):
        return [_array(np.asarray(entry), n, sample_rate)]
    if isinstance(entry, bytes) or hasattr(entry, "read"):
        return [_in_memory(entry, n)]
    if _is_decoded(entry):
        return [_decoded(entry, n)]
    raise UserError(f"inputs holds a {type(entry).__name__}: give paths, arrays, bytes or file objects.")


def find_all(names: Iterable[str], outside: bool) -> Items:
    """Recordings of several paths as a person types them, each of which must exist; see `find_items`."""
    return Items(tuple(part for name in names for part in find_items(name, outside=outside).parts))


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, torch.Tensor))


def _is_dataset(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "datasets" and hasattr(value, "features")


def _is_decoded(value: Any) -> bool:
    return isinstance(value, dict) and {"array", "sampling_rate"} <= value.keys()


def _array(wave: np.ndarray, n: int, sample_rate: int | None) -> Item:
    if sample_rate is None:
        raise UserError("arrays do not say how fast they were sampled: give sample_rate in Hz.")
    if sample_rate < 1:
        raise UserError(f"sample_rate is {sample_rate}: give the rate of the arrays in Hz, for example 16000.")
    return Item(f"array[{n}]", wave=wave, sample_rate=int(sample_rate))


def _decoded(value: dict[str, Any], n: int) -> Item:
    return Item(f"array[{n}]", wave=np.asarray(value["array"]), sample_rate=int(value["sampling_rate"]))


def _in_memory(source: Any, n: int) -> Item:
    name = getattr(source, "name", None)
    return Item(name if isinstance(name, str) else f"bytes[{n}]", source=source)


def _from_path(path: str, must_exist: bool, outside: bool) -> Iterable[Item | Stream]:
    if path.startswith(HUB):
        return [_from_hub(path)]
    if os.path.isdir(path):
        files = [str(file) for file in audio.find_audio(path)]
        if not files:
            suffixes = ", ".join(sorted(audio.AUDIO_SUFFIXES))
            raise UserError(f"{path} holds no audio file: files ending in {suffixes} are looked for.")
        return [Item(name, source=name) for name in files]
    if os.path.lexists(path):
        lower = path.lower()
        if lower.endswith(MANIFESTS):
            return [Item(name, source=name) for name in listed(path, outside)]
        if lower.endswith(ARCHIVES):
            return [Stream(partial(archived, path))]
        return [Item(path, source=path)]
    is_pattern = glob.has_magic(path)
    files = sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name)) if is_pattern else []
    if files:
        return chain.from_iterable(_from_path(name, must_exist=True, outside=outside) for name in files)
    if must_exist:
        what = (
            "matches no file: check the pattern"
            if is_pattern
            else "does not exist: give a recording, a folder or a pattern"
        )
        raise UserError(f"{path} {what}.")
    return [Item(path, source=path)]  # in a list one missing file is a row like any other that cannot be read


def _from_hub(name: str) -> Stream:
    from audiossl.data.hub_rows import open_stream

    root, _, split = name.removeprefix(HUB).partition(":")
    return _from_dataset(open_stream(root, split or None), f"{name}/")


def _from_dataset(table: Any, prefix: str) -> Stream:
    from audiossl.data.hub_rows import rows

    def begin(rank: int, world: int) -> Iterator[Item]:
        name = ""
        try:
            for name, value in rows(table, rank, world):
                if _is_decoded(value):
                    yield Item(prefix + name, wave=np.asarray(value["array"]), sample_rate=int(value["sampling_rate"]))
                else:
                    yield Item(prefix + name, source=value)
        except OSError as error:  # of the network
            reason = f"the data set cannot be read on after row {name or 'none'} ({error}): give the command again."
            yield Item(f"{prefix}after {name or 'nothing'}", problem=audio.AudioError(reason))

    return Stream(begin)
