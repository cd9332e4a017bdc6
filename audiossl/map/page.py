"""The page: points, panels, pictures and sounds in one HTML file, or in a folder with pictures and sounds beside it.

Nothing is fetched: Bokeh's JavaScript comes from the installed package and stands in the page. The content policy lets
only the scripts run that the page was written with, known by their hashes. They may evaluate text ('unsafe-eval'),
since Bokeh's WebGL compiles its drawing commands so; what comes from data is JSON, and is put in as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import IO, Any

import numpy as np

from audiossl.embeddings import written
from audiossl.map.media import EACH, SOUNDS, Media
from audiossl.map.panels import Frame, Panel
from audiossl.map.points import Column, Points
from audiossl.map.projections import NAMES, preserved_k
from audiossl.whole_folder import written_whole

LIBRARY = ("bokeh.min.js", "bokeh-gl.min.js", "bokeh-api.min.js")
OWN = ("data.js", "colours.js", "plots.js", "card.js", "facets.js", "table.js", "start.js")
FOLDER = ("index.html", "pictures", "sounds")  # what a folder's map consists of


@dataclass(frozen=True)
class Map:
    """All that a page shows; `start` is the point that it opens at, -1 for none."""

    title: str
    about: str
    points: Points
    panels: list[Panel]
    start: int = -1


def write_page(path: Path, shown: Map, media: Media, progress: Callable[[int], object]) -> None:
    """Write one HTML file with everything inside; `progress` is told how many points are done.

    Raises UserError when it cannot be written; an older file is there until the new one is whole.
    """
    with written(path) as part, part.open("w", encoding="utf-8") as file:
        _head(file, shown)
        for block in media.blocks(progress):
            _block(file, f"pictures-{block.first // EACH}", "text/plain", base64.b64encode(block.sheet).decode())
            for start in range(0, len(block.sounds), SOUNDS):
                coded = [_base64(sound) for sound in block.sounds[start : start + SOUNDS]]
                _block(file, f"sounds-{(block.first + start) // SOUNDS}", "application/json", json.dumps(coded))
        _block(file, "page", "application/json", _json(contents(shown, media.described(folder=False))))
        _scripts(file)


def write_folder(place: Path, shown: Map, media: Media, progress: Callable[[int], object]) -> None:
    """Write index.html with pictures/ and sounds/ beside it; it opens by a double-click.

    Raises UserError when it cannot be written; an older folder is there until the new one is whole.
    """
    with written_whole(place, FOLDER) as folder:
        (folder / "pictures").mkdir()
        for block in media.blocks(progress):
            (folder / "pictures" / f"{block.first // EACH:03d}.png").write_bytes(block.sheet)
            for n, sound in enumerate(block.sounds, block.first):
                if sound is not None:
                    beside = folder / "sounds" / f"{n:06d}"[:3] / f"{n:06d}.{media.suffix}"
                    beside.parent.mkdir(parents=True, exist_ok=True)
                    beside.write_bytes(sound)
        with (folder / "index.html").open("w", encoding="utf-8") as file:
            _head(file, shown)
            _block(file, "page", "application/json", _json(contents(shown, media.described(folder=True))))
            _scripts(file)


# ------------------------------------------------------------------------------------------------ the document


def _head(file: IO[str], shown: Map) -> None:
    own = resources.files("audiossl.map")
    template = Template(own.joinpath("map.html").read_text("utf-8"))
    file.write(
        template.substitute(
            title=escape(shown.title),
            about=escape(shown.about),
            style=own.joinpath("map.css").read_text("utf-8"),
            policy=_policy(),
            n_panels=len(shown.panels),
        )
    )


def _block(file: IO[str], name: str, kind: str, text: str) -> None:
    """Data that the page reads when it is needed; neither kind can run."""
    file.write(f'<script type="{kind}" id="{name}">{text}</script>\n')


def _scripts(file: IO[str]) -> None:
    for code in scripts():
        file.write(f"<script>{code}</script>\n")
    file.write("</body>\n</html>\n")


def scripts() -> list[str]:
    """The library's scripts, and the page's own as one."""
    import bokeh

    library = Path(str(bokeh.__file__)).parent / "server" / "static" / "js"
    own = resources.files("audiossl.map")
    code = "\n".join(own.joinpath(name).read_text("utf-8") for name in OWN)
    return [*((library / name).read_text("utf-8") for name in LIBRARY), f'"use strict";\n(() => {{\n{code}\n}})();\n']


def _policy() -> str:
    hashes = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in scripts()]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self' file:; media-src data: 'self' file:; "
        f"script-src 'unsafe-eval' {allowed}"
    )


# ------------------------------------------------------------------------------------------------ what stands in it


def contents(shown: Map, media: dict[str, Any]) -> dict[str, Any]:
    """The page's data as plain values; arrays are little-endian bytes in base64."""
    columns = [_column(column) for column in shown.points.columns]
    kinds = list(shown.panels[0].frames[0].projections)
    return {
        "names": shown.points.names,
        "columns": columns,
        "panels": [{"name": panel.name, "frames": [_frame(frame) for frame in panel.frames]} for panel in shown.panels],
        "projections": kinds,
        "titles": {kind: NAMES[kind] for kind in kinds},
        "preserved_k": preserved_k(len(shown.points)),
        "media": media,
        "start": shown.start,
    }


def _column(column: Column) -> dict[str, Any]:
    if column.texts is None:
        return {"name": column.name, "unit": column.unit, "numbers": _packed(np.asarray(column.numbers, "<f4"))}
    values = ["", *sorted({text for text in column.texts if text is not None})]
    number = {text: n for n, text in enumerate(values)}
    codes = np.array([0 if text is None else number[text] for text in column.texts])
    return {"name": column.name, "values": values, "codes": _codes(codes, len(values))}


def _codes(codes: np.ndarray, n_values: int) -> dict[str, str]:
    return _packed(codes.astype("<u1" if n_values <= 256 else "<u2" if n_values <= 65536 else "<i4"))


def _frame(frame: Frame) -> dict[str, Any]:
    projections = {
        kind: {
            "xy": _packed(found.xy.astype("<f4")),
            "about": found.about,
            "preserved": None if np.isnan(found.preserved) else round(float(found.preserved), 4),
        }
        for kind, found in frame.projections.items()
    }
    packed: dict[str, Any] = {
        "name": frame.name,
        "dim": frame.dim,
        "k": frame.nearest.rows.shape[1],
        "projections": projections,
        "neighbours": _packed(frame.nearest.rows.astype("<i4")),
        "cosines": _packed(frame.nearest.cosines.astype("<f4")),
    }
    if frame.named is not None:
        packed["labels"] = ["", *frame.named.names]
        packed["predictions"] = _codes(frame.named.labels + 1, len(frame.named.names) + 1)
        packed["sure"] = _packed(frame.named.sure.astype("<f4"))
    return packed


def _packed(array: np.ndarray) -> dict[str, str]:
    return {"kind": array.dtype.str[1:], "data": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()}


def _json(content: dict[str, Any]) -> str:
    """JSON that can stand in a <script>: no "<" ends it, whatever a label says."""
    return json.dumps(content, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")


def _base64(sound: bytes | None) -> str | None:
    return None if sound is None else base64.b64encode(sound).decode()
