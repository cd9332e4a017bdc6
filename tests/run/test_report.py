import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from audiossl.errors import UserError
from audiossl.run import files
from audiossl.run.pictures import Box, Picture
from audiossl.run.report import main, write_report
from audiossl.run.tracking import read_history

EVIL = "<script>alert('x')</script>\"&"


class Page(HTMLParser):
    """Tags, text and attributes of a page; refuses tags that are closed in another order than opened."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data + " "


def history(epochs=6, steps=20):
    rows = []
    for epoch in range(epochs):
        for step in range(epoch * steps + 10, (epoch + 1) * steps + 1, 10):
            row = {"kind": "step", "epoch": epoch, "step": step, "loss": 5 - step / 100, "lr": 1e-3}
            rows.append(row | {"loss_over_ln_k": (5 - step / 100) / math.log(256), "koleo": -0.1})
        last = {"kind": "epoch", "epoch": epoch, "step": (epoch + 1) * steps, "loss": 5 - step / 100}
        rows.append(last | {"knn": 25.0 + epoch, "knn_random": 24.0, "feature_std": 0.5, "seconds": 60.0 * epoch})
    return rows


def scores(name="speech-commands-9w"):
    def cells(*values):
        return {column: {"mean": value} for column, value in zip(("kNN", "5"), values, strict=False)}

    rows = [
        {"name": "encoder", "dim": 512, "scores": {"kNN": {"mean": 68.04}, "5": {"mean": 47.4, "std": 1.26}}},
        {
            "name": "same network, random weights",
            "dim": 512,
            "scores": {"kNN": {"mean": 25, "low": 24, "high": 26.2}},
        },
        {"name": "log-mel mean + std", "dim": 128, "scores": cells(41.2, 28.3)},
        {"name": "chance", "dim": None, "scores": cells(11.1)},
    ]
    about = {
        "name": name,
        "clips": 4983,
        "speakers": 478,
        "labels": ["up", "go"],
        "split_rule": "official lists",
    }
    about |= {
        "split_clips": {"training": 3911, "validation": 572, "testing": 500},
        "seed": 7,
        "random_seeds": [0, 1],
    }
    return {"columns": ["kNN", "5"], "rows": rows, "about": about}


def pictures(name="up/one", n_views=2, size=(64, 96)):
    random = np.random.default_rng(0)
    frequencies = np.geomspace(60, 7800, size[0])
    boxes = tuple(Box(0.1 * i, 0.1 * i + 0.5, 200, 4000, f"v{i}", local=i > 0) for i in range(n_views))
    whole = Picture(random.normal(size=size), "whole clip", frequencies, boxes=boxes, clip=name)
    views = [
        Picture(random.normal(size=size), f"view {b.label}", frequencies, b.start_s, b.end_s, clip=name) for b in boxes
    ]
    return [whole, *views]


def full_run(folder, **changes):
    (folder / files.ENCODER).mkdir(exist_ok=True)
    (folder / files.CONFIG).write_text("run:\n  epochs: 6\n  seed: 3\nbackbone:\n  name: resnet10\n")
    (folder / files.ENVIRONMENT).write_text("torch: 2.14.1\n")
    (folder / files.METRICS).write_text("".join(json.dumps(row) + "\n" for row in history()))
    return write_report(folder, **({"scores": scores(), "views": pictures()} | changes)).read_text("utf-8")


def test_the_page_shows_scores_curves_views_and_facts(tmp_path):
    page = Page(full_run(tmp_path))
    words = " ".join(page.text.split())
    for expected in (
        "pretrained encoder",
        "68.0",
        "± 1.3",
        "24.0–26.2",
        "5 labels a class",
        "4983 clips, 478 speakers",
        "3911 / 572 / 500",
        "Official lists",
        "seeds 0, 1",
        "Probe seed 7",
        "68.0 %, above every floor",
        "The monitors give no warning",
        "6 epochs, 120 steps, 5 min of training",
        "audiossl featurize",
        "torch: 2.14.1",
        "name: resnet10",
        "view v1",
    ):
        assert expected in words, expected
    # loss, loss / ln K, kNN, spread, lr and the method's own koleo; then three pictures
    assert page.tags.count("figure") == 6 + 3
    assert page.tags.count("svg") > 9  # legends have small ones


def test_the_page_loads_nothing(tmp_path):
    text = full_run(tmp_path)
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert value.startswith(("data:image/png;base64,", "#")) or not re.match(r"[a-z]*:?//", value), value
        assert not name.startswith("on")
    assert not re.search(r"https?://", text)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text


def test_links_point_at_files_that_are_there(tmp_path):
    page = Page(full_run(tmp_path))
    links = [v for n, v in page.attributes if n == "href" and not v.startswith(("data:", "#"))]
    assert "encoder/" in links
    assert all((tmp_path / link).exists() for link in links)


def test_all_text_of_others_is_escaped(tmp_path):
    rows = [row | {EVIL: 1.0, "note": EVIL} for row in history()]
    (tmp_path / files.CONFIG).write_text(json.dumps({"backbone": {"name": EVIL}, "run": {"seed": EVIL}}))
    table = scores(EVIL)
    table["rows"][1]["name"] = EVIL
    table["columns"].append(EVIL)
    views = pictures(EVIL)
    views[1:] = [Picture(v.image, EVIL, v.frequencies, boxes=(Box(0, 1, 60, 900, EVIL),), clip=EVIL) for v in views[1:]]
    (tmp_path / files.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / files.ENVIRONMENT).write_text(EVIL)
    path = write_report(tmp_path, scores=table, views=views, warnings=[EVIL], title=EVIL)
    text = path.read_text("utf-8")
    assert "<script" not in text.lower()
    page = Page(text)
    assert page.text.count("<script>alert('x')</script>") >= 8
    # and the rebuilt page, from the files
    assert "<script" not in write_report(tmp_path).read_text("utf-8").lower()


def test_svg_follows_the_page_in_colour_and_font(tmp_path):
    text = full_run(tmp_path)
    assert "var(--line)" in text
    assert not re.search(r"#00000[1-6]", text)
    assert "DejaVu" not in text
    assert "<metadata" not in text


@pytest.mark.parametrize("missing", [files.METRICS, files.SCORES, files.VIEWS, files.CONFIG, files.ENVIRONMENT])
def test_a_page_is_built_again_from_what_is_there(tmp_path, missing):
    first = full_run(tmp_path)
    assert write_report(tmp_path).read_text("utf-8") == first
    (tmp_path / missing).unlink()
    page = Page(write_report(tmp_path).read_text("utf-8"))
    assert ("Scores" in page.text) == (missing != files.SCORES)
    assert ("Curves" in page.text) == (missing != files.METRICS)
    assert ("Views" in page.text) == (missing != files.VIEWS)


@pytest.mark.parametrize("damaged", [files.SCORES, files.VIEWS, files.CONFIG])
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe: [", b"PK\x03\x04broken"])
def test_a_damaged_file_is_named_and_does_not_cost_the_report(tmp_path, damaged, content):
    full_run(tmp_path)
    (tmp_path / damaged).write_bytes(content)
    page = Page(write_report(tmp_path).read_text("utf-8"))
    assert "Curves" in page.text
    quiet = damaged == files.CONFIG and content in (b"", b"[1, 2]", b"PK\x03\x04broken")
    assert quiet or f"{damaged} could not be read" in page.text


def test_an_interrupted_run_says_where_it_stopped(tmp_path):
    (tmp_path / files.CONFIG).write_text("run: {epochs: 60}\n")
    lines = "".join(json.dumps(row) + "\n" for row in history())
    (tmp_path / files.METRICS).write_text(lines + '{"kind": "step", "epo')
    assert len(read_history(tmp_path / files.METRICS)) == len(history())
    assert "6 of 60 epochs, 120 steps" in Page(write_report(tmp_path).read_text("utf-8")).text


def test_a_final_table_below_its_floors_is_no_success(tmp_path):
    assert "verdict good" in full_run(tmp_path)
    table = scores()
    table["rows"][0]["scores"]["kNN"]["mean"] = 40.0
    text = full_run(tmp_path, scores=table)
    assert "verdict warn" in text
    assert "kNN on the test split: 40.0 %, not above every floor" in text


def test_one_row_and_values_that_are_not_finite(tmp_path):
    rows = [{"kind": "step", "epoch": 0, "step": 1, "loss": math.nan, "lr": math.inf, "rankme": 3.0, "odd": True}]
    (tmp_path / files.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(write_report(tmp_path).read_text("utf-8"))
    assert "The loss is not a finite number" in page.text
    assert "no finite value" in page.text
    assert page.tags.count("figure") == 3


def test_a_folder_without_a_run_is_refused_and_stays_empty(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    first = full_run(tmp_path)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(UserError, match="No space left"):
        write_report(tmp_path, title="another")
    assert (tmp_path / files.REPORT).read_text("utf-8") == first
    assert not list(tmp_path.glob("*.part"))


def test_long_runs_and_many_large_pictures_stay_small(tmp_path):
    rows = history(epochs=500, steps=200)
    views = [p for i in range(12) for p in pictures(f"clip {i}", n_views=8, size=(256, 1024))]
    (tmp_path / files.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = write_report(tmp_path, views=views, scores=scores())
    assert path.stat().st_size < 1_500_000
    assert "pictures are left out" in path.read_text("utf-8")


def test_long_runs_are_told_by_their_last_values(tmp_path):
    rows = history(epochs=500, steps=205)  # the last step is no multiple of those that are logged
    (tmp_path / files.METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = Page(write_report(tmp_path).read_text("utf-8")).text
    assert "500 epochs, 102,500 steps, 8 h 19 min of training" in text
    assert "last 524" in text  # kNN, 25 and one more each epoch


def test_program_rebuilds_and_says_what_is_wrong(tmp_path, capsys):
    full_run(tmp_path)
    (tmp_path / files.REPORT).unlink()
    main([str(tmp_path), "--title", "Another"])
    assert "<h1>Another</h1>" in (tmp_path / files.REPORT).read_text("utf-8")
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "nowhere")])
    assert stopped.value.code == 2
    assert "nowhere is not a folder" in capsys.readouterr().err
