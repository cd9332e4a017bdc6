"""Google Speech Commands v0.01 and v0.02 in their own folder layout (P. Warden 2018, arXiv:1804.03209).

`<label>/<speaker>_nohash_<n>.wav` (or another audio format), with `validation_list.txt` and
`testing_list.txt` where a release has them; any recordings in this layout are read in the same way.
Tasks: 35 (every word that is there), 12 (ten commands, silence, unknown) and 10 (the ten commands).

In the task of 12, silence and unknown are added to each split in the number of the paper: each a tenth of
the split's clips of the ten commands, rounded up. Unknown clips are drawn from the other words. Silence
is cut out of `_background_noise_`, at random places and with a random gain in [0, 1]; of each recording
the first 80 % serve training, the next 10 % validation, the last 10 % testing. Both draws have a fixed
seed: the same folder gives the same clips. The authors' own test archive draws others, so figures of 12
classes are close to published ones, not equal.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audiossl import audio
from audiossl.data.clips import SPLITS, Clip, ClipSet
from audiossl.data.config import LISTS, DataConfig, cache_root
from audiossl.data.folder import list_lines
from audiossl.errors import UserError

# Sec. 5 of the paper, and its reference code (input_data.py of TensorFlow's speech_commands example).
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
MAX_NUM_WAVS_PER_CLASS = 2**27 - 1
VALIDATION_PERCENT = TESTING_PERCENT = 10.0
EXTRA_SHARE = 0.1  # silence and unknown, of the clips of the ten commands
DRAW_SEED = 59185  # the reference code's seed for its own draw
BACKGROUND = "_background_noise_"
NOISE_SHARES = {"training": (0.0, 0.8), "validation": (0.8, 0.9), "testing": (0.9, 1.0)}

LONGEST_S = 2.0  # of a recording that is taken for one of Speech Commands: they have one second, some a little more
BY_LISTS = "the folder's validation_list.txt and testing_list.txt, training the rest"
BY_OTHER_LISTS = "validation_list.txt and testing_list.txt of {}, training the rest"
BY_HASH = "SHA-1 of the speaker's name modulo 2**27: 10 % validation, 10 % testing, training the rest"


def open_speech_commands(config: DataConfig) -> ClipSet:
    """Open the Speech Commands folder `config.root`; `config.download` fetches `config.version` into it.

    Raises UserError when there is no such folder, it has no clips in this layout, or it lacks words or
    background noise that the task needs.
    """
    root = _root(config)
    lists = config.lists_folder(root)
    splits = _listed(lists)
    clips = _scan(root, splits)
    if not clips:
        raise UserError(
            f"--data.root {root} has no <label>/<speaker>_nohash_<n>.wav: name the folder that "
            "holds the words' folders, or add --data.download true with a new folder."
        )
    if splits and not any(clip.split != "training" for clip in clips):
        raise UserError(
            f"none of the files that {lists / LISTS['validation']} and {LISTS['testing']} name is in {root}: "
            "remove the two lists to split by the hash rule, or put their files there."
        )
    by_lists = BY_LISTS if lists == root else BY_OTHER_LISTS.format(lists.name)
    rule = BY_HASH if splits is None else by_lists
    if config.task == 35:
        return ClipSet.of("speech_commands", clips, rule)
    commands = [clip for clip in clips if clip.label in COMMANDS]
    if missing := sorted(set(COMMANDS) - {clip.label for clip in commands}):
        raise UserError(
            f"--data.task {config.task} needs ten words and {root} lacks {', '.join(missing)}: use --data.task 35."
        )
    if config.task == 10:
        return ClipSet.of("speech_commands-10", commands, rule)
    others = [clip for clip in clips if clip.label not in COMMANDS]
    extra = _unknown(commands, others, root) + _silence(commands, root, config.clip_s)
    rule += "; silence of disjoint parts of the noise recordings"
    return ClipSet.of("speech_commands-12", [*commands, *extra], rule)


def looks_like(root: str | Path) -> bool:
    """Whether `root` holds word folders with sound files named `<speaker>_nohash_<n>`, of about a second.

    Longer recordings under such names are a folder of labelled sounds: as Speech Commands, all but a second of each
    would be lost.
    """
    root = Path(os.path.expanduser(root))
    first = min(_files(root), default=None) if root.is_dir() else None
    if first is None:
        return False
    try:
        return audio.info(first).duration_s <= LONGEST_S
    except UserError:  # damaged: said when the clips are read
        return True


def split_of(file_name: str) -> str:
    """Put a clip into a split by the data set's own rule: the SHA-1 of its file name up to `_nohash_`.

    >>> split_of("right/a69b9b3e_nohash_0.wav"), split_of("right/bb05582b_nohash_3.wav")
    ('validation', 'testing')
    """
    digest = hashlib.sha1(os.fsencode(speaker_of(file_name))).hexdigest()
    percent = int(digest, 16) % (MAX_NUM_WAVS_PER_CLASS + 1) * (100.0 / MAX_NUM_WAVS_PER_CLASS)
    if percent < VALIDATION_PERCENT:
        return "validation"
    return "testing" if percent < VALIDATION_PERCENT + TESTING_PERCENT else "training"


def speaker_of(file_name: str) -> str:
    """The file's name up to `_nohash_`, which stands for the speaker.

    >>> speaker_of("right/a69b9b3e_nohash_0.wav")
    'a69b9b3e'
    """
    return Path(file_name).stem.split("_nohash_")[0]


def _root(config: DataConfig) -> Path:
    if config.root is not None:
        root = Path(os.path.expanduser(config.root))
    elif config.download:
        root = cache_root(config) / f"speech_commands_{config.version}"
    else:
        raise UserError(
            "--data.name speech_commands needs recordings: give their folder with --data.root, "
            "or fetch them with --data.download true."
        )
    if root.is_dir() and any(root.iterdir()):
        return root
    if not config.download:
        found = "is empty" if root.is_dir() else "is no folder"
        raise UserError(
            f"--data.root {root} {found}: name the folder that holds the words' folders, "
            "or fetch the recordings into it with --data.download true."
        )
    # Imported here: it brings an HTTP client along, which reading a folder does not need.
    from audiossl.data import download

    return download.fetch(download.SPEECH_COMMANDS[config.version], root)


def _listed(root: Path) -> dict[str, str] | None:
    """The split of each listed clip, by id; None where the folder has no lists."""
    there = [split for split, name in LISTS.items() if (root / name).is_file()]
    if not there:
        return None
    if len(there) == 1:
        lacking = next(name for split, name in LISTS.items() if split not in there)
        raise UserError(
            f"{root} has {LISTS[there[0]]} and no {lacking}: add it, or remove the other one to split by the hash rule."
        )
    splits = {}
    for split, name in LISTS.items():
        for line in list_lines(root / name):
            if entry := line.removeprefix("./"):
                # The lists name .wav files; the same clips may lie here as .flac.
                splits[Path(entry).with_suffix("").as_posix()] = split
    return splits


def _files(root: Path) -> Iterator[Path]:
    return (p for p in root.glob("[!_.]*/*_nohash_*") if p.suffix.lower() in audio.AUDIO_SUFFIXES)


def _scan(root: Path, splits: dict[str, str] | None) -> list[Clip]:
    """Every clip of the folder in the order of its id; where there are two formats, FLAC before WAV."""
    found: dict[str, Path] = {}
    for path in sorted(_files(root)):
        found.setdefault(f"{path.parent.name}/{path.stem}", path)
    return [
        Clip(
            id=clip_id,
            source=path,
            label=path.parent.name,
            speaker=speaker_of(path.name),
            split=split_of(path.name) if splits is None else splits.get(clip_id, "training"),
        )
        for clip_id, path in sorted(found.items())
    ]


def _n_extra(commands: list[Clip], split: str) -> int:
    return math.ceil(EXTRA_SHARE * sum(clip.split == split for clip in commands))


def _unknown(commands: list[Clip], others: list[Clip], root: Path) -> list[Clip]:
    draw = np.random.default_rng([DRAW_SEED, 0])
    chosen: list[Clip] = []
    for split in SPLITS:
        pool = [clip for clip in others if clip.split == split]
        n = _n_extra(commands, split)
        if len(pool) < n:
            raise UserError(
                f"--data.task 12 needs {n} clips of other words for 'unknown' in {split}, and {root} has "
                f"{len(pool)}: use --data.task 10."
            )
        chosen += [pool[i] for i in sorted(draw.choice(len(pool), n, replace=False))]
    return [_relabelled(clip) for clip in chosen]


def _relabelled(clip: Clip) -> Clip:
    return Clip(clip.id, clip.source, "unknown", clip.speaker, clip.split)


def _silence(commands: list[Clip], root: Path, clip_s: float) -> list[Clip]:
    folder = root / BACKGROUND
    recordings = audio.find_audio(folder) if folder.is_dir() else []
    if not recordings:
        raise UserError(
            f"--data.task 12 cuts 'silence' out of {folder}, which holds no audio: "
            "put the recordings of the release there, or use --data.task 10."
        )
    lengths_s = [audio.info(path).duration_s for path in recordings]
    draw = np.random.default_rng([DRAW_SEED, 1])
    clips = []
    for split in SPLITS:
        places = _places(lengths_s, *NOISE_SHARES[split], clip_s)
        n = _n_extra(commands, split)
        if len(places) < n:
            raise UserError(
                f"the recordings in {folder} are too short for {n} pieces of {clip_s} s for {split}: "
                "put the recordings of the release there, or use --data.task 10."
            )
        for i in sorted(draw.choice(len(places), n, replace=False)):
            which, start_ms = places[i]
            clips.append(
                Clip(
                    id=f"{BACKGROUND}/{recordings[which].stem}_{start_ms:06d}ms",
                    source=recordings[which],
                    label="silence",
                    split=split,
                    start_s=start_ms / 1000,
                    duration_s=clip_s,
                    gain=float(draw.uniform(0.0, 1.0)),
                )
            )
    return clips


def _places(lengths_s: list[float], begin: float, end: float, clip_s: float) -> list[tuple[int, int]]:
    """Every (recording, start in ms) of a piece of `clip_s` within these shares of the recordings."""
    return [
        (which, start_ms)
        for which, length_s in enumerate(lengths_s)
        for start_ms in range(math.ceil(1000 * begin * length_s), math.floor(1000 * (end * length_s - clip_s)) + 1)
    ]
