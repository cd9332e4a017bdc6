"""The site that `make docs` builds from these pages: Sphinx, MyST for Markdown, furo for the looks.

The pages stay plain Markdown that can be read where they lie. What the site needs besides is in `_site/`: `navigation`
makes the menu from the lists of index.md, `reference` the API pages from docstrings. Nothing is fetched: fonts are the
reader's own, search runs in the browser, and no other project's index is asked for.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for _site

from audiossl import __version__  # noqa: E402

project = "audiossl"
author = "The audiossl maintainers"
project_copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "_site.navigation", "_site.reference"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_site"]
root_doc = "index"

# As on the pages' other home: a heading's anchor is its text in small letters, with - for spaces.
myst_heading_anchors = 4
highlight_language = "none"
smartquotes = False  # they would make one dash of the two of a flag
# What docstrings name of ours must stand on a page; types in signatures lead on where they do.
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*"), ("py:.*", r"(?!audiossl\.).*")]
suppress_warnings = ["ref.python"]  # a type's name that two modules have
pygments_style = "friendly"
pygments_dark_style = "github-dark"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"audiossl {__version__}"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
