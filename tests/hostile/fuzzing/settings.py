"""What people write by hand: YAML, manifests, lists of recordings, tables of groups."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import soundfile
from audiossl.recipes.esvit_speechcommands import Config
from pyarrow import parquet

from audiossl.compare.cells import all_cells
from audiossl.compare.config import CompareConfig
from audiossl.config import flatten, parse, save
from audiossl.data import DataConfig, open_clips
from audiossl.data.clips import ClipSet
from audiossl.data.folds import fold_lists
from audiossl.data.label_table import label_names, label_table
from audiossl.embed.sources import find_items

from .mutations import damaged, damaged_json, damaged_text
from .sounds import RATE, sound
from .target import Target

N_SOUNDS = 8


def make_sounds(folder: Path) -> list[str]:
    """Write a few sounds, named as Speech Commands names them; returns their names."""
    names = []
    for number in range(N_SOUNDS):
        name = f"{('yes', 'no')[number % 2]}/{number:08x}_nohash_0.wav"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, sound(seconds=0.05), RATE)
        names.append(name)
    return names


def _one(name: str, text: str) -> Callable[[Path], Sequence[Path]]:
    def make(folder: Path) -> Sequence[Path]:
        make_sounds(folder)
        (folder / name).write_text(text, encoding="utf-8")
        return [folder / name]

    return make


def _config(folder: Path) -> Sequence[Path]:
    save(parse(Config, "esvit_speechcommands", []), folder / "config.yaml")
    (folder / "short.yaml").write_text("run: {epochs: 3, trackers: [tensorboard]}\nfrontend:\n  type: cqt\n")
    return [folder / "config.yaml", folder / "short.yaml"]


def open_config(path: Path) -> None:
    """As `--config` reads it, and as a run writes it again."""
    flatten(parse(Config, "esvit_speechcommands", ["--config", str(path)]))


def open_settings(path: Path) -> None:
    """As `recipes/compare.py --settings` reads it."""
    all_cells(CompareConfig(methods=["byol"], frontends=["mel"], seeds=[0], steps=1, settings=str(path)), [])


def open_manifest(path: Path) -> None:
    """As `--data.root` reads it, with labels as fine-tuning takes them apart."""
    clips = open_clips(DataConfig(root=str(path), sample_rate=RATE))
    assert isinstance(clips, ClipSet)
    labels = [clip.label for clip in clips]
    label_table(labels, label_names(labels, ";"), ";")
    open_list(path)


def open_list(path: Path) -> None:
    """As `featurize` reads it; what it lists is not opened."""
    list(itertools.islice(find_items(path), 100))


def open_lists(path: Path) -> None:
    """As `--data.root` reads lists in a folder, of any sounds and of Speech Commands."""
    for name in ("folder", "speech_commands"):
        open_clips(DataConfig(name=name, root=str(path.parent), sample_rate=RATE))


def open_folds(path: Path) -> None:
    """As `--folds` reads a table of groups."""
    clips = open_clips(DataConfig(name="folder", root=str(path.parent / "sounds"), sample_rate=RATE))
    fold_lists(clips, f"{path}:group", path.parent / "folds")


def _manifest(folder: Path) -> Sequence[Path]:
    names = make_sounds(folder)
    rows = [f'{name},"rain; wind",train,speaker {n}' for n, name in enumerate(names)]
    (folder / "list.csv").write_text("\n".join(["path,label,split,speaker", *rows]))
    return [folder / "list.csv"]


def _lists(folder: Path) -> Sequence[Path]:
    names = make_sounds(folder)
    paths = [folder / "validation_list.txt", folder / "testing_list.txt"]
    for path, listed in zip(paths, (names[:2], names[2:4]), strict=True):
        path.write_text("\n".join(listed))
    return paths


def _json_lines(folder: Path) -> Sequence[Path]:
    lines = [json.dumps({"path": name, "label": "a", "start_s": 0.5}) for name in make_sounds(folder)]
    (folder / "list.jsonl").write_text("\n".join(lines))
    return [folder / "list.jsonl"]


def _parquet(folder: Path) -> Sequence[Path]:
    names = make_sounds(folder)
    parquet.write_table(pa.table({"path": names, "label": ["a"] * len(names)}), folder / "list.parquet")
    return [folder / "list.parquet"]


def _folds(folder: Path) -> Sequence[Path]:
    names = make_sounds(folder / "sounds")
    rows = [f"{name},{number % 4}" for number, name in enumerate(names)]
    (folder / "groups.csv").write_text("\n".join(["file,group", *rows]))
    return [folder / "groups.csv"]


TABLE = "file\tlabel\nyes/00000000_nohash_0.wav\ta\nno/00000001_nohash_0.wav\tb\n"
SETTINGS = 'byol: --optim.lr 0.002 --views.fader 1\nmel: "--frontend.n_bins 32"\n'

WRITTEN_BY_HAND = [
    Target("configuration", _config, open_config, damaged_text, 300),
    Target("settings of a comparison", _one("settings.yaml", SETTINGS), open_settings, damaged_text, 200),
    Target("manifest", _manifest, open_manifest, damaged_text),
    Target("list tsv", _one("list.tsv", TABLE), open_list, damaged_text, 500),
    Target("list jsonl", _json_lines, open_list, damaged_json),
    Target("list parquet", _parquet, open_list, damaged),
    Target("split lists", _lists, open_lists, damaged_text, 500),
    Target("groups of folds", _folds, open_folds, damaged_text, 500),
]
