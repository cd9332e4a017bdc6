"""Pages on disk: one self-contained HTML file that loads nothing, written beside and then renamed.

The content policy forbids every fetch; pictures and sounds are data in the page, and the only script that may run
is the one that the page was written with, known to the browser by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from audiossl.errors import UserError

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"


def write_page(path: Path, title: str, body: str, style: str = "", script: str = "") -> Path:
    """Write a page with the look of report.html, and return its path.

    Args:
        path: of the page; an existing one is replaced.
        title: of the window.
        body: HTML.
        style: further CSS rules.
        script: JavaScript, run once the page is there.

    Raises:
        UserError: the page cannot be written.
    """
    policy, running = POLICY, ""
    if script:
        code = f"\n{script.strip()}\n"
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        policy = f"{POLICY}; script-src 'sha256-{digest}'"
        running = f"<script>{code}</script>"
    template = resources.files("audiossl.run").joinpath("report_page.html").read_text("utf-8")
    text = Template(template).substitute(title=escape(title), body=body, style=style, script=running, policy=policy)
    try:
        replace(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): make room or choose another folder.") from error
    return path


def replace(path: Path, text: str) -> None:
    """Write text beside `path`, then give it that name; raises OSError."""
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
