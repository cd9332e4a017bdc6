"""What is known of each point, from clips, from embeddings, and from a table beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import audiossl
from audiossl.errors import UserError
from audiossl.map.points import Column, Points, drawn, from_clips, from_rows, joined


def column(points: Points, name: str) -> Column:
    return next(item for item in points.columns if item.name == name)


def test_clips_bring_labels_speakers_splits_and_their_own_sound(clips):
    points = from_clips(clips, 0.25)
    assert points.names == clips.ids
    assert points.texts("label") == clips.labels
    assert points.texts("speaker") == clips.speakers
    wave, rate = points.sound(3)
    assert (len(wave), rate) == (2000, 8000)
    assert np.array_equal(wave, clips.waves[3][:2000])
    power_db = 10 * np.log10(np.mean((clips.waves[3] / 32768.0) ** 2))
    assert column(points, "level").numbers[3] == pytest.approx(power_db, abs=1e-3)
    assert np.allclose(column(points, "duration").numbers, 0.5)


def test_some_points_keep_what_is_known_of_them(clips):
    points = from_clips(clips, 1.0)
    kept = np.array([5, 2, 70])
    few = points.rows(kept)
    assert few.names == [clips.ids[n] for n in kept]
    assert few.texts("label") == [clips.labels[n] for n in kept]
    assert np.array_equal(few.sound(2)[0], points.sound(70)[0])


def test_columns_that_say_the_same_of_all_are_left_out_but_the_label_stays(clips):
    points = from_clips(clips, 1.0).rows(np.arange(5)).telling()
    assert points.texts("label") is not None
    assert points.texts("speaker") is None


def test_rows_of_featurize_play_their_part_of_the_file(tones, encoder_folder):
    found = audiossl.featurize(
        str(tones / "low"), str(encoder_folder), level="window", window_s=0.25, hop_s=0.25, progress=False
    )
    points = from_rows(found.table, "rows", 10.0)
    assert len(set(points.names)) == len(found) == 60
    assert points.names[1].endswith("00000000_nohash_0.wav 0.25 s")
    first, second = points.sound(0), points.sound(1)
    whole, rate = audiossl.audio.load(found.table[0]["file"])
    both = np.concatenate([first[0], second[0]]) / 32768
    assert first[1] == rate == 8000
    assert np.abs(both - whole[: len(both)]).max() < 1e-4


def test_a_file_that_is_gone_is_a_point_without_sound(clips):
    row = {"file": "gone.wav", "channel": "mix", "start_s": 0.0, "end_s": 1.0, "valid_s": 1.0, "peak_db": None}
    points = from_rows([{**row, "status": "ok"}], "rows", 10.0)
    assert points.sound(0) is None
    assert np.isnan(column(points, "peak").numbers[0])


def test_a_table_brings_columns_by_name_or_by_the_end_of_a_path(clips, tmp_path):
    points = from_clips(clips, 1.0).rows(np.arange(4))
    points = Points([f"/somewhere/{name}.wav" for name in points.names], [], points.sound, points.of)
    table = tmp_path / "table.csv"
    last = points.names[1].rsplit("/", 1)[1]
    table.write_text(f"path,kind,year\n{points.names[0]},calm,1999\n{last},wild,\n")
    found = joined(points, str(table))
    assert column(found, "kind").texts == ["calm", "wild", None, None]
    assert column(found, "year").numbers[0] == 1999
    assert np.isnan(column(found, "year").numbers[1:]).all()


def test_a_table_of_recordings_is_one_of_their_windows_and_a_windows_own_row_comes_first(tmp_path):
    row = {"channel": "mix", "end_s": 1.0, "valid_s": 1.0, "peak_db": None, "status": "ok"}
    windows = [{**row, "file": f"/sounds/{name}.wav", "start_s": s} for name in "ab" for s in (0.0, 0.5)]
    table = tmp_path / "table.csv"
    table.write_text("file,bird\n/sounds/a.wav,owl\nb.wav,wren\n/sounds/b.wav 0.50 s,crow\n")
    points = from_rows(windows, "windows", 10.0)
    assert column(joined(points, str(table)), "bird").texts == ["owl", "owl", "wren", "crow"]
    kept = joined(points.rows(np.array([3, 0])), str(table))
    assert column(kept, "bird").texts == ["crow", "owl"]


def test_a_table_of_recordings_is_one_of_the_clips_cut_from_them(clips, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("file,bird\nlong.wav,owl\n")
    points = from_clips(replace(clips, ids=["long.wav@0s", "long.wav@1.5s", *clips.ids[2:]]), 1.0)
    assert column(joined(points, str(table)), "bird").texts[:3] == ["owl", "owl", None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "needs a column file or path"),
        ("file,b\nnobody.wav,2\n", "none of its 1 rows names one of the 3 points"),
        ("", "needs a column file or path"),
        (b"file\n\xff\xfe\n", "cannot be read"),
    ],
)
def test_tables_that_do_not_fit_are_refused(clips, tmp_path, content, said):
    table = tmp_path / "table.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=said):
        joined(from_clips(clips, 1.0).rows(np.arange(3)), str(table))


def test_a_draw_is_the_same_again_and_keeps_the_order():
    names = [f"clip {n}" for n in range(50)]
    rows = drawn(names, np.arange(50), 10)
    assert len(rows) == 10
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, drawn(names, np.arange(50), 10))
    assert np.array_equal(drawn(names, np.arange(50), None), np.arange(50))
