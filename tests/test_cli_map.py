"""`audiossl map` and `audiossl inspect neighbours` as a person calls them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import audiossl
from audiossl.cli import main
from audiossl.encoder import load_model
from audiossl.map.checkpoints import BEFORE, encoders_of_run

QUICK = ["--projections", "pca", "--sound", "flac"]


def content(page: Path) -> dict[str, Any]:
    """What a page was written with."""
    found = re.search(r'<script type="application/json" id="page">(.*?)</script>', page.read_text("utf-8"))
    assert found
    return json.loads(found[1])


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_a_data_set_by_two_encoders(tones, encoder_folder, tmp_path, capsys):
    out = tmp_path / "map.html"
    arguments = ["map", str(tones), "-e", str(encoder_folder), "-e", f"again={encoder_folder}", "-o", str(out)]
    assert main([*arguments, "--split", "validation", *QUICK]) == 0
    assert "15 points" in capsys.readouterr().out
    page = content(out)
    assert [panel["name"] for panel in page["panels"]][1] == "again"
    assert {column["name"] for column in page["columns"]} >= {"label", "level"}
    assert "http://" not in out.read_text("utf-8").split('id="page"')[0]


def test_the_same_call_writes_the_same_bytes(tones, encoder_folder, tmp_path):
    pages = []
    for name in ("a.html", "b.html"):
        flags = ["--projections", "pca,tsne", "--limit", "30", "--title", "t"]
        main(["map", str(tones), "-e", f"one={encoder_folder}", "-o", str(tmp_path / name), *flags])
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_embeddings_with_rows_that_failed_and_a_table(tones, encoder_folder, tmp_path, capsys):
    (tmp_path / "sounds").mkdir()
    for path in sorted((tones / "low").glob("*_0.wav")):
        (tmp_path / "sounds" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"RIFF")
    audiossl.featurize(str(tmp_path / "sounds"), str(encoder_folder), progress=False).save(tmp_path / "rows.npz")
    table = tmp_path / "labels.csv"
    names = sorted(path.name for path in (tmp_path / "sounds").glob("*_0.wav"))
    table.write_text("file,label\n" + "".join(f"{name},{'ab'[n % 2]}\n" for n, name in enumerate(names)))
    out = tmp_path / "rows.html"
    assert main(["map", str(tmp_path / "rows.npz"), "--table", str(table), "-o", str(out), *QUICK]) == 0
    said = capsys.readouterr()
    assert "1 rows have no embedding" in said.err
    assert "6 points" in said.out
    labels = next(column for column in content(out)["columns"] if column["name"] == "label")
    assert labels["values"] == ["", "a", "b"]


def test_many_points_want_a_folder(tones, encoder_folder, tmp_path, capsys):
    arguments = ["map", str(tones), "-e", str(encoder_folder), "--one_file", "40", *QUICK]
    said = refused([*arguments, "-o", str(tmp_path / "map.html")], capsys)
    assert "90 points are more than the 40 that one page holds" in said
    assert not (tmp_path / "map.html").exists()
    assert main([*arguments, "-o", str(tmp_path / "map")]) == 0
    assert len(list((tmp_path / "map" / "sounds").rglob("*.flac"))) == 90
    assert "exists" in refused([*arguments, "-o", str(tmp_path / "map")], capsys)
    assert main([*arguments, "-o", str(tmp_path / "map"), "--overwrite"]) == 0


def test_the_same_as_a_table_for_other_tools(tones, encoder_folder, tmp_path):
    from pyarrow import parquet

    arguments = ["map", str(tones), "-e", str(encoder_folder), "--split", "testing", "-o", str(tmp_path / "map.html")]
    assert main([*arguments, "--parquet", str(tmp_path / "map.parquet"), *QUICK]) == 0
    table = parquet.read_table(tmp_path / "map.parquet").to_pylist()
    page = content(tmp_path / "map.html")
    assert [row["file"] for row in table] == page["names"]
    assert {row["label"] for row in table} == {"low", "high", "rise"}
    assert all(row["sound"]["bytes"][:4] == b"fLaC" and len(row["embedding"]) == 512 for row in table)


def test_neighbours_of_a_recording_open_at_it(tones, encoder_folder, tmp_path, capsys):
    clip, out = tones / "rise" / "00000002_nohash_3.wav", tmp_path / "near.html"
    arguments = ["inspect", "neighbours", str(clip), str(tones), "-e", str(encoder_folder), "-o", str(out), *QUICK]
    assert main([*arguments, "--limit", "20", "--data.clip_s", "0.5"]) == 0
    page = content(out)
    assert page["names"][page["start"]] == str(clip)
    assert len(page["names"]) == 20  # itself among them, whatever the draw
    assert page["preserved_k"] == 9  # half of the nineteen others: what the share below the plot was measured by


def test_the_checkpoints_of_a_run_are_its_frames(tones, tmp_path):
    from audiossl.recipes import contrastive_speechcommands as recipe

    from audiossl.config import parse

    flags = ["--data.root", str(tones), "--data.clip_s", "0.5", "--views.view_s", "0.5", "--run.batch_size", "16"]
    flags += [
        "--run.epochs",
        "2",
        "--run.keep",
        "5",
        "--run.out",
        str(tmp_path / "run"),
        "--probe.quick",
        "--run.trackers",
        "[]",
    ]
    recipe.main(parse(recipe.Config, recipe.__file__, [*flags, "--probe.random_seeds", "0"], preset="small"))
    report = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert 'href="map.html"' in report
    assert [panel["name"] for panel in content(tmp_path / "run" / "map.html")["panels"]] == [
        "encoder",
        "random weights",
    ]
    out = tmp_path / "run.html"
    assert main(["map", str(tones), "--run", str(tmp_path / "run"), "-o", str(out), *QUICK]) == 0
    (panel,) = content(out)["panels"]
    assert [frame["name"] for frame in panel["frames"]] == ["random weights", "after epoch 1", "after epoch 2"]
    given = [frame["neighbours"]["data"] for frame in panel["frames"]]
    assert len(set(given)) == 3


def test_a_front_end_that_learned_is_that_of_each_checkpoint(tones, tmp_path):
    from audiossl.recipes import contrastive_speechcommands as recipe

    from audiossl.config import parse

    flags = ["--data.root", str(tones), "--data.clip_s", "0.5", "--views.view_s", "0.5", "--run.batch_size", "16"]
    flags += ["--frontend.type", "leaf", "--run.epochs", "2", "--run.keep", "5", "--run.out", str(tmp_path / "run")]
    flags += ["--probe.skip", "--run.trackers", "[]"]
    recipe.main(parse(recipe.Config, recipe.__file__, flags, preset="small"))
    first, last = (
        dict(encoder.frontend.named_parameters())
        for name, encoder in encoders_of_run(tmp_path / "run", seed=0).items()
        if name != BEFORE
    )
    final = dict(load_model(tmp_path / "run" / "encoder").frontend.named_parameters())
    assert last
    assert all(last[name].equal(final[name]) for name in last)
    assert not all(first[name].equal(final[name]) for name in first)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["DATA"], "--encoder is missing"),
        (["DATA", "-e", "nowhere"], "nowhere"),
        (["DATA", "OTHER", "-e", "MODEL"], "takes one data set"),
        (["DATA", "-e", "MODEL", "--split", "middle"], "--split is 'middle'"),
        (["DATA", "-e", "MODEL", "--projections", "lda"], "--projections has 'lda'"),
        (["DATA", "-e", "MODEL", "-o", "map.pdf"], "-o map.pdf"),
        (["DATA", "-e", "MODEL", "-o", "nowhere/map.html"], "no folder nowhere"),
        (["DATA", "-e", "MODEL", "--projection", "pca"], "--projections"),
        (["DATA", "--run", "nowhere"], "no finished run"),
        (["nowhere.npz"], "nowhere.npz does not exist"),
        (["DATA", "-e", "MODEL", "--table", "nowhere.csv"], "--table nowhere.csv cannot be read"),
    ],
)
def test_mistakes_are_one_sentence(tones, encoder_folder, tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    known = {"DATA": str(tones), "OTHER": str(tones / "low"), "MODEL": str(encoder_folder)}
    assert said in refused(["map", *(known.get(part, part) for part in arguments)], capsys)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_map_is_not_replaced(tones, encoder_folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    page.write_text("mine")
    arguments = ["map", str(tones), "-e", str(encoder_folder), "-o", str(page), "--overwrite", *QUICK]
    assert "is no map" in refused(arguments, capsys)
    assert page.read_text() == "mine"


def test_the_help_names_every_flag(capsys):
    main(["map", "--help"])
    said = capsys.readouterr().out
    for flag in ("--encoder", "--run", "--table", "--projections", "--sound", "--parquet", "--data.root"):
        assert flag in said
    main(["inspect", "neighbours", "--help"])
    assert "opened at CLIP" in capsys.readouterr().out
