"""Folds of the two kinds of data sets that have lists: whose clips are where, and what cannot be folded."""

import dataclasses

import numpy as np
import pytest
import soundfile

from audiossl.data import DataConfig, open_clips
from audiossl.data.folds import fold_lists
from audiossl.errors import UserError


def write(path, seconds=0.3):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(int(8000 * seconds), 0.1), 8000)


@pytest.fixture
def words(tmp_path):
    root = tmp_path / "words"
    for word in ("no", "yes"):
        for speaker in ("anna", "bert", "carl", "dora"):
            for take in range(2):
                write(root / word / f"{speaker}_nohash_{take}.wav")
    return DataConfig(root=str(root), sample_rate=8000, clip_s=0.3, name="speech_commands")


@pytest.fixture
def sounds(tmp_path):
    root = tmp_path / "sounds"
    lines = ["filename,fold,path"]
    for number in range(9):
        name = f"{'rain' if number % 2 else 'dog'}/clip{number}.ogg"
        write(root / name, seconds=1.0)
        lines.append(f"clip{number}-A.wav,{1 + number % 3},{name}")
    (root / "table.csv").write_text("\n".join(lines))
    return DataConfig(root=str(root), sample_rate=8000, clip_s=0.5, name="folder")


def splits(config, fold):
    return {clip.id: clip.split for clip in open_clips(dataclasses.replace(config, lists=str(fold)))}


def test_every_speaker_is_the_test_once_and_the_next_one_validation(words, tmp_path):
    folds = fold_lists(open_clips(words), "speaker", tmp_path / "folds")
    assert [fold.name for fold in folds] == ["fold-anna", "fold-bert", "fold-carl", "fold-dora"]
    for number, fold in enumerate(folds):
        of = splits(words, fold)
        assert len(of) == 16
        test, validation = ("anna", "bert", "carl", "dora")[number], ("bert", "carl", "dora", "anna")[number]
        for clip, split in of.items():
            expected = {test: "testing", validation: "validation"}.get(clip.split("/")[1].split("_")[0], "training")
            assert split == expected, clip


def test_the_groups_of_a_table_and_parts_of_a_recording_stay_together(sounds, tmp_path):
    by = f"{sounds.root}/table.csv:fold"
    folds = fold_lists(open_clips(sounds), by, tmp_path / "folds")
    assert [fold.name for fold in folds] == ["fold-1", "fold-2", "fold-3"]
    for number, fold in enumerate(folds):
        of = splits(sounds, fold)
        assert len(of) == 18  # two halves of each
        for clip, split in of.items():
            group = int(clip.split("clip")[1].split(".")[0]) % 3
            assert split == {number: "testing", (number + 1) % 3: "validation"}.get(group, "training"), clip


def test_the_same_folds_are_written_again(words, tmp_path):
    first = fold_lists(open_clips(words), "speaker", tmp_path / "folds")
    before = [(fold / "testing_list.txt").read_bytes() for fold in first]
    again = fold_lists(open_clips(words), "speaker", tmp_path / "folds")
    assert [(fold / "testing_list.txt").read_bytes() for fold in again] == before


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("speaker", "18 of 18 clips have no speaker"),
        ("{root}/table.csv:place", "no column 'place'; its columns are filename, fold, path"),
        ("{root}/none.csv:fold", "cannot be read"),
        ("fold", "give speaker, or FILE.csv:COLUMN"),
        ("{root}/short.csv:fold", "names no group for 8 of 9 recordings, such as dog/clip2.ogg"),
        ("{root}/two.csv:fold", "makes 2 groups of the clips: give at least 3"),
    ],
)
def test_what_cannot_be_folded_is_said(sounds, tmp_path, by, message):
    from pathlib import Path

    rows = (Path(sounds.root) / "table.csv").read_text().splitlines()
    (Path(sounds.root) / "short.csv").write_text("\n".join(rows[:2]))
    (Path(sounds.root) / "two.csv").write_text("\n".join(row.replace(",3,", ",2,") for row in rows))
    with pytest.raises(UserError, match=message):
        fold_lists(open_clips(sounds), by.format(root=sounds.root), tmp_path / "folds")
