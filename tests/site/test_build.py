"""A small site, built as the large one is: menu, wide table, docstrings, and nothing from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
# What a browser fetches by itself; a link is followed by people.
FETCHED = re.compile(r'<(?:script|img|iframe|audio|video|source)\b[^>]*\bsrc="([^"]*)"|<link\b[^>]*\bhref="([^"]*)"')
WIDE = "| | " + " | ".join(map(str, range(9))) + " |\n|---|" + "---:|" * 9 + "\n| row |" + " 1.0 |" * 9 + "\n"
PAGES = {
    "index.md": "# Home\n\n## Begin\n\n- [First](first.md): one.\n\n## What was measured\n\n- [Losses](api/index.md)\n",
    "first.md": f"# First\n\n{WIDE}\n[Back](index.md#begin), as [code](../benchmarks/) and [text](../README.md) say.\n",
    "api/index.md": "# Losses\n\n```{modules}\naudiossl.losses.cosine\naudiossl.data.config\n```\n",
}


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    return subprocess.run([*command, str(source), str(target)], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of the pages, and that of the site."""
    source, target = tmp_path_factory.mktemp("pages"), tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS / "_site", source / "_site", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(DOCS / "conf.py", source)
    for name, text in PAGES.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(text)
    run = build(source, target)
    assert run.returncode == 0, run.stderr[-3000:]
    return source, target


def test_pages_load_nothing_from_elsewhere(site: tuple[Path, Path]):
    pages = list(site[1].rglob("*.html"))
    assert {"index.html", "first.html", "search.html"} <= {page.name for page in pages}
    for page in pages:
        fetched = [one or other for one, other in FETCHED.findall(page.read_text())]
        assert any(address.endswith(".css") for address in map(lambda url: url.partition("?")[0], fetched))
        assert not [address for address in fetched if re.match(r"([a-z]+:)?//", address)], page
    for style in site[1].rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text()), style


def test_the_menu_has_the_chapters_of_the_first_page(site: tuple[Path, Path]):
    text = (site[1] / "first.html").read_text()
    assert re.findall(r'class="caption-text">([^<]*)<', text)[:2] == ["Begin", "What was measured"]


def test_a_module_shows_docstrings_settings_and_code(site: tuple[Path, Path]):
    text = (site[1] / "api" / "index.html").read_text()
    assert 'id="audiossl.losses.cosine.cosine_loss"' in text
    assert "Hz; recordings of another rate are resampled." in text  # the comment at a field of DataConfig
    assert "&gt;&gt;&gt; " in text


def test_a_wide_table_stands_in_a_box_of_its_own(site: tuple[Path, Path]):
    assert re.search(r'<div class="table-wrapper[^"]*">\s*<table', (site[1] / "first.html").read_text())


def test_a_new_page_is_found_and_a_wrong_link_is_an_error(site: tuple[Path, Path]):
    source, target = site
    (source / "benchmarks.md").write_text("# Speed\n\n[Nowhere](gone.md)\n")
    run = build(source, target)
    assert run.returncode != 0
    assert "gone.md" in run.stderr
    assert "toctree" not in run.stderr  # it is in the menu all the same
    assert "Speed" in (target / "first.html").read_text() or "Speed" in (target / "index.html").read_text()
