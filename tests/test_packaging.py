"""What is shipped: sdist and wheel hold the whole package, and the wheel works away from the checkout."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# Made by tools or runs, never part of what is shipped.
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "runs", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis"
)


# The packages that stand at the top of the repository.
MAPPED = ("transforms", "recipes", "pretrained")


def read_setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def package_folders() -> dict[str, Path]:
    """Return the folder of each package that setup.cfg lists, found through its package map."""
    options = read_setup_cfg()["options"]
    mapped = dict(re.findall(r"(\S+) = (\S+)", options["package_dir"]))
    folders = {}
    for package in options["packages"].split():
        base = max((name for name in mapped if package == name or package.startswith(name + ".")), key=len)
        folders[package] = ROOT / mapped[base] / package.removeprefix(base).replace(".", "/").strip("/")
    return folders


def requirements(extras: tuple[str, ...] = ("speech", "dev")) -> list[Requirement]:
    parser = read_setup_cfg()
    lines = parser["options"]["install_requires"].splitlines()
    for extra in extras:
        lines += parser["options.extras_require"][extra].splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_every_package_folder_is_listed():
    # setuptools ships exactly the packages of the list: a forgotten one is missing from the wheel alone.
    with_code = {path.parent for top in ("audiossl", *MAPPED) for path in (ROOT / top).rglob("*.py")}
    assert set(package_folders().values()) == with_code


def test_constraints_pin_every_requirement_within_its_range():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {}
    for line in lines:
        name, _, version = line.partition("==")
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name), line
        assert re.fullmatch(r"[0-9][A-Za-z0-9.!]*", version), line  # no local builds, addresses, or options
        pins[canonicalize_name(name)] = version
    assert len(pins) == len(lines)
    for requirement in requirements():
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"{requirement.name} is not in constraints.txt: `make lock`"
        assert requirement.specifier.contains(pin), f"{requirement} does not admit the locked {pin}"


def test_espeak_is_only_ever_an_extra():
    # Its licence is GPL 3, the project's is Apache-2.0.
    required = {canonicalize_name(requirement.name) for requirement in requirements(extras=())}
    assert "torch" in required
    assert not any("espeak" in name for name in required)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build an sdist from a copy of the tree, and the wheel from that sdist."""
    tree = tmp_path_factory.mktemp("build") / "tree"
    shutil.copytree(ROOT, tree, ignore=NOT_SOURCE)
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        str(tree.parent / "dist"),
        str(tree),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    (sdist,) = (tree.parent / "dist").glob("*.tar.gz")
    (wheel,) = (tree.parent / "dist").glob("*.whl")
    return sdist, wheel


def test_wheel_holds_the_whole_package_and_nothing_else(shipped: tuple[Path, Path]):
    expected = set()
    for package, top in (("audiossl", "audiossl"), *((f"audiossl/{top}", top) for top in MAPPED)):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(f"{package}/{path.relative_to(ROOT / top).as_posix()}")
    with zipfile.ZipFile(shipped[1]) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_metadata(shipped: tuple[Path, Path]):
    with zipfile.ZipFile(shipped[1]) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("dist-info/METADATA"))
        (scripts,) = (archive.read(name).decode() for name in names if name.endswith("dist-info/entry_points.txt"))
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "\nName: audiossl-toolkit\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "audiossl = audiossl.cli:main" in scripts


def test_sdist_can_be_built_tested_and_read(shipped: tuple[Path, Path]):
    with tarfile.open(shipped[0]) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    top = [
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "constraints.txt",
        "pyproject.toml",
        "setup.cfg",
    ]
    assert set(top) | {".ci/run", ".ci/venv.sh", "docs/development.md", "tests/conftest.py"} <= found
    tests = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
    assert tests <= found


@pytest.fixture(scope="module")
def installed(shipped: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into a folder; its dependencies come from the environment of the tests."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", str(target), str(shipped[1])], check=True, timeout=120)
    return target


def run_away(installed: Path, folder: Path, *command: str) -> str:
    """Run a command in another folder, with the installed wheel first on the path; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def test_wheel_works_away_from_the_checkout(installed: Path, tmp_path: Path):
    code = """
import importlib, importlib.resources
for name in ["", ".transforms", ".recipes", ".pretrained", ".transforms.mel"]:
    print(importlib.import_module("audiossl" + name).__file__)
configs = importlib.resources.files("audiossl.recipes") / "configs"
for name in sorted(item.name for item in configs.iterdir()):
    print(name)
"""
    printed = run_away(installed, tmp_path, sys.executable, "-c", code).split("\n")[:-1]
    assert all(Path(line).is_relative_to(installed) for line in printed[:5]), printed
    assert printed[5:] == sorted(path.name for path in (ROOT / "recipes" / "configs").glob("*.yaml"))


def test_the_wheel_embeds_a_sound_without_being_told_a_model(installed: Path, tmp_path: Path):
    code = (
        "import numpy, audiossl; result = audiossl.featurize(numpy.zeros(16000), sample_rate=16000); "
        "print(result.embeddings.shape[0], result.meta['model'])"
    )
    assert run_away(installed, tmp_path, sys.executable, "-c", code).split() == ["1", "words"]


def test_console_script_of_the_wheel(installed: Path, tmp_path: Path):
    help_text = run_away(installed, tmp_path, sys.executable, str(installed / "bin" / "audiossl"), "--help")
    assert "featurize" in help_text
    assert "probe" in help_text
