from __future__ import annotations

import importlib
import json
import pickle
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from audiossl.transforms import FrontEndConfig

from audiossl.cli import main
from audiossl.explain import frontends

RATE = 16000
QUICK = ["--types", "mel,stft"]
BASELINES = ["points of the picture", "same place", "chance"]


def run(capsys, *arguments):
    """Exit code, stdout and stderr of one command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


def assert_one_sentence(result, *words):
    code, out, err = result
    assert code == 2
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("inspect:")]  # the types as they come
    assert len(lines) == 1, err
    assert lines[0].startswith("audiossl: error: ")
    for word in words:
        assert str(word) in lines[0]


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "in.wav"
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE), RATE)
    return path


@pytest.fixture
def tones(tmp_path):
    folder = tmp_path / "tones"
    folder.mkdir()
    for i in range(8):
        wave = 0.3 * np.sin(2 * np.pi * (300 + 100 * i) * np.arange(RATE // 2) / RATE)
        soundfile.write(folder / f"{i}.wav", wave, RATE)
    return folder


class Page(HTMLParser):
    """Tags and attributes of a page; refuses tags that are closed in another order than opened."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes = [], [], []
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


def assert_self_contained(text):
    page = Page(text)
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    assert page.tags.count("script") == 1
    for name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert value.startswith(("data:image/png;base64,", "data:audio/wav;base64,", "#")), value[:60]
        assert not name.startswith("on")
    assert not re.search(r"https?://", text)
    assert "@import" not in text
    assert "url(" not in text
    policy = next(value for _, value in page.attributes if value and "default-src" in value)
    assert policy.startswith("default-src 'none'; ")
    assert re.search(r"script-src 'sha256-[\w+/=]+'", policy)
    return page


def test_the_page_of_front_ends_holds_everything(capsys, clip, tmp_path):
    out_file = tmp_path / "page.html"
    code, out, err = run(capsys, "inspect", "frontends", clip, "-o", out_file, *QUICK)
    assert (code, out) == (0, f"{out_file}: 2 front ends; open it in a browser\n")
    assert err == "inspect: mel\ninspect: stft\n"
    text = out_file.read_text("utf-8")
    page = assert_self_contained(text)
    assert page.tags.count("article") == 2
    assert page.tags.count("audio") == 1
    assert text.count('class="playhead"') == 3  # the waveform's, and one a picture
    for word in ("in.wav", "64 × 48", "n_fft", "× mel", ">4k<", "seconds"):
        assert word in text, word
    assert {item.name for item in tmp_path.iterdir()} == {"in.wav", "page.html"}


def test_every_type_has_its_place_on_the_page(capsys, clip, tmp_path, monkeypatch):
    from audiossl.errors import UserError

    def missing(config):
        raise UserError(f"{config.type} needs what is not installed: pip install it.")

    monkeypatch.setattr(frontends, "build_frontend", missing)
    out_file = tmp_path / "page.html"
    code, out, err = run(capsys, "inspect", "frontends", clip, "-o", out_file)
    assert code == 0
    assert "0 front ends" in out
    text = out_file.read_text("utf-8")
    for kind in FrontEndConfig.get_known_choices():
        assert f'<article class="card front" id="{kind}">' in text
        assert f'<a href="#{kind}">{kind}</a></td><td class="problem"' in text
        assert f"no picture of {kind}: {kind} needs what is not installed" in err


def test_settings_and_windows_are_taken(capsys, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).normal(size=8 * RATE) * 0.1, RATE)
    out_file = tmp_path / "page.html"
    window = ["--start_s", "6", "--duration_s", "0.5", "--n_bins", "40", "--hop_length", "400"]
    assert run(capsys, "inspect", "frontends", tmp_path / "long.wav", "-o", out_file, *window, "--types", "mel")[0] == 0
    text = out_file.read_text("utf-8")
    assert "40 × 21" in text
    assert "6 to 6.5 s of 8 s" in text


def test_only_its_own_pages_are_replaced(capsys, clip, tmp_path):
    out_file = tmp_path / "page.html"
    command = ["inspect", "frontends", clip, "-o", out_file, "--types", "mel"]
    assert run(capsys, *command)[0] == run(capsys, *command)[0] == 0
    out_file.write_text("<html>my diary</html>")
    assert_one_sentence(run(capsys, *command), out_file, "another name")
    assert out_file.read_text() == "<html>my diary</html>"


@pytest.mark.parametrize("content", [b"", b"RIFFnothing", None])
def test_what_cannot_be_read_gives_one_sentence_and_no_page(capsys, tmp_path, content):
    path = tmp_path / "broken.wav"
    if content is not None:
        path.write_bytes(content)
    assert_one_sentence(run(capsys, "inspect", "frontends", path, "-o", tmp_path / "page.html", *QUICK), path)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frontend"], ["frontend", "frontends"]),
        (["frontends"], ["CLIP"]),
        (["frontends", "in.wav", "--types", "mel,cqq"], ["'cqq'", "stft"]),
        (["frontends", "in.wav", "--types", "mell"], ["did you mean mel?"]),
        (["frontends", "in.wav", "--types", ","], ["--types"]),
        (["frontends", "in.wav", "--start", "1"], ["--start", "--start_s"]),
        (["frontends", "in.wav", "--start_s", "9"], ["in.wav", "0.5 s long"]),
        (["frontends", "in.wav", "--duration_s", "0"], ["--duration_s"]),
        (["frontends", "in.wav", "-o", "page.txt"], ["page.txt", ".html"]),
        (["frontends", "in.wav", "-o", "no/page.html"], ["no"]),
        (["frontends", "in.wav", "-o", "tones.html/"], ["tones.html"]),
        (["views", "-o", "page.txt"], ["page.txt", ".html"]),
        (["views", "--views.n_local", "4"], ["--views.n_local", "--views.n_locals"]),
        (["views", "--frontend.type", "mell"], ["frontend.type", "mel"]),
        (["views", "--kind", "crops"], ["crops", "two_views"]),
        (["views", "--kind", "patches", "--views.n_locals", "4"], ["--views.n_locals"]),
        (["views", "--data.root", "nowhere"], ["nowhere"]),
        (["views", "--config", "nowhere.yaml"], ["nowhere.yaml"]),
    ],
)
def test_mistakes_are_one_sentence(capsys, clip, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tones.html").mkdir()
    before = sorted(tmp_path.iterdir())
    assert_one_sentence(run(capsys, "inspect", *arguments), *words)
    assert sorted(tmp_path.iterdir()) == before


def test_the_page_of_views_takes_the_recipes_flags(capsys, tones, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path / "cache"))
    out_file = tmp_path / "page.html"
    flags = ["--data.root", tones, "--views.n_locals", "1", "--frontend.n_bins=64", "--run.seed", "7"]
    code, out, _ = run(capsys, "inspect", "views", *flags, "-o", out_file)
    assert (code, out) == (0, f"{out_file}: views of 4 clips; open it in a browser\n")
    text = out_file.read_text("utf-8")
    page = assert_self_contained(text)
    assert page.tags.count("audio") == 4
    assert page.tags.count("figure") == 4 * (1 + 3)
    # of the small preset, but for what the flags say
    for word in ("n_locals=1", "hop_length=334", "n_bins=64", "seed 7", "view 3, local"):
        assert word in text, word


@pytest.mark.parametrize(
    ("kind", "recipe", "setting", "value"),
    [
        ("multi_crop", "esvit_speechcommands", "n_locals", 0),
        ("two_views", "byol_speechcommands", "fader", 0.25),
        ("patches", "emp_ssl_speechcommands", "n_patches", 7),
    ],
)
def test_the_page_of_views_takes_a_runs_configuration(
    capsys, tones, tmp_path, monkeypatch, kind, recipe, setting, value
):
    from audiossl.config import save

    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path / "cache"))
    config = importlib.import_module(f"audiossl.recipes.{recipe}").Config()
    config.data.root = str(tones)
    setattr(config.views, setting, value)
    save(config, tmp_path / "config.yaml")
    out_file = tmp_path / "page.html"
    given = ["--kind", kind, "--config", tmp_path / "config.yaml", "-o", out_file]
    assert run(capsys, "inspect", "views", *given)[0] == 0
    assert f"{setting}={value}" in out_file.read_text("utf-8")
    assert "hop_length=167" in out_file.read_text("utf-8")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["frontends", "views", "attention", "correspondence", "example"]),
        (["attention"], ["--encoder", "--second", "--pictures", "--data.root", "--pickle", "example"]),
        (
            ["correspondence"],
            ["CLIP2", "--encoder", "--stage", "--change.shift_s", "--data.root", "--pickle", "example"],
        ),
        (["frontends"], ["--types", "--start_s", *FrontEndConfig.get_known_choices(), "example"]),
        (["views"], ["--views.n_locals", "--data.root", "--frontend.type", "small", "--run.seed", "example"]),
        (["views", "--kind", "patches"], ["--views.n_patches"]),
        (["views", "--frontend.type", "stft"], ["--frontend.n_fft"]),
    ],
)
def test_help_names_what_to_type(capsys, command, words):
    code, out, err = run(capsys, "inspect", *command, "--help")
    assert (code, err) == (0, "")
    for word in words:
        assert word in out, word
    assert max(len(line) for line in out.splitlines()) <= 120
    assert "audiossl inspect" in run(capsys, "--help")[1]


def test_without_a_page_the_help_is_shown(capsys):
    assert run(capsys, "inspect")[1] == run(capsys, "inspect", "--help")[1]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    from audiossl.transforms import MelConfig

    from audiossl.backbones import BackboneConfig
    from audiossl.encoder import AudioEncoder, EncoderConfig

    folder = tmp_path_factory.mktemp("run") / "encoder"
    AudioEncoder.build(EncoderConfig(MelConfig(n_bins=64), BackboneConfig("swin_micro"))).save_pretrained(folder)
    return folder


def test_the_page_of_attention_holds_everything(capsys, clip, encoder, tmp_path):
    out_file = tmp_path / "page.html"
    flags = ["--encoder", encoder, "--second", "0.2", "--hz", "440", "--pictures", tmp_path / "heads"]
    code, out, err = run(capsys, "inspect", "attention", clip, "-o", out_file, *flags)
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == f"{out_file}: attention of 8 blocks; open it in a browser"
    assert len(list((tmp_path / "heads").iterdir())) == 16
    text = out_file.read_text("utf-8")
    page = assert_self_contained(text)
    assert page.tags.count("audio") == 1
    assert text.count('class="block"') == 8
    assert len(text) < 600_000
    assert run(capsys, "inspect", "attention", clip, "-o", out_file, *flags[:2])[0] == 0  # its own page is replaced


@pytest.mark.parametrize("n_clips", [1, 2])
def test_the_page_of_correspondence_holds_everything(capsys, clip, encoder, tmp_path, n_clips):
    out_file = tmp_path / "page.html"
    flags = ["--encoder", encoder, "--change.shift_s", "0.1", "-o", out_file]
    code, out, err = run(capsys, "inspect", "correspondence", *[clip] * n_clips, *flags)
    assert (code, err) == (0, "")
    assert out.endswith(f"{out_file}: 12 regions matched; open it in a browser\n")
    page = assert_self_contained(out_file.read_text("utf-8"))
    assert page.tags.count("audio") == 2


def test_correspondence_is_measured_and_written_once(capsys, tones, encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path / "cache"))
    files = {kind: tmp_path / f"found.{kind}" for kind in ("json", "csv", "pickle")}
    flags = ["--encoder", encoder, "--data.root", tones, "--random_seeds", "0", "--seed", "3"]
    flags += [part for kind, path in files.items() for part in (f"--{kind}", path)]
    code, out, _ = run(capsys, "inspect", "correspondence", *flags)
    assert code == 0
    assert all(word in out for word in ("| encoder ", "| random weights, seed 0 ", "| chance ", "clips of"))
    found = json.loads(files["json"].read_text())
    assert [row["name"] for row in found["rows"]] == ["encoder", "random weights, seed 0", *BASELINES]
    assert found["about"]["seed"] == 3
    assert sorted(pickle.loads(files["pickle"].read_bytes())) == sorted(found["rows"][0]["four_numbers"])
    assert_one_sentence(run(capsys, "inspect", "correspondence", *flags), files["json"], "--overwrite")
    assert run(capsys, "inspect", "correspondence", *flags, "--overwrite")[1] == out


def test_entropy_is_measured_and_written_once(capsys, tones, encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIOSSL_CACHE", str(tmp_path / "cache"))
    files = {kind: tmp_path / f"found.{kind}" for kind in ("json", "csv", "pickle")}
    flags = ["--encoder", encoder, "--data.root", tones, "--random_seeds", "0"]
    flags += [part for kind, path in files.items() for part in (f"--{kind}", path)]
    code, out, err = run(capsys, "inspect", "attention", *flags)
    assert code == 0
    assert err.splitlines()[-2:] == ["inspect: encoder", "inspect: random weights, seed 0"]
    assert all(word in out for word in ("| stage 3, block 2 |", "random weights, seed 0", "clips of"))
    found = json.loads(files["json"].read_text())
    assert [len(blocks) for blocks in found["rows"].values()] == [8, 8]
    assert pickle.loads(files["pickle"].read_bytes()) == [block["heads"] for block in found["rows"]["encoder"]]
    assert_one_sentence(run(capsys, "inspect", "attention", *flags), files["json"], "--overwrite")
    assert run(capsys, "inspect", "attention", *flags, "--overwrite")[1] == out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["attention", "in.wav"], ["--encoder"]),
        (["attention", "in.wav", "--encoder", "nowhere"], ["nowhere"]),
        (["attention", "in.wav", "--encoder", "ENCODER", "--second", "3"], ["second=3", "outside"]),
        (["attention", "in.wav", "--encoder", "ENCODER", "--hz", "9000"], ["hz=9000", "outside"]),
        (["attention", "in.wav", "--encoder", "ENCODER", "-o", "page.txt"], ["-o page.txt"]),
        (["attention", "--encoder", "ENCODER", "--csv", "no/x.csv"], ["--csv no/x.csv", "no folder"]),
        (["attention", "--encoder", "ENCODER", "--data.roots", "x"], ["--data.roots"]),
        (["correspondence", "a", "b", "c", "--encoder", "ENCODER"], ["found 3"]),
        (["correspondence", "in.wav", "--encoder", "ENCODER", "--change.shift_s", "2"], ["--change.shift_s 2"]),
        (["correspondence", "in.wav", "--encoder", "ENCODER", "--change.shift", "2"], ["--change.shift"]),
        (["correspondence", "in.wav", "--encoder", "ENCODER", "--stage", "9"], ["--stage 9", "1 to 3"]),
        (["correspondence", "--encoder", "ENCODER", "--json", "no/x.json"], ["--json no/x.json", "no folder"]),
        (["correspondence", "--encoder", "ENCODER", "--data.roots", "x"], ["--data.roots"]),
    ],
)
def test_mistakes_with_an_encoder_are_one_sentence(capsys, clip, encoder, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    given = [encoder if argument == "ENCODER" else argument for argument in arguments]
    assert_one_sentence(run(capsys, "inspect", *given), *words)
    assert sorted(tmp_path.iterdir()) == before


def test_help_and_mistakes_come_without_torch():
    code = (
        "import sys\n"
        "from audiossl.cli import main\n"
        "for line in ('--help', '', 'frontends --help', 'views --help', 'frontends x --types y', 'views -o x.txt',\n"
        "    'attention --help', 'correspondence --help', 'attention x', 'correspondence x --encoder y -o x.txt'):\n"
        "    try: main(['inspect', *line.split()])\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'accelerate', 'sklearn', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
