"""report.html: one self-contained page on a run, built from the files of its folder, at any time.

    python -m audiossl.run.report RUN_FOLDER

The page loads nothing (its content policy forbids it), follows the reader's light or dark setting, reads on a
phone, prints, and shows what there is: a run without labels has no scores, an interrupted one shorter curves.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from audiossl.errors import UserError, errors_for_people
from audiossl.reading import read_json, read_yaml
from audiossl.run import classifier_page, files, page
from audiossl.run.curves import CSS, GRID, LINE, MUTED, STYLES, Series, charts, number
from audiossl.run.page_file import replace, write_page
from audiossl.run.pictures import Picture, load_pictures, save_pictures, views_section
from audiossl.run.tracking import read_history

T = TypeVar("T")
Row = Mapping[str, Any]


def write_report(
    folder: str | os.PathLike[str],
    title: str | None = None,
    scores: Any = None,
    views: Sequence[Picture] | None = None,
    warnings: Sequence[str] = (),
) -> Path:
    """Write report.html into a run folder and return its path.

    It is built from the folder's files (`audiossl.run.files`) that exist; scores and views that are given are kept
    there first, so that the page can be built again. A file that cannot be read is named on the page.

    Args:
        folder: of the run.
        title: heading, by default "backbone on data".
        scores: a `ProbeTable`, or the dictionary of its JSON.
        views: pictures of a few clips and their views.
        warnings: more sentences for the reader.

    Raises:
        UserError: the folder has nothing of a run, or cannot be written.
    """
    folder = Path(folder)
    keep(folder, scores, views)
    notes = _Notes(warnings)

    def read(name: str, reader: Callable[[Path], T | None]) -> T | None:
        return notes.read(folder / name, reader) if (folder / name).exists() else None

    table = read(files.SCORES, _read_scores)
    rows = read(files.METRICS, read_history) or []
    pictures = read(files.VIEWS, load_pictures) or []
    settings = read(files.CONFIG, _read_config) or {}
    named = read(files.CLASSIFICATION, classifier_page.load)
    machine = read(files.ENVIRONMENT, lambda path: path.read_text("utf-8")) or ""
    if not any((table, rows, pictures, settings)):
        raise UserError(f"{folder} holds no run ({files.METRICS} is missing or empty): name the folder of --run.out.")
    title = title or page.title_of(settings, folder)
    worst = read(files.WORST, classifier_page.load_worst)
    sections = (
        notes.built(files.SCORES, lambda: page.scores(table)),
        notes.built(files.CLASSIFICATION, lambda: classifier_page.sections(named)),
        notes.built(files.WORST, lambda: classifier_page.worst_errors(worst) if named else ""),
        page.map_link(folder),
        notes.built(files.METRICS, lambda: charts(rows, page.floors(table), draw_curve)),
        notes.built(files.VIEWS, lambda: views_section(pictures)),
        notes.built(files.CONFIG, lambda: page.next_steps(folder, settings)),
        notes.built(files.METRICS, lambda: page.details(folder, rows, settings, machine)),
    )
    header = notes.built(files.METRICS, lambda: page.header(title, table, rows, settings, notes.sentences))
    header = header or page.header(title, None, [], {}, notes.sentences)
    return write_page(folder / files.REPORT, title, "\n".join(filter(None, (header, *sections))))


class _Notes:
    """Sentences for the reader, with one for each file that is damaged, or holds something else than a run writes."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self.sentences = list(sentences)

    def read(self, path: Path, reader: Callable[[Path], T | None]) -> T | None:
        """The content of a file, None where it cannot be read."""
        try:
            return reader(path)
        except (OSError, ValueError) as error:
            self.sentences.append(f"{path.name} could not be read and is left out ({error}).")
            return None

    def built(self, name: str, build: Callable[[], str]) -> str:
        """A section, empty where what its file holds makes none."""
        try:
            return build()
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            self.sentences.append(f"{name} holds something else than a run writes and is left out ({error!r}).")
            return ""


def keep(folder: Path, scores: Any = None, views: Sequence[Picture] | None = None) -> None:
    """Write a table of scores, pictures of views, or both into the folder of a run, from which a report is built.

    Raises UserError when the folder cannot be written.
    """
    try:
        if scores is not None or views is not None:
            folder.mkdir(parents=True, exist_ok=True)
        if scores is not None:
            replace(folder / files.SCORES, json.dumps(_plain_scores(scores), indent=2, ensure_ascii=False))
        if views is not None:
            save_pictures(folder / files.VIEWS, views)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): make room or choose another --run.out."
        ) from error


# ------------------------------------------------------------------------------------------------ reading


def _read_config(path: Path) -> dict[str, Any]:
    loaded = read_yaml(path)
    return loaded if isinstance(loaded, dict) else {}


def _read_scores(path: Path) -> dict[str, Any] | None:
    return _plain_scores(read_json(path))


def _plain_scores(scores: Any) -> dict[str, Any] | None:
    """The dictionary {"about", "columns", "rows"} of a ProbeTable; raises ValueError when it is not one."""
    if scores is None:
        return None
    plain = json.loads(scores.to_json()) if hasattr(scores, "to_json") else scores
    if (
        not isinstance(plain, dict)
        or not isinstance(plain.get("rows"), list)
        or not isinstance(plain.get("columns"), list | tuple)
    ):
        raise ValueError("scores must have rows and columns, as `audiossl probe --json` writes them")
    return plain


# ------------------------------------------------------------------------------------------------ drawing


def draw_curve(points: Series, label: str) -> str:
    """An inline SVG of one curve with its reference lines; colours are CSS variables, text is text."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "audiossl", "font.size": 10.5}):
        figure = Figure(figsize=(4.5, 2.1), layout="constrained")
        axes = figure.add_subplot()
        few = len(points.x) <= 40
        axes.plot(points.x, points.y, color=LINE, linewidth=1.8, marker="o" if few else None, markersize=3)
        for (_, value), (colour, dashes) in zip(points.references, STYLES, strict=False):
            axes.axhline(value, color=colour, linewidth=1.4, dashes=dashes)
        _limits(axes, points)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.tick_params(colors=MUTED, length=0)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.spines[:].set_visible(False)
        axes.spines["bottom"].set(visible=True, color=MUTED, linewidth=0.8)
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        buffer = io.StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inline(buffer.getvalue(), label)


def _limits(axes: Any, points: Series) -> None:
    """A flat curve gets a range of its own size instead of a magnified rounding error."""
    values = np.append(points.y[np.isfinite(points.y)], [value for _, value in points.references])
    if not len(values):
        axes.set_ylim(0, 1)
        return
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    flat = high - low <= 1e-3 * size
    margin = (0.02 * size or 1.0) if flat else 0.08 * (high - low)
    axes.set_ylim(low - margin, high + margin)


def _inline(svg: str, label: str) -> str:
    """Only the drawing: no prologue, sizes or ids; the page's font and colours; gaps in lines stay gaps."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    view_box = re.search(r'viewBox="([^"]*)"', svg)
    box = view_box.group(1) if view_box else "0 0 324 151"
    start = f'<svg role="img" aria-label="{label}" viewBox="{box}">'
    svg = start + svg[svg.index(">") + 1 :]
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<g) id="[^"]*"', r"\1", svg)
    svg = re.sub(r"; font-family: [^;\"]*", "", svg)
    for colour, variable in CSS.items():
        svg = svg.replace(colour, variable)
    return re.sub(r">\s+<", "><", svg).strip()


@errors_for_people
def main(arguments: Sequence[str] | None = None) -> None:
    """Build report.html of a run folder again."""
    parser = argparse.ArgumentParser(prog="python -m audiossl.run.report", description=main.__doc__)
    parser.add_argument("folder", help="folder of the run (--run.out)")
    parser.add_argument("--title", help="heading of the page")
    given = parser.parse_args(arguments)
    if not Path(given.folder).is_dir():
        raise UserError(f"{given.folder} is not a folder: name the folder of --run.out.")
    print(write_report(given.folder, given.title))


if __name__ == "__main__":
    main()
