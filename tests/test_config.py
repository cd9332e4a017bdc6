"""Flags, files and presets of one schema: precedence, round trip, and a sentence for every mistake."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import draccus
import pytest

from audiossl import config as config_files
from audiossl.config import flatten, load, parse, save
from audiossl.config_help import field_comments
from audiossl.errors import UserError
from audiossl.run.config import RunConfig


@dataclass
class View:
    """Sizes of the views."""

    size_s: float = 0.6  # seconds
    # what is done to the picture,
    # besides cutting it
    kind: Literal["crop", "mix"] = "crop"
    sizes: list[float] = field(default_factory=lambda: [0.5, 0.25])
    pair: tuple[int, int] = (1, 2)

    def __post_init__(self):
        if self.size_s <= 0:
            raise UserError(f"--view.size_s must be above 0, found {self.size_s}.")


@dataclass
class Config:
    """A recipe for tests."""

    lr: float = 1e-3  # learning rate
    version: str = "v1"
    root: str | None = None
    limit: int | None = None
    flip: bool = False
    view: View = field(default_factory=View)
    run: RunConfig = field(default_factory=lambda: RunConfig(out="runs/x", epochs=7))


@pytest.fixture
def presets(tmp_path, monkeypatch):
    folder = tmp_path / "recipes" / "configs"
    folder.mkdir(parents=True)
    (folder / "toy_small.yaml").write_text("lr: 0.5\nrun: {epochs: 2, batch_size: 8}\n")
    (folder / "other_big.yaml").write_text("lr: 9\n")
    monkeypatch.setattr(config_files.resources, "files", lambda package: tmp_path / "recipes")


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    return str(path)


def sentence(*argv: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(Config, "toy", list(argv))
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


@dataclass
class WithNone:
    """A choice that is called none, beside a value that may be missing."""

    activation: Literal["relu", "none"] = "relu"
    seed: Literal["fixed", "none"] | None = None


def test_a_choice_may_be_called_none(tmp_path):
    config = parse(WithNone, "toy", ["--activation", "none", "--seed", "none"])
    assert config == WithNone("none", "none")
    save(config, tmp_path / "config.yaml")
    assert load(WithNone, tmp_path / "config.yaml") == config
    with pytest.raises(UserError, match=r"activation must be relu\|none, found none"):
        parse(WithNone, "toy", ["--activation", "None"])


def test_defaults_are_those_of_the_dataclass():
    assert parse(Config, "toy", []) == Config()
    assert parse(Config, "toy", []).run.epochs == 7  # a section's default factory is kept, not its class's


def test_precedence_dataclass_preset_file_flag(tmp_path, presets):
    path = write(tmp_path, "run:\n  epochs: 3\n  seed: 4\n")
    both = parse(Config, "toy", ["--run.seed", "5", "--config", path, "--preset", "small"])
    assert (both.lr, both.run.batch_size, both.run.epochs, both.run.seed) == (0.5, 8, 3, 5)
    assert both.run.out == "runs/x"  # left as the recipe's own default


def test_a_recipe_may_take_a_preset_by_itself(presets, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    assert parse(Config, "toy", [], preset="small").lr == 0.5
    (Path(config_files.resources.files("")) / "configs" / "toy_big.yaml").write_text("run: {seed: 3}\n")
    named = parse(Config, "toy", ["--preset", "big"], preset="small")
    assert (named.lr, named.run.seed) == (1e-3, 3)  # the named one, not both
    with pytest.raises(SystemExit):
        parse(Config, "toy", ["--help"], preset="small")
    text = capsys.readouterr().out
    assert "big, small; without this flag and --config: small" in " ".join(text.split())
    assert "learning rate [0.5]" in text


def test_recipe_may_be_a_file(presets):
    assert parse(Config, "/some/where/toy.py", ["--preset", "small"]).lr == 0.5


@pytest.mark.parametrize(
    ("argv", "key", "value"),
    [
        (["--flip"], "flip", True),
        (["--flip", "true"], "flip", True),
        (["--flip=no"], "flip", False),
        (["--flip", "--lr", "1e-4"], "lr", 1e-4),
        (["--lr=-2"], "lr", -2.0),
        (["--lr", "-2"], "lr", -2.0),
        (["--version", "0.10"], "version", "0.10"),  # text stays as typed: not the number 0.1
        (["--version", "none"], "version", "none"),
        (["--root", "none"], "root", None),
        (["--root", "a b"], "root", "a b"),
        (["--limit", "none"], "limit", None),
        (["--limit", "7"], "limit", 7),
        (["--view.sizes", "0.1", "0.2"], "view.sizes", [0.1, 0.2]),
        (["--view.sizes", "0.1,0.2"], "view.sizes", [0.1, 0.2]),
        (["--view.sizes", "[0.1, 0.2]"], "view.sizes", [0.1, 0.2]),
        (["--run.trackers", "[]"], "run.trackers", []),
        (["--view.pair", "3", "4"], "view.pair", [3, 4]),
        (["--run.out", "2024-01-01"], "run.out", "2024-01-01"),
    ],
)
def test_flags(argv, key, value):
    assert flatten(parse(Config, "toy", argv))[key] == value


def test_round_trip(tmp_path):
    config = parse(Config, "toy", ["--view.pair", "3,4", "--root", "ü: #x", "--lr", "1e-7", "--view.sizes", "[]"])
    save(config, tmp_path / "config.yaml")
    assert load(Config, tmp_path / "config.yaml") == config
    assert parse(Config, "toy", ["--config", str(tmp_path / "config.yaml")]) == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_empty_file_is_the_defaults(tmp_path):
    assert load(Config, write(tmp_path, "# nothing yet\n")) == Config()


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--run.epoch", "3"], ["--run.epoch", "did you mean --run.epochs?"]),
        (["--epochs", "3"], ["did you mean --run.epochs?"]),
        (["--run.epochs", "many"], ["--run.epochs", "int", "'many'"]),
        (["--run.epochs", "2.5"], ["--run.epochs", "int", "2.5"]),
        (["--run.epochs", "true"], ["--run.epochs", "int", "True"]),
        (["--run.epochs", "0"], ["--run.epochs", "at least 1"]),
        (["--run.epochs"], ["--run.epochs", "needs a value"]),
        (["--run.epochs", "1", "2"], ["--run.epochs", "1 2"]),
        (["--lr", "[1]"], ["--lr", "float"]),
        (["--lr", "none"], ["--lr", "float", "none"]),
        (["--flip", "perhaps"], ["--flip", "true|false", "perhaps"]),
        (["--view.kind", "crp"], ["--view.kind", "crop|mix", "did you mean crop?"]),
        (["--view.pair", "1"], ["--view.pair"]),
        (["--view.size_s", "-1"], ["--view.size_s must be above 0"]),
        (["--view", "3"], ["--view"]),
        (["word"], ["'word'"]),
        (["--preset", "small"], ["--preset small", "it has none"]),
        (["--preset"], ["--preset"]),
        (["--config", "/no/such.yaml"], ["/no/such.yaml", "No such file"]),
    ],
)
def test_wrong_flags(argv, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(config_files.resources, "files", lambda package: tmp_path)
    text = sentence(*argv)
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("lr: 1\nrun:\n  epoch: 3\n", ["my.yaml line 3", "run.epoch", "did you mean run.epochs?"]),
        ("lr: fast\n", ["my.yaml line 1", "lr", "float", "'fast'"]),
        ("\n\nview: {kind: none}\n", ["my.yaml line 3", "view.kind"]),
        ("run: 3\n", ["my.yaml line 1", "run", "section"]),
        ("lr: 1\nlr: 2\n", ["my.yaml line 2", "twice"]),
        ("lr: [1\n", ["my.yaml line", "not YAML"]),
        ("- 1\n", ["my.yaml line 1", "keys and values"]),
        ("lr: {a: 1}\n", ["my.yaml line 1", "lr.a"]),
        ("view:\n  size_s: 0\n", ["my.yaml line 2", "--view.size_s must be above 0"]),
        ("lr: !!python/object:os.system {}\n", ["my.yaml"]),
        ("version: [1, 2]\n", ["my.yaml line 1", "version"]),
        ("run:\n", ["my.yaml line 1", "run"]),
    ],
)
def test_wrong_files(tmp_path, text, parts):
    found = sentence("--config", write(tmp_path, text))
    for part in parts:
        assert part in found


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xff\xfe\x00lr")
    assert "not UTF-8" in sentence("--config", str(path))
    assert "directory" in sentence("--config", str(tmp_path)).lower()


def test_unknown_preset_names_the_known_ones(presets):
    assert "it has small" in sentence("--preset", "large")


def test_required_field():
    @dataclass
    class Needs:
        root: str

    with pytest.raises(UserError, match="--root is required"):
        config_files.build(Needs, [])


def test_comments_behind_and_above_fields():
    assert field_comments(View)["size_s"] == "seconds"
    assert field_comments(View)["kind"] == "what is done to the picture, besides cutting it"
    assert field_comments(Config)["version"] == ""
    assert all(field_comments(RunConfig).values()), "every flag of the run is explained"


def test_help_lists_every_flag_with_its_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        parse(Config, "toy", ["--run.nonsense", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for key, value in flatten(Config()).items():
        assert f"--{key} " in text
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert f"[{value}]" in text
    assert "view: Sizes of the views." in text
    assert max(map(len, text.splitlines())) <= 100


def test_reading_flags_needs_no_torch():
    code = "import sys; from audiossl.config import parse; from audiossl.run.config import RunConfig; "
    code += "parse(RunConfig, 'x', []); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@dataclass
class Shape(draccus.ChoiceRegistry):
    """A section of several types."""

    size: int = 1


@Shape.register_subclass("square")
@dataclass
class Square(Shape):
    """Equal sides."""

    tilted: bool = False  # stands on a corner


@Shape.register_subclass("bars")
@dataclass
class Bars(Shape):
    """Parallel bars."""

    widths: list[float] = field(default_factory=lambda: [1.0])


@dataclass
class WithTypes:
    """A recipe with a section of several types."""

    shape: Shape = field(default_factory=Square)


def test_a_type_is_chosen_by_flag_and_has_its_own_keys(tmp_path):
    assert parse(WithTypes, "recipe", []).shape == Square()
    assert parse(WithTypes, "recipe", ["--shape.tilted"]).shape == Square(tilted=True)
    config = parse(WithTypes, "recipe", ["--shape.widths", "1,2", "--shape.type", "bars", "--shape.size=3"])
    assert config.shape == Bars(size=3, widths=[1.0, 2.0])
    save(config, tmp_path / "c.yaml")
    assert load(WithTypes, tmp_path / "c.yaml") == config
    assert flatten(config)["shape.type"] == "bars"


def test_what_a_file_says_of_another_type_is_dropped(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("shape:\n  type: square\n  tilted: true\n  size: 5\n")
    assert parse(WithTypes, "recipe", ["--config", str(path)]).shape == Square(size=5, tilted=True)
    assert parse(WithTypes, "recipe", ["--config", str(path), "--shape.type", "bars"]).shape == Bars(size=5)


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--shape.type", "bars", "--shape.tilted"], ["--shape.tilted", "shape.type bars has no tilted", "widths"]),
        (["--shape.widths", "1"], ["--shape.widths"]),
        (["--shape.type", "bar"], ["square|bars", "did you mean bars?"]),
        (["--shape", "bars"], ["--shape"]),
    ],
)
def test_wrong_types(argv, parts):
    with pytest.raises(UserError) as caught:
        parse(WithTypes, "recipe", argv)
    assert all(part in str(caught.value) for part in parts)


def test_help_shows_the_keys_of_the_chosen_type(capsys):
    for argv, shown, hidden in ([], "--shape.tilted", "--shape.widths"), (["--shape.type", "bars"], "widths", "tilted"):
        with pytest.raises(SystemExit):
            parse(WithTypes, "recipe", [*argv, "--help"])
        text = capsys.readouterr().out
        assert "One of square, bars." in text
        assert shown in text
        assert hidden not in text
