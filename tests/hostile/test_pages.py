"""Pages about data with hostile names: no element, attribute or script of a page comes from the data.

A page is compared with the same one about harmless names: the elements and their attributes must be the same.
"""

from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from audiossl.transforms import MelConfig
from fuzzing.tables import report_files

from audiossl.backbones import BackboneConfig
from audiossl.compare.page import write_comparison
from audiossl.compare.table import Row
from audiossl.encoder import AudioEncoder, EncoderConfig
from audiossl.explain.attention_page import examine_attention, write_attention_page
from audiossl.explain.correspondence_page import examine_two_clips, write_correspondence_page
from audiossl.explain.frontend_page import write_frontend_page
from audiossl.explain.frontends import Look
from audiossl.explain.sound import Sound
from audiossl.explain.view_page import ViewsShown, write_view_page
from audiossl.probes.table import Cell
from audiossl.run import files
from audiossl.run.pictures import Box, Picture
from audiossl.run.report import write_report

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=1>',
    "' onmouseover='alert(1)",
    "</style><body onload=alert(1)>",
    "</title><svg/onload=alert(1)>",
    "<!-- ",
    "]]><iframe src=//x>",
    "&lt;b&gt; &#60;i&#62;",
    "{{7*7}} ${policy} $title",
    "\u202egnp.exe \u2066\u200f",
    "javascript:alert(1)",
]
HARMLESS = [f"name {n}" for n in range(len(HOSTILE))]


class Elements(HTMLParser):
    """What a page is made of: elements with the names of their attributes, addresses, scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []
        self.code: list[str] = []
        self.inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.elements.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "xlink:href")]

    def handle_comment(self, data):
        self.elements.append(("comment", (data,)))

    def handle_data(self, data):
        if self.inside in ("script", "style") and data.strip():
            self.code.append(data)


def assert_no_difference(write, tmp_path):
    """`write(path, names)` gives the page about things of these names."""
    plain = Elements(write(tmp_path / "plain.html", HARMLESS).read_text("utf-8"))
    evil = Elements(write(tmp_path / "evil.html", HOSTILE).read_text("utf-8"))
    assert len(plain.elements) > 30
    assert evil.elements == plain.elements
    assert evil.code == plain.code
    assert not [name for _, names in evil.elements for name in names if name.startswith("on")]
    odd = [address for address in evil.addresses if not address.startswith(("data:", "#", "cells/")) and ":" in address]
    assert not odd


def test_a_page_that_took_names_as_they_are_would_be_noticed(tmp_path):
    def careless(path, names):
        path.write_text("<p>" * 31 + f"<b title='{names[2]}'>{names[0]}</b>")
        return path

    with pytest.raises(AssertionError):
        assert_no_difference(careless, tmp_path)


def sound(name):
    wave = np.sin(np.arange(8000) / 5).astype(np.float32)
    return Sound(name, wave, 16000, 0.0, 0.5, 16000, 1)


def picture(names):
    return Picture(
        np.ones((8, 9)), names[0], np.arange(8.0), boxes=(Box(0, 0.5, 1, 4, names[1]),), clip=names[2], unit=names[3]
    )


def test_the_report(tmp_path):
    def write(path, names):
        folder = path.with_suffix("")
        folder.mkdir()
        report_files(folder, names)
        row = {"kind": "epoch", "epoch": 4, "step": 200, "loss": 1.0, names[0]: 3.0, names[1]: names[2]}
        with (folder / files.METRICS).open("a") as file:
            file.write(json.dumps(row) + "\n")
        content = json.loads((folder / files.SCORES).read_text())
        content["columns"] += names
        content["rows"] += [{"name": name, "dim": name, "scores": {name: 3.0}} for name in names]
        content["about"] |= {"name": names[0], "split_rule": names[1], "protocol": names[2]}
        (folder / files.SCORES).write_text(json.dumps(content))
        (folder / files.ENVIRONMENT).write_text("\n".join(names))
        config = {
            "run": {"epochs": names[0], "seed": names[1]},
            "data": {"root": names[2]},
            "backbone": {"name": names[4]},
        }
        (folder / files.CONFIG).write_text(json.dumps(config))
        return write_report(folder, warnings=names)

    assert_no_difference(write, tmp_path)


def test_the_page_of_a_comparison(tmp_path):
    def write(path, names):
        scores = {"kNN": Cell(50.0, low=40.0, high=60.0), "20": Cell(30.0, std=2.0)}
        costs = {"epochs": 3.0, "minutes": 2.0, "passes": 1e4, "memory, GB": 1.0, "parameters": 1e6, "dim": 64.0}
        rows = [Row(name, "learned", scores, costs, 3) for name in names]
        rows += [Row(name, "learned", failed=f"failed: {name}") for name in names]
        links = [(name, f"cells/{name}") for name in names]
        return write_comparison(path, names[4], rows, " ".join(names), links)

    assert_no_difference(write, tmp_path)


def test_the_page_of_views(tmp_path):
    def write(path, names):
        pictures = [picture([name, name, name, name]) for name in names for _ in range(2)]
        waves = {name: np.ones(8000, np.int16) for name in names}
        return write_view_page(path, ViewsShown(len(waves), pictures, waves, 16000, names[0], tuple(names)))

    assert_no_difference(write, tmp_path)


def test_the_page_of_front_ends(tmp_path):
    def write(path, names):
        looks = [
            Look(name, name, {name: name}, (picture([name] * 4), picture([name] * 4)), note=name, cost_s=1.0)
            for name in names
        ]
        looks += [Look(name, name, {}, problem=name) for name in names]
        return write_frontend_page(path, sound("/".join(names)), looks)

    assert_no_difference(write, tmp_path)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return AudioEncoder.build(EncoderConfig(MelConfig(n_bins=32), BackboneConfig("swin_micro"), 0.5)).eval()


@pytest.mark.parametrize("number", [0, 1, 4])
def test_the_pages_of_attention_and_correspondence(tmp_path, encoder, number):
    def attention(path, names):
        shown = examine_attention(encoder, names[number], sound(names[number]))
        return write_attention_page(path, shown)

    def correspondence(path, names):
        shown = examine_two_clips(encoder, names[number], sound(names[number]), sound(names[number]))
        return write_correspondence_page(path, shown)

    for write in (attention, correspondence):
        assert_no_difference(write, tmp_path)


def test_a_page_loads_nothing_and_runs_no_other_script_than_its_own(tmp_path):
    report_files(tmp_path)
    page = write_report(tmp_path).read_text()
    policy = page.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy
    assert "script-src" not in policy
