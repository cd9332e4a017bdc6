"""Folds of every data set that lists can split: whose clips are where, and what cannot be folded."""

import csv
import dataclasses
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl.data import ClipStream, DataConfig, open_clips
from audiossl.data.folds import fold_lists
from audiossl.errors import UserError

SPEAKERS = ("anna", "bert", "carl", "dora")


def write(path, seconds=0.3):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(int(8000 * seconds), 0.1), 8000)


@pytest.fixture
def words(tmp_path):
    """Two words by four speakers in Speech Commands' layout, some files FLAC; the root has lists of its own."""
    root = tmp_path / "words"
    for word in ("no", "yes"):
        for speaker in SPEAKERS:
            for take, suffix in enumerate(("wav", "flac")):
                write(root / word / f"{speaker}_nohash_{take}.{suffix}")
    for split, speaker in (("validation", "anna"), ("testing", "bert")):
        (root / f"{split}_list.txt").write_text(f"no/{speaker}_nohash_0.wav\n")
    return DataConfig(root=str(root), sample_rate=8000, clip_s=0.3)


@pytest.fixture
def sounds(tmp_path):
    """Nine recordings of two clips each, and a table that names them in two ways."""
    root = tmp_path / "sounds"
    lines = ["filename,fold,path"]
    for number in range(9):
        name = f"{'rain' if number % 2 else 'dog'}/clip{number}.ogg"
        write(root / name, seconds=1.0)
        lines.append(f"clip{number}-A.wav,{1 + number % 3},{name}")
    (root / "table.csv").write_text("\n".join(lines))
    return DataConfig(root=str(root), sample_rate=8000, clip_s=0.5)


def splits(config, fold):
    return {clip.id: clip.split for clip in open_clips(dataclasses.replace(config, lists=str(fold)))}


def test_every_speaker_is_the_test_once_and_the_next_one_validation(words, tmp_path):
    folds = fold_lists(open_clips(words), "speaker", tmp_path / "folds")
    assert [fold.name for fold in folds] == ["fold-anna", "fold-bert", "fold-carl", "fold-dora"]
    for number, fold in enumerate(folds):
        of = splits(words, fold)
        assert len(of) == 16
        special = {SPEAKERS[number]: "testing", SPEAKERS[(number + 1) % 4]: "validation"}
        for clip, split in of.items():
            assert split == special.get(clip.split("/")[1].split("_")[0], "training"), clip


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
        rule = open_clips(dataclasses.replace(sounds, lists=str(fold))).split_rule
        assert rule.startswith(f"validation_list.txt and testing_list.txt of {fold.name} decide")


def test_a_manifest_is_split_by_its_speakers(words, tmp_path):
    lines = ["path,label,speaker,split"]
    for clip in open_clips(words):
        lines.append(f"{clip.source},{clip.label},{clip.speaker},training")
    (tmp_path / "words.csv").write_text("\n".join(lines))
    config = dataclasses.replace(words, root=str(tmp_path / "words.csv"))
    folds = fold_lists(open_clips(config), "speaker", tmp_path / "folds")
    for number, fold in enumerate(folds):
        found = {clip.speaker: clip.split for clip in open_clips(dataclasses.replace(config, lists=str(fold)))}
        assert found[SPEAKERS[number]] == "testing"
        assert found[SPEAKERS[(number + 1) % 4]] == "validation"
        assert list(found.values()).count("training") == 2


def table(root: Path, *lines: str) -> str:
    path = root / "groups.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return f"{path}:group"


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_a_table_may_name_files_of_another_format(words, tmp_path, suffix):
    names = [
        f"./{word}/{speaker}_nohash_{take}.{suffix}"
        for word in ("no", "yes")
        for speaker in SPEAKERS
        for take in (0, 1)
    ]
    by = table(tmp_path, "group,path", *(f"{name.split('/')[2][:4]},{name}" for name in names))
    whole = fold_lists(open_clips(words), "speaker", tmp_path / "a")
    ours = fold_lists(open_clips(words), by, tmp_path / "b")
    assert [splits(words, fold) for fold in ours] == [splits(words, fold) for fold in whole]


def test_names_without_folders_do_where_they_are_clear(sounds, tmp_path):
    rows = [f"clip{number}.wav,{'abc'[number % 3]},dog" for number in range(9)]
    by = table(tmp_path, "file,group,animal", *rows)
    folds = fold_lists(open_clips(sounds), by, tmp_path / "folds")
    assert splits(sounds, folds[0])["dog/clip0.ogg@0s"] == "testing"
    assert splits(sounds, folds[0])["rain/clip1.ogg@0.5s"] == "validation"
    assert Counter(splits(sounds, folds[2]).values()) == {"testing": 6, "validation": 6, "training": 6}


def test_parts_are_known_by_their_place_and_not_by_a_sign_in_the_name(tmp_path):
    root = tmp_path / "sounds"
    for number in range(3):
        write(root / f"me@home{number}.v1.wav", seconds=1.0)
    by = table(tmp_path, "path,group", *(f"me@home{number}.v1.wav,g{number}" for number in range(3)))
    config = DataConfig(root=str(root), sample_rate=8000, clip_s=0.5)
    fold = fold_lists(open_clips(config), by, tmp_path / "folds")[0]
    assert (fold / "testing_list.txt").read_text() == "me@home0.v1.wav\n"
    assert Counter(splits(config, fold).values()) == {"testing": 2, "validation": 2, "training": 2}


def test_speakers_may_have_dots_in_their_names(tmp_path):
    root = tmp_path / "words"
    for speaker in ("a.1", "b.1", "c.1"):
        write(root / "yes" / f"{speaker}_nohash_0.flac")
    config = DataConfig(root=str(root), sample_rate=8000, clip_s=0.3)
    fold = fold_lists(open_clips(config), "speaker", tmp_path / "folds")[1]
    expected = {"yes/a.1_nohash_0": "training", "yes/b.1_nohash_0": "testing", "yes/c.1_nohash_0": "validation"}
    assert splits(config, fold) == expected


def test_numbers_come_in_their_order_and_names_become_folders(tmp_path):
    root = tmp_path / "sounds"
    for number in range(3):
        write(root / f"{number}.wav")
    config = DataConfig(root=str(root), sample_rate=8000, clip_s=0.3)
    for groups, names in (
        (("10", "9", "2"), ["fold-2", "fold-9", "fold-10"]),
        (("../x", "y z", "é"), ["fold-.._x", "fold-y_z", "fold-é"]),
        (("a/b", "a b", "A_B"), ["fold-0-A_B", "fold-1-a_b", "fold-2-a_b"]),
    ):
        by = table(tmp_path, "path,group", *(f"{number}.wav,{group}" for number, group in enumerate(groups)))
        folds = fold_lists(open_clips(config), by, tmp_path / "folds")
        assert [fold.name for fold in folds] == names
        assert {fold.parent for fold in folds} == {tmp_path / "folds"}


def test_lists_that_are_there_are_left_alone_and_others_are_replaced(words, tmp_path):
    first = fold_lists(open_clips(words), "speaker", tmp_path / "folds")
    kept, changed = first[0] / "testing_list.txt", first[1] / "testing_list.txt"
    content = changed.read_bytes()
    os.utime(kept, (1, 1))
    changed.write_text("of another time\n")
    assert fold_lists(open_clips(words), "speaker", tmp_path / "folds") == first
    assert kept.stat().st_mtime == 1
    assert changed.read_bytes() == content
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("speaker", "no speaker is known of 9 of 9 recordings, such as dog/clip0.ogg: give FILE.csv:COLUMN"),
        ("{root}/table.csv:place", r"no column 'place' \(it has: filename, fold, path\)"),
        ("{root}/none.csv:fold", "none.csv cannot be read"),
        ("fold", "'fold': give speaker, or FILE.csv:COLUMN"),
        ("{root}/table.csv:", "give speaker, or FILE.csv:COLUMN"),
        ("{root}/short.csv:fold", "has no group for 8 of 9 recordings, such as dog/clip2.ogg"),
        ("{root}/gap.csv:fold", "has no group for 3 of 9 recordings, such as dog/clip0.ogg"),
        ("{root}/two.csv:fold", r"finds 2 groups \(1, 2\): give at least 3"),
        ("{root}/other.csv:fold", "names none of the 9 recordings, such as dog/clip0.ogg"),
        ("{root}/empty.csv:fold", "no column 'fold' .it has: none"),
        ("{root}/twice.csv:fold", "puts dog/clip0.ogg into both 1 and 2"),
        ("{root}/sound.csv:fold", "cannot be read as a CSV file in UTF-8"),
    ],
)
def test_what_cannot_be_folded_is_said(sounds, tmp_path, by, message):
    root = Path(sounds.root)
    rows = (root / "table.csv").read_text().splitlines()
    (root / "short.csv").write_text("\n".join(rows[:2]))
    (root / "gap.csv").write_text("\n".join(row.replace(",1,", ", ,") for row in rows))
    (root / "two.csv").write_text("\n".join(row.replace(",3,", ",2,") for row in rows))
    (root / "other.csv").write_text("\n".join(row.replace("clip", "call") for row in rows))
    (root / "empty.csv").write_text("")
    (root / "twice.csv").write_text("\n".join([*rows, rows[1].replace(",1,", ",2,")]))
    (root / "sound.csv").write_bytes(b"filename,fold\n\xff\xfe,1\n")
    with pytest.raises(UserError, match=message):
        fold_lists(open_clips(sounds), by.format(root=root), tmp_path / "folds")
    assert not (tmp_path / "folds").exists()


def test_names_that_lists_cannot_hold_are_refused(tmp_path):
    root = tmp_path / "sounds"
    for number in range(3):
        write(root / f"{number}.wav")
    os.rename(root / "1.wav", os.fsencode(root) + b"/\xff.wav")
    clips = open_clips(DataConfig(root=str(root), sample_rate=8000, clip_s=0.3))
    clips = dataclasses.replace(clips, clips=tuple(dataclasses.replace(c, speaker=c.id[0]) for c in clips))
    with pytest.raises(UserError, match=r"cannot list \\udcff\.wav.*rename"):
        fold_lists(clips, "speaker", tmp_path / "folds")
    assert not (tmp_path / "folds").exists()


def test_processes_that_write_the_same_lists_do_not_meet(words, tmp_path, monkeypatch):
    clips, replace = open_clips(words), os.replace

    def meet(part, path):
        monkeypatch.setattr(os, "replace", replace)
        folds.append(fold_lists(clips, "speaker", tmp_path / "folds"))
        replace(part, path)

    folds = []
    monkeypatch.setattr(os, "replace", meet)
    folds.append(fold_lists(clips, "speaker", tmp_path / "folds"))
    assert folds[0] == folds[1]
    assert not list(tmp_path.rglob("*.part"))


def test_a_stream_and_a_folder_that_is_a_file_are_refused(words, tmp_path):
    stream = ClipStream("hub/set", lambda: iter(()), "its own", "1")
    with pytest.raises(UserError, match="hub/set is read as a stream"):
        fold_lists(stream, "speaker", tmp_path / "folds")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="cannot be written"):
            fold_lists(open_clips(words), "speaker", folder)


@pytest.mark.data
def test_digits_by_speaker(fsdd, tmp_path):
    config = DataConfig(root=str(fsdd), sample_rate=8000)
    folds = fold_lists(open_clips(config), "speaker", tmp_path)
    assert len(folds) == 6
    for fold in folds:
        clips = open_clips(dataclasses.replace(config, lists=str(fold)))
        assert Counter(clip.split for clip in clips) == {"training": 2000, "validation": 500, "testing": 500}
        assert len(clips.split("testing").speakers) == len(clips.split("validation").speakers) == 1
        assert len(clips.split("training").speakers) == 4


@pytest.mark.data
def test_environmental_sounds_by_their_official_folds(esc10, tmp_path):
    official = {row["path"]: row["fold"] for row in csv.DictReader((esc10 / "esc10.csv").open())}
    config = DataConfig(root=str(esc10), clip_s=5.0)
    folds = fold_lists(open_clips(config), f"{esc10 / 'esc10.csv'}:fold", tmp_path)
    assert [fold.name for fold in folds] == [f"fold-{number}" for number in range(1, 6)]
    for number, fold in enumerate(folds):
        of = splits(config, fold)
        assert Counter(of.values()) == {"training": 240, "validation": 80, "testing": 80}
        assert {official[id_] for id_, split in of.items() if split == "testing"} == {str(number + 1)}
