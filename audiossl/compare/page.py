"""comparison.html: the table with its ranges, bars, and accuracy against cost, in one page that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from audiossl.compare.table import COSTS, Row, best_of, columns_of, cost_text
from audiossl.probes.table import Cell as Score
from audiossl.run.page_file import write_page

STYLE = """
td.best { font-weight: 700; }
table.scores td:first-child { white-space: normal; }
@media (min-width: 700px) { table.scores td:first-child { min-width: 13em; } }
tr.floor td { color: var(--muted); }
tr.section td { border-top: 2px solid var(--grid); }
svg.plot { display: block; width: 100%; min-width: 560px; height: auto; font: 12px system-ui, sans-serif; }
svg.plot text { fill: var(--ink); }
svg.plot .quiet { fill: var(--muted); }
svg.plot .axis { stroke: var(--grid); stroke-width: 1; }
svg.plot .bar { fill: var(--line); }
svg.plot .supervised { fill: var(--third); }
svg.plot .floor { fill: var(--muted); opacity: 0.55; }
svg.plot .range { stroke: var(--ink); stroke-width: 1.5; }
svg.plot .leader { stroke: var(--muted); stroke-width: 0.75; }
"""
BAR_COLUMNS = ("kNN", "20", "5")
WIDTH, NAME_WIDTH, BAR_HEIGHT = 780, 310, 24
PLOT_HEIGHT, MARGIN = 320, 56
LINE_HEIGHT = 14  # of a point's name


def write_comparison(
    path: Path, title: str, rows: Sequence[Row], small_print: str, links: Sequence[tuple[str, str]]
) -> Path:
    """Write the page.

    Args:
        path: of the page.
        title: heading.
        rows: of the table, in order.
        small_print: what was measured on what, and how.
        links: text and target of each cell's report, relative to the page.
    """
    columns = columns_of(rows)
    bars = [column for column in BAR_COLUMNS if column in columns] or columns[:1]
    parts = [
        f'<header><p class="over">audiossl, comparison</p><h1>{escape(title)}</h1></header>',
        _table(rows, columns, small_print),
        *(_section(_heading(column), _bars(rows, column)) for column in bars),
    ]
    if bars:
        for cost in ("minutes", "passes"):
            points = [row for row in rows if cost in row.costs and bars[0] in row.scores]
            if points:
                parts.append(_section(f"{_heading(bars[0])} and {cost}", _scatter(points, bars[0], cost)))
    listed = "".join(f'<li><a href="{escape(target)}">{escape(text)}</a></li>' for text, target in links)
    if listed:
        parts.append(f"<section><h2>Runs</h2><ul>{listed}</ul></section>")
    return write_page(path, title, "\n".join(parts), STYLE)


def _section(title: str, content: str) -> str:
    return f'<section><h2>{escape(title)}</h2><div class="card scroll">{content}</div></section>'


def _heading(column: str) -> str:
    return f"{column} label{'s' * (column != '1')} a class" if column.isdigit() else column


def _table(rows: Sequence[Row], columns: Sequence[str], small_print: str) -> str:
    short = [f"{column} a class" if column == "1" else column for column in columns]
    head = "".join(f"<th>{escape(column)}</th>" for column in [*short, *COSTS])
    best, body, kind = best_of(rows, columns), [], ""
    for row in rows:
        first = " section" * (row.kind != kind)
        kind = row.kind
        if row.failed and not row.scores:
            body.append(
                f'<tr class="{first}"><td>{escape(row.name)}</td><td colspan="{len(columns) + len(COSTS)}" '
                f'style="text-align:left">{escape(row.failed)}</td></tr>'
            )
            continue
        cells = "".join(
            f'<td class="{"best" * (best.get(column) == row.name)}">{_score(row.scores.get(column))}</td>'
            for column in columns
        )
        cells += "".join(f"<td>{cost_text(name, row.costs[name]) if name in row.costs else ''}</td>" for name in COSTS)
        note = f'<br><span class="beside">{escape(row.failed)}</span>' if row.failed else ""
        body.append(f'<tr class="{row.kind}{first}"><td>{escape(row.name)}{note}</td>{cells}</tr>')
    return (
        f'<section><h2>Scores</h2><div class="card scroll"><table class="scores"><thead><tr><th>Features</th>{head}'
        f"</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        f'<p class="small" style="margin-top:8px">{escape(small_print)}</p></section>'
    )


def _score(score: Score | None) -> str:
    if score is None:
        return "–"
    text = f"{score.mean:.1f}"
    if score.low is not None and score.high is not None:
        return f'{text}<br><span class="beside">{score.low:.1f}–{score.high:.1f}</span>'
    return text if score.std is None else f'{text}<br><span class="beside">± {score.std:.1f}</span>'


def _bars(rows: Sequence[Row], column: str) -> str:
    """A bar a row, with its range over seeds, or its deviation over folds."""
    shown = [row for row in rows if column in row.scores]
    top = max(100.0 if column not in ("RankMe", "spread, %") else 0.0, *(row.scores[column].mean for row in shown))
    scale = (WIDTH - NAME_WIDTH - 60) / top
    parts = []
    for n, row in enumerate(shown):
        y, score = n * BAR_HEIGHT, row.scores[column]
        low, high = _ends(score)
        kind = {"learned": "bar"}.get(row.kind, row.kind)
        middle, end = y + BAR_HEIGHT / 2, NAME_WIDTH + scale * score.mean
        beside, height = max(end, NAME_WIDTH + scale * high) + 6, BAR_HEIGHT - 8
        parts.append(
            f'<text x="{NAME_WIDTH - 8}" y="{middle + 4}" text-anchor="end">{escape(row.name)}</text>'
            f'<rect class="{kind}" x="{NAME_WIDTH}" y="{y + 4}" width="{end - NAME_WIDTH:.1f}" height="{height}"/>'
            f'<text class="quiet" x="{beside:.1f}" y="{middle + 4}">{score.mean:.1f}</text>'
        )
        if high > low:
            parts.append(
                f'<line class="range" x1="{NAME_WIDTH + scale * low:.1f}" x2="{NAME_WIDTH + scale * high:.1f}" '
                f'y1="{middle}" y2="{middle}"/>'
            )
    label = f"{_heading(column)} of {len(shown)} rows"
    return _svg(len(shown) * BAR_HEIGHT, label, "".join(parts))


def _ends(score: Score) -> tuple[float, float]:
    if score.low is not None and score.high is not None:
        return score.low, score.high
    spread = score.std or 0.0
    return score.mean - spread, score.mean + spread


def _scatter(rows: Sequence[Row], column: str, cost: str) -> str:
    """Accuracy over cost on a logarithmic axis."""
    costs = [math.log10(max(row.costs[cost], 1e-3)) for row in rows]
    values = [row.scores[column].mean for row in rows]
    left, right = min(costs) - 0.1, max(costs) + 0.35
    low, high = min(values) - 3, max(values) + 3
    inner = WIDTH - 2 * MARGIN, PLOT_HEIGHT - 2 * MARGIN

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - left) / (right - left), (y - low) / (high - low)
        return MARGIN + across * inner[0], PLOT_HEIGHT - MARGIN - up * inner[1]

    bottom = PLOT_HEIGHT - MARGIN
    parts = [
        f'<line class="axis" x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{bottom}" y2="{bottom}"/>',
        f'<line class="axis" x1="{MARGIN}" x2="{MARGIN}" y1="{MARGIN}" y2="{bottom}"/>',
        f'<text class="quiet" x="{WIDTH / 2}" y="{PLOT_HEIGHT - 12}" text-anchor="middle">{escape(cost)}</text>',
    ]
    for tick in _ticks(10**left, 10**right):
        x, _ = place(math.log10(tick), low)
        text = f"{tick:g}" if tick < 1e4 else cost_text(cost, tick)
        parts.append(f'<text class="quiet" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>')
    for value in range(math.ceil(low / 5) * 5, math.floor(high) + 1, 5):
        _, y = place(left, value)
        parts.append(f'<text class="quiet" x="{MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
    places = [place(x_value, y_value) for x_value, y_value in zip(costs, values, strict=True)]
    for row, (x, y), at in zip(rows, places, _apart([y for _, y in places], bottom - 6), strict=True):
        kind = {"learned": "bar"}.get(row.kind, row.kind)
        parts.append(
            f'<line class="leader" x1="{x:.1f}" x2="{x + 14:.1f}" y1="{y:.1f}" y2="{at:.1f}"/>'
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f'<text x="{x + 17:.1f}" y="{at + 4:.1f}">{escape(row.name)}</text>'
        )
    return _svg(PLOT_HEIGHT, f"{_heading(column)} over {cost}", "".join(parts))


def _apart(heights: Sequence[float], bottom: float) -> list[float]:
    """Where names stand beside their points: a line apart, since under one budget all points may lie at one cost.

    >>> _apart([100.0, 20.0, 101.0], bottom=300)
    [100.0, 20.0, 114.0]
    """
    placed = dict.fromkeys(range(len(heights)), 0.0)
    above = -math.inf
    for n in sorted(placed, key=lambda n: heights[n]):
        above = placed[n] = max(heights[n], above + LINE_HEIGHT)
    below = bottom + LINE_HEIGHT
    for n in sorted(placed, key=lambda n: -placed[n]):  # what was pushed over the edge goes back up
        below = placed[n] = min(placed[n], below - LINE_HEIGHT)
    return list(placed.values())


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two numbers.

    >>> _ticks(0.9, 12)
    [1.0, 2.0, 5.0, 10.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**power for power in powers for step in (1, 2, 5) if low <= step * 10.0**power <= high]


def _svg(height: float, label: str, content: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">{content}</svg>'
    )
