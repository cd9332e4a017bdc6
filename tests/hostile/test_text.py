"""What people write by hand, and others may send them: YAML, JSON, tables, with everything in it that text can hold."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from audiossl.recipes.esvit_speechcommands import Config
from fuzzing.models import small_encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiossl.config import parse
from audiossl.data import DataConfig, open_clips
from audiossl.embed.sources import find_items
from audiossl.encoder import load_model
from audiossl.errors import UserError
from audiossl.reading import YAML_BYTES, parse_json, parse_yaml

SETTINGS = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
)


def refused_or_done(call, *arguments, **named):
    """Call; a declared error is as good as a result, and any other one fails the test."""
    try:
        return call(*arguments, **named)
    except UserError as error:
        return str(error)


def read_config(path):
    return parse(Config, "esvit_speechcommands", ["--config", str(path)])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "aliases stand for more than"),
        (LAUGHS.replace("[", "{? ").replace("]", "}"), "config.yaml"),
        ("a: &a {b: *a}", "aliases stand for more than"),
        ("[" * 100_000, "nested too deeply"),
        ("a: " * 100_000, "config.yaml"),
        ("run: {epochs: 3, epochs: 4}", "stands twice"),
        ("run: !!timestamp 2024-99-99", "config.yaml"),
        ("run: !!set [1]", "config.yaml"),
        ("run: !!int ten", "config.yaml"),
        ("? [1, 2]\n: 3", "config.yaml"),
        ("run:\n  epochs: \x1b[2J", r"config.yaml"),
    ],
    ids=range(11),
)
def test_a_configuration_is_refused_in_one_line(tmp_path, text, words):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_config(tmp_path / "config.yaml")
    said = str(caught.value)
    assert words in said
    assert said.isprintable()
    assert len(said) < 2100


def test_a_configuration_of_megabytes_is_not_read(tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1 # " + "x" * YAML_BYTES)
    with pytest.raises(UserError, match="bytes are no settings"):
        read_config(tmp_path / "config.yaml")


@settings(SETTINGS, max_examples=10)
@given(VALUES)
def test_any_value_in_yaml_is_read_or_refused(tmp_path, value):
    text = json.dumps(value)
    (tmp_path / "config.yaml").write_text(text)
    refused_or_done(read_config, tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text(f"run: {text}\nviews: {text}\nfrontend: {{type: {text}}}")
    refused_or_done(read_config, tmp_path / "config.yaml")


@SETTINGS
@given(st.text(max_size=200))
def test_any_text_is_json_or_yaml_or_a_value_error(text):
    for read in (parse_json, parse_yaml):
        with contextlib.suppress(ValueError):
            read(text)


def test_numbers_of_hundreds_of_digits_become_floats():
    assert parse_json(f'{{"a": 1{"0" * 400}, "b": 7}}') == {"a": float("inf"), "b": 7}


@SETTINGS
@given(st.text(max_size=300), st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_any_text_is_a_manifest_or_refused(text, ending):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"list{ending}"
        for content in (text, f"path,label\n{text}", f"path\tlabel\n{text}", json.dumps({"path": text})):
            path.write_bytes(content.encode("utf-8", "surrogatepass"))
            refused_or_done(find_items, path)
            if ending == ".csv":
                refused_or_done(open_clips, DataConfig(root=str(path)))


@pytest.mark.parametrize(
    "content", [b"\xff\xfep\0a\0", b"\xef\xbb\xbf", b"path\n\0\n", b"path\n\xe9.wav\n", b"\0" * 1000]
)
@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.jsonl", "list.parquet", "validation_list.txt"])
def test_tables_in_other_encodings_are_told(tmp_path, sounds, name, content):
    (tmp_path / name).write_bytes(content)
    if name.endswith(".txt"):
        (tmp_path / "testing_list.txt").write_text("a.wav\n")
        (tmp_path / "a.wav").write_bytes(sounds)
        said = refused_or_done(open_clips, DataConfig(name="folder", root=str(tmp_path)))
    else:
        said = refused_or_done(find_items, tmp_path / name)
    assert not isinstance(said, str) or name in said


@pytest.fixture
def sounds():
    from fuzzing.sounds import encoded

    return encoded("wav")


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.jsonl"])
def test_a_line_of_ten_megabytes_is_told(tmp_path, name):
    (tmp_path / name).write_text("path\n" + "x" * 10_000_000)
    said = refused_or_done(find_items, tmp_path / name)
    assert name in said
    assert len(said) < 2100


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model") / "encoder"
    small_encoder().save_pretrained(place)
    return place


@SETTINGS
@given(st.sampled_from(["frontend", "backbone", "clip_s", "format", "statistics_of", "bag"]), VALUES, st.data())
def test_any_value_in_an_encoders_settings_is_taken_or_refused(encoder, key, value, data):
    config = json.loads((encoder / "config.json").read_text())
    changed = json.loads(json.dumps(config))
    if isinstance(changed.get(key), dict) and data.draw(st.booleans()):
        changed[key][data.draw(st.sampled_from(sorted(changed[key])))] = value
    else:
        changed[key] = value
    (encoder / "config.json").write_text(json.dumps(changed))
    said = refused_or_done(load_model, encoder)
    (encoder / "config.json").write_text(json.dumps(config))
    assert not isinstance(said, str) or "encoder" in said
