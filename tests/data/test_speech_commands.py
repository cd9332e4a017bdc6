from __future__ import annotations

import functools
import hashlib
import io
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiossl.data import download
from audiossl.data.clips import SPLITS
from audiossl.data.config import DataConfig
from audiossl.data.open import resolve
from audiossl.data.speech_commands import COMMANDS, looks_like, open_speech_commands, split_of
from audiossl.errors import UserError


@functools.cache
def noise_file(suffix: str, n_samples: int) -> bytes:
    noise = np.random.default_rng(n_samples).integers(-3000, 3000, n_samples).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, noise, 16000, format=suffix.lstrip("."))
    return file.getvalue()


def write(path: Path, n_samples: int = 800) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(noise_file(path.suffix, n_samples))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """Ten commands and two other words by forty speakers, and two background recordings; no lists."""
    for word in (*COMMANDS, "bed", "wow"):
        for i in range(40):
            write(tmp_path / word / f"{i:08x}_nohash_0.flac")
    write(tmp_path / "_background_noise_" / "hum.wav", 16000 * 30)
    write(tmp_path / "_background_noise_" / "rain.wav", 16000 * 40)
    (tmp_path / "README.md").write_text("words")
    return tmp_path


@pytest.mark.data
def test_hash_rule_puts_every_official_entry_where_the_lists_do(official_lists: Path) -> None:
    counts = Counter()
    for version in ("v0.01", "v0.02"):
        for split in ("validation", "testing"):
            for entry in (official_lists / f"{version}_{split}_list.txt").read_text().split():
                assert split_of(entry) == split, entry
                counts[version] += 1
    assert counts == {"v0.01": 13_633, "v0.02": 20_986}


def test_hash_rule_follows_its_formula() -> None:
    name = "0a7c2a8d"
    percent = int(hashlib.sha1(name.encode()).hexdigest(), 16) % 2**27 * 100 / (2**27 - 1)
    expected = "validation" if percent < 10 else "testing" if percent < 20 else "training"
    assert split_of(f"x/{name}_nohash_3.wav") == split_of(f"y/{name}_nohash_0.flac") == expected
    shares = Counter(split_of(f"{i:08x}_nohash_0.wav") for i in range(20_000))
    assert shares["validation"] / 20_000 == pytest.approx(0.1, abs=0.01)
    assert shares["testing"] / 20_000 == pytest.approx(0.1, abs=0.01)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "counts", "n_labels", "n_speakers"),
    [
        ("speech_commands_9w", (3911, 572, 500), 9, 478),
        ("speech_commands_35w_mini", (321, 72, 100), 35, 403),
    ],
)
def test_real_folders_have_the_stated_clips_and_no_shared_speakers(name, counts, n_labels, n_speakers, request) -> None:
    clips = open_speech_commands(DataConfig(root=str(request.getfixturevalue(name))))
    assert tuple(len(clips.split(split)) for split in SPLITS) == counts
    assert (len(clips.labels), len(clips.speakers)) == (n_labels, n_speakers)
    assert len({clip.id for clip in clips}) == len(clips)
    speakers = [set(clips.split(split).speakers) for split in SPLITS]
    assert sum(map(len, speakers)) == len(set.union(*speakers))
    assert clips[0].wave(16000).shape[0] <= 16000


@pytest.mark.data
def test_ids_are_label_and_stem(speech_commands_9w: Path) -> None:
    clips = open_speech_commands(DataConfig(root=str(speech_commands_9w)))
    first = clips[0]
    assert (first.id, first.label, first.speaker) == ("down/00176480_nohash_0", "down", "00176480")
    assert [clip.id for clip in clips] == sorted(clip.id for clip in clips)


@pytest.mark.data
def test_twelve_classes_of_real_recordings(
    speech_commands_35w_mini: Path, background_noise: Path, tmp_path: Path
) -> None:
    for entry in speech_commands_35w_mini.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "_background_noise_").symlink_to(background_noise / "_background_noise_")
    clips = open_speech_commands(DataConfig(root=str(tmp_path), task=12))
    assert len(clips.labels) == 12
    waves = [clip.wave(16000) for clip in clips if clip.label == "silence"]
    assert len(waves) == len([clip for clip in clips if clip.label == "unknown"]) >= 3
    assert {wave.shape for wave in waves} == {(16000,)}
    speakers = [set(clips.split(split).speakers) for split in SPLITS]
    assert sum(map(len, speakers)) == len(set.union(*speakers))


def test_without_lists_the_hash_rule_splits_and_the_rule_says_so(layout: Path) -> None:
    clips = open_speech_commands(DataConfig(root=str(layout)))
    assert {clip.label for clip in clips} == {*COMMANDS, "bed", "wow"}
    assert all(clip.split == split_of(clip.id) for clip in clips)
    assert "SHA-1" in clips.split_rule


def test_lists_that_name_wav_also_match_flac(layout: Path) -> None:
    (layout / "validation_list.txt").write_text("yes/00000001_nohash_0.wav\n./no/00000001_nohash_0.wav\n\n")
    (layout / "testing_list.txt").write_text("up/00000002_nohash_0.flac\nmissing/00000009_nohash_0.wav\n")
    clips = open_speech_commands(DataConfig(root=str(layout)))
    assert [clip.id for clip in clips.split("validation")] == [
        "no/00000001_nohash_0",
        "yes/00000001_nohash_0",
    ]
    assert [clip.id for clip in clips.split("testing")] == ["up/00000002_nohash_0"]
    assert "list" in clips.split_rule


def test_lists_of_another_folder_split_the_clips(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    lists = tmp_path_factory.mktemp("by_speaker")
    for split, speaker in (("validation", 3), ("testing", 7)):
        (lists / f"{split}_list.txt").write_text(f"yes/{speaker:08x}_nohash_0.wav\n")
    clips = open_speech_commands(DataConfig(root=str(layout), lists=str(lists)))
    assert [clip.id for clip in clips if clip.split == "testing"] == ["yes/00000007_nohash_0"]
    assert Counter(clip.split for clip in clips) == {"training": 12 * 40 - 2, "validation": 1, "testing": 1}
    assert lists.name in clips.split_rule
    with pytest.raises(UserError, match=r"--data\.lists .* holds no validation_list\.txt and no testing_list\.txt"):
        open_speech_commands(DataConfig(root=str(layout), lists=str(layout)))


def test_ten_words_leave_the_others_out(layout: Path) -> None:
    clips = open_speech_commands(DataConfig(root=str(layout), task=10))
    assert clips.labels == tuple(sorted(COMMANDS))
    assert len(clips) == 400


def test_twelve_classes_add_a_tenth_of_silence_and_of_unknown_to_each_split(layout: Path) -> None:
    clips = open_speech_commands(DataConfig(root=str(layout), task=12))
    assert clips.labels == tuple(sorted((*COMMANDS, "silence", "unknown")))
    for split in SPLITS:
        counts = Counter(clip.label for clip in clips.split(split))
        tenth = -(-sum(counts[word] for word in COMMANDS) // 10)
        assert counts["silence"] == counts["unknown"] == tenth > 0
    assert {clip.id.split("/")[0] for clip in clips if clip.label == "unknown"} <= {"bed", "wow"}
    assert len({clip.id for clip in clips}) == len(clips)


def test_silence_is_cut_from_disjoint_parts_of_the_recordings(layout: Path) -> None:
    clips = open_speech_commands(DataConfig(root=str(layout), task=12))
    bounds = {"training": (0.0, 0.8), "validation": (0.8, 0.9), "testing": (0.9, 1.0)}
    lengths_s = {"hum": 30.0, "rain": 40.0}
    silence = [clip for clip in clips if clip.label == "silence"]
    for clip in silence:
        begin, end = (share * lengths_s[Path(clip.source).stem] for share in bounds[clip.split])
        assert begin - 1e-9 <= clip.start_s <= end - 1.0 + 1e-9
        assert 0 <= clip.gain < 1
        assert clip.duration_s == 1.0
    assert silence[0].wave(16000).shape == (16000,)
    whole, _ = soundfile.read(silence[0].source, dtype="float32")
    start = round(silence[0].start_s * 16000)
    expected = whole[start : start + 16000] * np.float32(silence[0].gain)
    np.testing.assert_allclose(silence[0].wave(16000), expected, atol=1e-7)


def test_the_draw_of_silence_and_unknown_repeats(layout: Path) -> None:
    once, again = (open_speech_commands(DataConfig(root=str(layout), task=12)) for _ in range(2))
    assert once == again


def test_looks_like(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert looks_like(layout)
    other = tmp_path_factory.mktemp("other")
    write(other / "a" / "song.wav")
    write(other / "_background_noise_" / "a_nohash_0.wav")
    assert not looks_like(other)
    assert not looks_like(other / "nothing")


def test_longer_recordings_under_its_names_are_a_folder_of_sounds(tmp_path: Path) -> None:
    write(tmp_path / "rain" / "1_nohash_0.wav", n_samples=5 * 16000)
    assert not looks_like(tmp_path)
    assert resolve(DataConfig(root=str(tmp_path))).name == "folder"


def test_a_damaged_first_file_does_not_change_what_the_folder_is(tmp_path: Path) -> None:
    (tmp_path / "rain").mkdir()
    (tmp_path / "rain" / "1_nohash_0.wav").write_bytes(b"garbage")
    assert looks_like(tmp_path)


def test_a_clip_in_two_formats_counts_once(layout: Path) -> None:
    write(layout / "yes" / "00000000_nohash_0.wav")
    clips = open_speech_commands(DataConfig(root=str(layout)))
    [clip] = [clip for clip in clips if clip.id == "yes/00000000_nohash_0"]
    assert Path(clip.source).suffix == ".flac"


def test_download_goes_into_the_cache_when_no_root_is_given(layout: Path, monkeypatch, tmp_path) -> None:
    asked = []
    monkeypatch.setattr(download, "fetch", lambda archive, folder: asked.append((archive, folder)) or layout)
    config = DataConfig(name="speech_commands", version="v0.01", download=True, cache=str(tmp_path / "cache"))
    assert len(open_speech_commands(config)) == 480
    [(archive, folder)] = asked
    assert archive.url.endswith("speech_commands_v0.01.tar.gz")
    assert folder == tmp_path / "cache" / "speech_commands_v0.01"


def test_mistakes_are_told_with_their_remedy(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(UserError, match=r"--data.root, or fetch them with --data.download true"):
        open_speech_commands(DataConfig(name="speech_commands"))
    with pytest.raises(UserError, match=r"is empty: .*--data.download true"):
        open_speech_commands(DataConfig(root=str(empty)))
    with pytest.raises(UserError, match=r"nowhere is no folder: .*--data.download true"):
        open_speech_commands(DataConfig(root=str(empty / "nowhere")))
    (empty / "notes.txt").write_text("no sound")
    with pytest.raises(UserError, match=r"has no <label>/<speaker>_nohash_<n>.wav"):
        open_speech_commands(DataConfig(root=str(empty)))


def test_a_name_that_is_no_utf_8_has_a_split(tmp_path: Path) -> None:
    write(tmp_path / "yes" / os.fsdecode(b"caf\xe9_nohash_0.wav"))
    (clip,) = open_speech_commands(DataConfig(root=str(tmp_path)))
    percent = int(hashlib.sha1(b"caf\xe9").hexdigest(), 16) % 2**27 * 100 / (2**27 - 1)
    assert clip.split == ("validation" if percent < 10 else "testing" if percent < 20 else "training")


def test_lists_that_cannot_be_meant_are_refused(layout: Path) -> None:
    (layout / "validation_list.txt").write_text("cat/1_nohash_0.wav\n")
    with pytest.raises(UserError, match=r"has validation_list.txt and no testing_list.txt"):
        open_speech_commands(DataConfig(root=str(layout)))
    (layout / "testing_list.txt").write_text("cat/2_nohash_0.wav\n")
    with pytest.raises(UserError, match=r"none of the files that .* remove the two lists"):
        open_speech_commands(DataConfig(root=str(layout)))


def test_tasks_that_the_folder_cannot_serve_are_refused(layout: Path) -> None:
    for noise in (layout / "_background_noise_").iterdir():
        noise.unlink()
    with pytest.raises(UserError, match=r"_background_noise_, which holds no audio.*--data.task 10"):
        open_speech_commands(DataConfig(root=str(layout), task=12))
    write(layout / "_background_noise_" / "short.wav", 16000 * 5)
    with pytest.raises(UserError, match=r"too short for .* of 1.0 s for validation"):
        open_speech_commands(DataConfig(root=str(layout), task=12))
    for clip in (layout / "stop").iterdir():
        clip.unlink()
    with pytest.raises(UserError, match=r"lacks stop: use --data.task 35"):
        open_speech_commands(DataConfig(root=str(layout), task=10))
