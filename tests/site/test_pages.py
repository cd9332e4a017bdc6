"""What the site is made of: a menu that names every page, modules that are not forgotten, flags that exist."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

from audiossl.config import leaves_of_all_types

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# Every module of these is on a page of the reference; what only holds names for others is not.
WHOLE = {
    "audiossl.transforms": ROOT / "transforms",
    "audiossl.losses": ROOT / "audiossl" / "losses",
    "audiossl.methods": ROOT / "audiossl" / "methods",
    "audiossl.backbones": ROOT / "audiossl" / "backbones",
}
INSIDE = {
    "audiossl.transforms.config",  # names of the four config_* modules
    "audiossl.transforms.picture_cache",
    "audiossl.transforms.fused_views",
    "audiossl.transforms.lanes",
    "audiossl.transforms.view_kernel",
    "audiossl.methods.misfits",
    "audiossl.backbones.depths",
    "audiossl.backbones.narrow_maps",
}
RECIPES = ("esvit", "emp_ssl", "byol", "contrastive", "supervised")
FLAG = re.compile(r"--((?:data|wave|frontend|views|backbone|bag|method|optim|run|probe|finetune)\.\w+)")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch):
    """Import a module of docs/_site as the build does."""
    monkeypatch.syspath_prepend(str(DOCS))
    return lambda name: importlib.import_module(f"_site.{name}")


@pytest.mark.parametrize("name", ["navigation", "docstrings", "reference"])
def test_examples_in_the_site_run(site, name: str):
    outcome = doctest.testmod(site(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("folder", [DOCS, DOCS / "api"], ids=["docs", "api"])
def test_the_lists_name_pages_that_are_there(site, folder: Path):
    named = [
        page for entries in site("navigation").chapters((folder / "index.md").read_text()).values() for page in entries
    ]
    assert len(named) == len(set(named)), "a page stands in the menu twice"
    missing = [page for page in named if not (folder / f"{page}.md").is_file()]
    assert not missing


def test_a_page_that_no_list_names_joins_what_was_measured(site):
    menu = site("navigation").menu((DOCS / "index.md").read_text(), ["quickstart", "made_up"])
    assert "made_up" in menu["What was measured"]
    assert sum("quickstart" in entries for entries in menu.values()) == 1


def test_the_menu_is_read_as_chapters(site):
    text = "# Top\n\n## One\n\n- [A](a.md): first\n"
    assert site("navigation").with_menu(text, ["a"]) == (
        "# Top\n\n## One\n\n- [A](a.md): first\n\n```{toctree}\n:hidden:\n:caption: One\n\na\n```\n"
    )


def test_the_reference_forgets_no_module(site):
    listed = [name for page in (DOCS / "api").glob("*.md") for name in site("reference").modules_of(page.read_text())]
    assert len(listed) == len(set(listed)), "a module stands on two pages"
    there = {
        f"{package}.{path.stem}"
        for package, folder in WHOLE.items()
        for path in folder.glob("*.py")
        if path.stem != "__init__"
    }
    assert there - set(listed) == INSIDE, "give new modules a page in docs/api, or a reason not to in INSIDE"


def test_settings_become_a_table_with_their_reasons(site):
    from audiossl.methods.contrastive import ContrastiveConfig

    table = "\n".join(site("reference").settings(ContrastiveConfig))
    assert "   * - ``temperature``\n     - ``0.1``\n     - What cosines are divided by." in table
    assert "   * - ``hidden_dim``, ``projection_dim``\n     - ``1024``, ``128``\n" in table  # a comment for both


def known_flags() -> set[str]:
    """The flags of all recipes, front ends and kinds of views, without their dashes."""
    found: set[str] = set()
    for recipe in [*(f"{name}_speechcommands" for name in RECIPES), "finetune"]:
        config = importlib.import_module(f"audiossl.recipes.{recipe}").Config
        found |= set(leaves_of_all_types(config)) | {"frontend.type"}
    return found


def test_flags_that_pages_name_exist():
    known = known_flags()
    wrong = [
        f"{page.relative_to(ROOT)}: --{flag}"
        for page in PAGES
        for flag in FLAG.findall(page.read_text())
        if flag not in known
    ]
    assert not wrong
