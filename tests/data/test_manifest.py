from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl.data import DataConfig, open_clips
from audiossl.data.clips import hash_split
from audiossl.errors import UserError

RATE = 1000
DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "sounds").mkdir()
    for i in range(30):
        soundfile.write(tmp_path / "sounds" / f"ü {i}.wav", np.ones(RATE, dtype=np.int16), RATE)
    return tmp_path


def opened(folder: Path, text: str, **how):
    (folder / "list.csv").write_text(text, encoding="utf-8")
    return open_clips(DataConfig(root=str(folder / "list.csv"), sample_rate=RATE, **how))


def test_columns_are_read_and_paths_are_relative_to_the_file(folder, monkeypatch):
    monkeypatch.chdir("/")
    text = "\ufeffpath,label,split,speaker,more\nsounds/ü 0.wav,a,train,x,1\nsounds/ü 1.wav,,TEST,,2\n"
    text += f'"{folder}/sounds/ü 2.wav",b,dev,x,3\n'
    clips = opened(folder, text)
    assert [(c.label, c.split, c.speaker) for c in clips] == [
        ("a", "training", "x"),
        (None, "testing", None),
        ("b", "validation", "x"),
    ]
    assert clips.name == "list"
    assert clips.labels == ("a", "b")
    assert clips[0].wave(RATE).shape == (RATE,)
    assert clips.split_rule == "as the manifest's column says"


def test_only_the_path_is_needed_and_the_file_decides_the_split(folder):
    clips = opened(folder, "path\n" + "".join(f"sounds/ü {i}.wav\n" for i in range(30)))
    assert [clip.split for clip in clips] == [hash_split(clip.id) for clip in clips]
    assert "hash of the path" in clips.split_rule


def test_lists_of_a_folder_decide_in_place_of_the_columns(folder):
    lists = folder / "lists"
    lists.mkdir()
    (lists / "testing_list.txt").write_text("sounds/ü 1.wav\n", encoding="utf-8")
    text = "path,split\nsounds/ü 0.wav,test\nsounds/ü 1.wav,train\nsounds/ü 2.wav,\n"
    clips = opened(folder, text, lists=str(lists))
    assert [clip.split for clip in clips] == ["training", "testing", "training"]
    assert clips.split_rule == "validation_list.txt and testing_list.txt of lists decide, the rest is for training"
    (lists / "testing_list.txt").write_text("sounds/other.wav\n")
    with pytest.raises(UserError, match=r"name none of the 3 audio files in .*list\.csv"):
        opened(folder, text, lists=str(lists))


def test_known_speakers_decide_the_split(folder):
    rows = "".join(f"sounds/ü {i}.wav,s{i // 3}\n" for i in range(30))
    clips = opened(folder, "path,speaker\n" + rows)
    assert [clip.split for clip in clips] == [hash_split(clip.speaker) for clip in clips]
    assert clips.split_rule == "80/10/10 by the hash of the speaker"


def test_where_a_speaker_is_missing_the_path_decides_and_no_more(folder):
    rows = "".join(f"sounds/ü {i}.wav,{f's{i // 3}' if i != 4 else ''}\n" for i in range(30))
    clips = opened(folder, "path,speaker\n" + rows)
    assert [clip.split for clip in clips] == [hash_split(clip.speaker or clip.id) for clip in clips]
    assert clips.split_rule == "80/10/10 by the hash of the speaker, or of the path where a speaker is missing"


def test_a_name_that_begins_with_a_tilde_is_a_name(folder):
    soundfile.write(folder / "~tmp.wav", np.ones(RATE, dtype=np.int16), RATE)
    assert [clip.id for clip in opened(folder, "path\n~tmp.wav\n")] == ["~tmp.wav"]
    with pytest.raises(UserError, match=r"line 2: the file .*~no-such-user/a\.wav does not exist"):
        opened(folder, "path\n~no-such-user/a.wav\n")


def test_names_of_columns_can_be_chosen(folder):
    text = "file,word,who,part\nsounds/ü 0.wav,a,x,val\n"
    how = {"path_column": "file", "label_column": "word", "speaker_column": "who", "split_column": "part"}
    clip = opened(folder, text, **how)[0]
    assert (clip.label, clip.speaker, clip.split) == ("a", "x", "validation")


def test_long_recordings_are_cut_within_their_split(folder):
    soundfile.write(folder / "long.wav", np.ones(3 * RATE, dtype=np.int16), RATE)
    clips = opened(folder, "path,label,split\nlong.wav,a,test\n")
    assert [(clip.id, clip.label, clip.split) for clip in clips] == [
        (f"long.wav@{i}s", "a", "testing") for i in range(3)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\nsounds/ü 0.wav\n", r"no column 'path' \(it has: file\).*--data\.path_column"),
        ("", r"no column 'path' \(it has: none\)"),
        ("path\n", "lists no recordings"),
        ("path\nsounds/ü 0.wav\nsounds/missing.wav\n", r"line 3: .*missing\.wav does not exist"),
        ("path\nsounds/ü 0.wav\nsounds/ü 1.wav\n./sounds/ü 0.wav\n", "line 4: .* line 2 already"),
        ("path,split\nsounds/ü 0.wav,later\n", "line 2: the split is 'later'"),
        ("path,label\n,a\n", "line 2: the column 'path' is empty"),
    ],
)
def test_mistakes_name_the_line(folder, text, message):
    with pytest.raises(UserError, match=message) as caught:
        opened(folder, text)
    assert "list.csv" in str(caught.value)


def test_a_column_asked_for_by_a_flag_has_to_exist(folder):
    with pytest.raises(UserError, match=r"no column 'word'.*--data\.label_column"):
        opened(folder, "path,label\nsounds/ü 0.wav,a\n", label_column="word")


def test_what_is_no_csv_is_refused(folder):
    (folder / "list.csv").write_bytes(b"path\n\xff\xfe\x00bad\n")
    with pytest.raises(UserError, match=r"list\.csv cannot be read as a CSV"):
        open_clips(DataConfig(root=str(folder / "list.csv")))
    with pytest.raises(UserError, match=r"no \.csv"):
        open_clips(DataConfig(root=str(folder / "sounds" / "ü 0.wav")))
    with pytest.raises(UserError, match="cannot be read"):
        open_clips(DataConfig(name="manifest", root=str(folder / "none.csv")))


@pytest.mark.data
def test_fsdd_by_its_manifest():
    manifest = DATA / "fsdd" / "manifest.csv"
    if not manifest.is_file():
        pytest.skip(f"needs the recordings in {manifest.parent}")
    clips = open_clips(DataConfig(root=str(manifest), clip_s=5.0))
    assert len(clips) == 3000
    assert [len(clips.split(name)) for name in ("training", "validation", "testing")] == [2400, 300, 300]
    assert (len(clips.labels), len(clips.speakers)) == (10, 6)
