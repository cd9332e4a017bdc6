"""The package's own code: nothing in it can run what a file holds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("audiossl", "transforms", "recipes", "pretrained")
FORBIDDEN_CALLS = {
    "eval": "runs text",
    "exec": "runs text",
    "os.system": "runs text",
    "os.popen": "runs text",
    "pickle.load": "runs what is in the file",
    "pickle.loads": "runs what is in the file",
    "pickle.Unpickler": "runs what is in the file",
    "joblib.load": "runs what is in the file",
    "marshal.load": "runs what is in the file",
    "marshal.loads": "runs what is in the file",
    "shelve.open": "runs what is in the file",
    "runpy.run_path": "runs a file",
    "yaml.load": "makes objects: read_yaml of audiossl.reading does not",
    "yaml.full_load": "makes objects",
    "yaml.unsafe_load": "makes objects",
    "yaml.Loader": "makes objects",
    "yaml.UnsafeLoader": "makes objects",
    "yaml.FullLoader": "makes objects",
    "torch.hub.load": "runs what it fetches",
    "np.memmap": "is for our own cache",
    "tarfile.TarFile.extractall": "trusts the members",
}
# (file, call): why it may stand there.
ALLOWED = {("audiossl/data/cached.py", "np.memmap"): "raw numbers of the cache, whose table has a checksum"}
# Modules are imported by name here, and the names are the package's own.
IMPORTS_BY_NAME = {
    "audiossl/__init__.py",
    "audiossl/compare/cells.py",
    "audiossl/data/__init__.py",
    "audiossl/doctor.py",
    "transforms/__init__.py",
    "transforms/frontend.py",
}


def offences(code: str, place: str = "") -> Iterator[str]:
    """Yield what is wrong in a file's code, with its line."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name, line = ast.unparse(node.func), f"{place}:{node.lineno}"
        given = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in FORBIDDEN_CALLS and (place, name) not in ALLOWED:
            yield f"{line} {name} {FORBIDDEN_CALLS[name]}"
        if name == "torch.load" and given.get("weights_only") != "True":
            yield f"{line} torch.load without weights_only=True"
        if name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
            yield f"{line} np.load with pickles"
        if "shell" in given:
            yield f"{line} {name} through a shell"
        if name.endswith(("import_module", "__import__")) and place not in IMPORTS_BY_NAME:
            yield f"{line} {name}: of a name that somebody gives?"
        if name.endswith("safe_globals") and place != "audiossl/reading_tensors.py":
            yield f"{line} {name}: what may be unpickled is decided in audiossl.reading_tensors"
        if name.endswith(".extractall"):
            yield f"{line} {name} trusts the members"


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "pickle.loads(x)",
        "eval(text)",
        "subprocess.run(words, shell=True)",
        "importlib.import_module(name)",
        "tar.extractall()",
        "torch.serialization.safe_globals([Any])",
    ],
)
def test_an_offence_is_seen(code):
    assert list(offences(code))


def test_what_is_harmless_is_no_offence():
    assert not list(offences("torch.load(p, weights_only=True); np.load(p); yaml.safe_load(t); model.eval(); run(w)"))


def test_nothing_in_the_package_can_run_what_a_file_holds():
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 150
    wrong = [text for path in files for text in offences(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())]
    assert not wrong, "\n".join(wrong)
