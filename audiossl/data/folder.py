"""A folder of any audio: the folders below it are the labels, long recordings are cut into clips.

The cut reads headers only. The split follows the recording, not the clip, so that the parts of one recording
never stand on both sides; with `validation_list.txt` or `testing_list.txt` in the folder (paths relative to
it, as in Speech Commands), these decide.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from audiossl import audio
from audiossl.data.clips import Clip, ClipSet, hash_split
from audiossl.data.config import LISTS, DataConfig
from audiossl.errors import UserError

_HEADER_THREADS = 8


def open_folder(config: DataConfig) -> ClipSet:
    """Every audio file below `config.root` as clips of at most `config.clip_s`; nothing is decoded.

    The label is the first folder below the root, none for files that lie in the root itself.
    Raises `UserError` when the root is no folder, holds no audio, or a list names none of its files.
    """
    root = Path(os.path.expanduser(config.root or ""))
    files = audio.find_audio(root)
    if not files:
        raise UserError(_nothing_found(root))
    lists = config.lists_folder(root)
    recordings = [_recording(root, path) for path in files]
    if read_lists(lists):
        rule, recordings = split_by_lists(recordings, root, lists)
    else:
        rule, recordings = split_by_file(recordings)
    return ClipSet.of(root.resolve().name, cut_recordings(recordings, config.clip_s), rule)


def read_lists(folder: Path) -> dict[str, str]:
    """What the two lists in a folder say: path relative to it -> split; empty when there is no list.

    Raises `UserError` when one cannot be read.
    """
    listed: dict[str, str] = {}
    for split, name in LISTS.items():
        if (folder / name).is_file():
            listed.update(dict.fromkeys(list_lines(folder / name), split))
    return listed


def list_lines(path: Path) -> list[str]:
    """The lines of a list that hold something; raises `UserError` when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a list of paths in UTF-8 ({error}); mend or remove it.") from None
    return [line.strip() for line in lines if line.strip()]


def split_by_lists(recordings: list[Clip], root: Path, lists: Path) -> tuple[str, list[Clip]]:
    """The sentence for `split_rule`, and the recordings of `root` split by the two lists in a folder.

    Raises `UserError` when the lists name none of them.
    """
    listed = read_lists(lists)
    if not any(clip.id in listed for clip in recordings):
        raise UserError(
            f"the lists in {lists} name none of the {len(recordings)} audio files in {root}; mend or remove them."
        )
    where = "in the folder" if lists == root else f"of {lists.name}"
    rule = f"validation_list.txt and testing_list.txt {where} decide, the rest is for training"
    return rule, [replace(clip, split=listed.get(clip.id, "training")) for clip in recordings]


def split_by_file(recordings: list[Clip]) -> tuple[str, list[Clip]]:
    """The sentence for `split_rule`, and the recordings split 80/10/10 by the hash of their ids."""
    split = [replace(clip, split=hash_split(clip.id)) for clip in recordings]
    if all(clip.split != "training" for clip in split):
        few = f"all {len(split)} files are for training, since they are too few to split"
        return few, [replace(clip, split="training") for clip in split]
    rule = "80/10/10 by the hash of the file's path, so that all parts of a recording are in one split"
    return rule, split


def cut_recordings(recordings: Iterable[Clip], clip_s: float) -> Iterator[Clip]:
    """Cut every recording by the length in its header; one that cannot be read stays whole.

    What is wrong with it is found, and skipped or raised, when it is decoded.
    """
    with ThreadPoolExecutor(_HEADER_THREADS) as pool:
        recordings = list(recordings)
        for clip, duration_s in zip(recordings, pool.map(duration_by_header, recordings), strict=True):
            yield from cut(clip, duration_s, clip_s)


def cut(clip: Clip, duration_s: float, clip_s: float) -> list[Clip]:
    """Consecutive clips of `clip_s` from a recording of `duration_s`, and a rest of at least half a clip.

    A recording that gives one clip only keeps its id.

    >>> [(part.id, part.start_s) for part in cut(Clip("a.wav", Path("a.wav")), 2.6, 1.0)]
    [('a.wav@0s', 0.0), ('a.wav@1s', 1.0), ('a.wav@2s', 2.0)]
    """
    n_clips = max(1, int(duration_s / clip_s + 0.5 + 1e-9))
    if n_clips == 1:
        return [clip]
    starts = [i * clip_s for i in range(n_clips)]
    return [replace(clip, id=clip.id + _place(start), start_s=start, duration_s=clip_s) for start in starts]


def recording_of(clip: Clip) -> str:
    """Id of the recording that a clip was cut from, which is the clip's own where nothing was cut.

    >>> [recording_of(part) for part in cut(Clip("me@home.wav", Path("me@home.wav")), 2.0, 1.0)]
    ['me@home.wav', 'me@home.wav']
    """
    return clip.id if clip.duration_s is None else clip.id.removesuffix(_place(clip.start_s))


def _place(start_s: float) -> str:
    # To a microsecond, and not to six digits: after a day of recording, clips of half a second would share their ids.
    return f"@{start_s:.6f}".rstrip("0").rstrip(".") + "s"


def duration_by_header(clip: Clip) -> float:
    """Length of a recording by its header; 0 where it cannot be read, which is said when it is decoded."""
    try:
        return audio.info(clip.source() if callable(clip.source) else clip.source).duration_s
    except audio.AudioError:
        return 0.0


def _recording(root: Path, path: Path) -> Clip:
    relative = path.relative_to(root)
    return Clip(relative.as_posix(), path, relative.parts[0] if len(relative.parts) > 1 else None)


def _nothing_found(root: Path) -> str:
    """Say what lies in the folder instead of audio."""
    suffixes = Counter(path.suffix.lower() for path in root.rglob("*") if path.is_file())
    if not suffixes:
        return f"--data.root {root} holds no files; give a folder of audio."
    most = ", ".join(f"{n} {suffix or 'without suffix'}" for suffix, n in suffixes.most_common(3))
    return (
        f"--data.root {root} holds no audio that can be read (files: {most}); "
        "give a folder of WAV, FLAC, Ogg, MP3 or AIFF, or convert yours to one of them with ffmpeg."
    )
