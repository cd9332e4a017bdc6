"""Who may import whom, what may be opened where, how long a file and a function may get."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Where each package of the wheel stands in the checkout.
FOLDERS = {
    "audiossl": ROOT / "audiossl",
    "audiossl.transforms": ROOT / "transforms",
    "audiossl.recipes": ROOT / "recipes",
    "audiossl.pretrained": ROOT / "pretrained",
}
# A part imports parts of lower layers, or of its own. A new part must be given its place here.
LAYERS = (
    {"errors"},
    {
        "transforms",
        "losses",
        "heads",
        "backbones",
        "schedules",
        "audio",
        "pretrained",
        "whole_folder",
        "reading",
        "reading_tar",
    },
    {
        "bag",
        "bag_config",
        "hub",
        "installed",
        "config",
        "config_help",
        "config_sources",
        "optim",
        "data",
        "methods",
        "reading_tensors",
    },
    {"encoder", "encoder_files", "released", "released_byola", "model_card", "embeddings"},
    {
        "run",
        "probes",
        "explain",
        "map",
        "embed",
        "featurize",
        "hear",
        "search",
        "search_index",
        "upstream",
        "sklearn",
        "check",
        "classifier",
        "classifier_files",
        "export",
        "predict",
    },
    {
        "compare",
        "recipes",
        "__main__",
        "cli",
        "cli_cleanup",
        "cli_completion",
        "cli_export",
        "cli_featurize",
        "cli_inspect",
        "cli_inspect_encoder",
        "cli_map",
        "cli_predict",
        "cli_probe",
        "cli_search",
        "doctor",
    },
)
LAYER = {part: height for height, parts in enumerate(LAYERS) for part in parts}
# Of audiossl, these import nothing but the errors: they can be read and used alone.
LEAVES = LAYERS[1]
# Third-party modules that only some files may import (a folder ends in "/").
ONLY_IN = {
    "accelerate": {"run/", "recipes/", "embed/corpus.py"},
    "matplotlib": {"explain/", "run/report.py", "run/curves.py", "run/pictures.py"},
    "bokeh": {"map/"},
    "numba": {"transforms/view_kernel.py"},  # imported where a CPU makes two views, and not before
    "llvmlite": {"transforms/view_kernel.py", "transforms/lanes.py"},
    "umap": {"map/"},
    "soundfile": {"audio.py"},
    "soxr": {"audio.py"},
    "onnx": {"export/"},
    "onnxruntime": {"export/"},
    "datasets": {"data/hub.py", "data/hub_rows.py", "embeddings.py"},
    **{
        network: {"hub.py", "data/download.py"}
        for network in (
            "requests",
            "urllib.request",
            "http",
            "httpx",
            "socket",
            "ftplib",
            "pooch",
            "huggingface_hub",
        )
    },
}
EXCEPTIONS = {
    ("export/listen.py", "soundfile"): "a program that is copied beside an exported model, where audiossl is not",
    ("export/listen.py", "soxr"): "a program that is copied beside an exported model, where audiossl is not",
    ("data/config.py", "pooch"): "only os_cache: where this platform keeps caches",
}
# Longer than the house wants, and why that reads better than cutting it up.
LONG: dict[str, str] = {
    "audio.py": "the only place that opens audio files: what is read, in which parts, and what may be wrong with it",
    "run/session.py": "the loop's contract in one place; its parts (state, recorder, clock ...) are files of their own",
    "featurize.py:featurize": "what most people call: its docstring says all that may be given",
}
MAX_FILE, MAX_FUNCTION = 350, 60


@dataclass(frozen=True)
class Import:
    """One imported name, made absolute: does the file's own import run it, and was it written relatively?"""

    module: str
    line: int
    top_level: bool
    relative: bool


@dataclass(frozen=True)
class Source:
    """One file of the package: `place` is its path inside it, `part` the first name below audiossl."""

    path: Path
    place: str
    module: str
    is_package: bool

    @property
    def part(self) -> str:
        """The name by which the layers know this file."""
        names = self.module.split(".")
        return names[1] if len(names) > 1 else ""

    def imports(self) -> list[Import]:
        """Return all imports of the file, except those for type checkers alone."""
        return list(walk_imports(ast.parse(self.path.read_text()), self.module, self.is_package))


def walk_imports(tree: ast.AST, module: str, is_package: bool, top_level: bool = True) -> Iterator[Import]:
    """Yield the imports below `tree`; of `from a import b`, a.b as well, since b may be a module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(name.name, node.lineno, top_level, False)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_package else module.split(".")[:-1]
                parents = parents[: len(parents) - (node.level - 1)]
                base = ".".join([*parents, base] if base else parents)
            for name in node.names:
                yield Import(f"{base}.{name.name}", node.lineno, top_level, node.level > 0)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from walk_imports(node, module, is_package, top_level and not inside)


def sources() -> list[Source]:
    """Return every Python file of the package, under the name by which it is imported."""
    found = []
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            names = list(path.relative_to(folder).with_suffix("").parts)
            is_package = names[-1] == "__init__"
            module = ".".join([package, *(names[:-1] if is_package else names)])
            inside = "" if package == "audiossl" else package.removeprefix("audiossl.") + "/"
            found.append(Source(path, inside + path.relative_to(folder).as_posix(), module, is_package))
    return found


SOURCES = sources()


def is_in(place: str, places: set[str]) -> bool:
    return any(place.startswith(item) if item.endswith("/") else place == item for item in places)


def is_module(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def test_imports_are_read_as_python_reads_them():
    code = """
import torch
from . import a
from ..b import c
if TYPE_CHECKING:
    import hidden
def f():
    from accelerate.utils import d
class C:
    import kept
"""
    found = list(walk_imports(ast.parse(code), "audiossl.run.session", is_package=False))
    assert [(item.module, item.top_level, item.relative) for item in found] == [
        ("torch", True, False),
        ("audiossl.run.a", True, True),
        ("audiossl.b.c", True, True),
        ("accelerate.utils.d", False, False),
        ("kept", True, False),
    ]
    (inside_package,) = walk_imports(ast.parse("from .x import y"), "audiossl.run", is_package=True)
    assert inside_package.module == "audiossl.run.x.y"


def test_every_file_is_seen():
    places = {source.place for source in SOURCES}
    assert {
        "__init__.py",
        "errors.py",
        "run/session.py",
        "transforms/mel.py",
        "recipes/__init__.py",
    } <= places


def imports_of_parts() -> Iterator[tuple[Source, str, str]]:
    """Yield (file, part that it imports, where it does so) for each import of another part of audiossl."""
    for source in SOURCES:
        for item in source.imports():
            if source.part and is_module(item.module, "audiossl"):
                part = [*item.module.split("."), ""][1]
                if part not in ("", "__version__", source.part):
                    yield source, part, f"{source.place}:{item.line} imports {item.module}"


def test_every_part_has_its_place():
    assert {source.part for source in SOURCES} - {""} <= set(LAYER), "give new parts their place in LAYERS"


def test_imports_go_down():
    wrong = []
    for source, part, where in imports_of_parts():
        if source.part in LEAVES and part != "errors":
            wrong.append(f"{where}, but {source.part} may import only the errors")
        elif LAYER.get(part, 0) > LAYER.get(source.part, 0):
            wrong.append(f"{where}, which is above it")
    assert not wrong, "\n".join(wrong)


def test_third_party_modules_stay_where_they_belong():
    wrong = []
    for source in SOURCES:
        for item in source.imports():
            for module, places in ONLY_IN.items():
                allowed = is_in(source.place, places) or (source.place, module) in EXCEPTIONS
                if is_module(item.module, module) and not allowed:
                    who = ", ".join(sorted(places))
                    wrong.append(f"{source.place}:{item.line} imports {item.module}: only {who} may")
    assert not wrong, "\n".join(wrong)


def test_torchaudio_and_torchvision_are_imported_lazily():
    # Both fail at import beside a torch that they were not built for: only who asks for them shall notice.
    wrong = []
    for source in SOURCES:
        for item in source.imports():
            if item.top_level and item.module.split(".")[0] in {"torchaudio", "torchvision"}:
                wrong.append(f"{source.place}:{item.line} imports {item.module} at top level")
    assert not wrong, "\n".join(wrong)


def test_what_numba_compiles_is_imported_lazily():
    importers = {
        (source.place, name, item.top_level)
        for source in SOURCES
        for item in source.imports()
        for name in ("fused_views", "view_kernel", "lanes")
        if is_module(item.module, f"audiossl.transforms.{name}")
    }
    assert importers == {
        ("transforms/two_views.py", "fused_views", False),
        ("transforms/fused_views.py", "view_kernel", True),
        ("transforms/fused_views.py", "lanes", True),
        ("transforms/view_kernel.py", "lanes", True),
    }


def test_transforms_need_only_torch_numpy_and_the_registry():
    wrong = []
    for source in SOURCES:
        for item in source.imports() if source.part == "transforms" else []:
            first = item.module.split(".")[0]
            relative = item.relative or is_module(item.module, "audiossl.errors")
            known = first in {"torch", "numpy", "nnAudio", "draccus"} or first in sys.stdlib_module_names
            known = known or (first in {"numba", "llvmlite"} and is_in(source.place, ONLY_IN[first]))
            if not relative if first == "audiossl" else item.top_level and not known:
                wrong.append(f"{source.place}:{item.line} imports {item.module}")
    assert not wrong, "\n".join(wrong)


def test_exceptions_are_still_needed():
    by_place = {source.place: source for source in SOURCES}
    for place, module in EXCEPTIONS:
        assert any(is_module(item.module, module) for item in by_place[place].imports()), (place, module)


def lengths() -> Iterator[tuple[str, int, int]]:
    """Yield (name, lines, lines allowed) of each file, and of each function as `file:function`."""
    for source in SOURCES:
        text = source.path.read_text()
        yield source.place, len(text.splitlines()), MAX_FILE
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                yield f"{source.place}:{node.name}", node.end_lineno - node.lineno + 1, MAX_FUNCTION


def test_files_and_functions_are_short():
    long = {name: f"{name}: {lines} lines, {most} at most" for name, lines, most in lengths() if lines > most}
    assert set(LONG) <= set(long), "no longer long: take it out of LONG"
    assert not set(long) - set(LONG), "\n".join(long[name] for name in sorted(set(long) - set(LONG)))


def modules_loaded_by(*modules: str) -> set[str]:
    """Import the modules in a fresh process, and return what that brought along."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules, sep=chr(10))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(run.stdout.split())


def test_importing_audiossl_does_not_import_torch():
    loaded = modules_loaded_by("audiossl")
    assert "audiossl" in loaded
    assert not loaded & {"torch", "numpy", "timm", "accelerate", "matplotlib", "datasets"}


def test_configurations_do_not_import_torch():
    # `--help` and a wrong flag shall answer at once.
    configs = [source.module for source in SOURCES if source.module.endswith(".config")]
    assert "audiossl.config" in configs
    loaded = modules_loaded_by(*configs)
    assert not loaded & {"torch", "timm", "accelerate", "librosa", "sklearn", "matplotlib", "datasets"}
