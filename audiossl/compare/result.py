"""What is known so far of a comparison: rows from finished cells, and the three files that show them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiossl import __version__
from audiossl.compare.cells import Cell
from audiossl.compare.config import COLUMNS, METHODS, CompareConfig
from audiossl.compare.measure import Floors
from audiossl.compare.page import write_comparison
from audiossl.compare.table import Row, csv_text, floor_row, learned_row, markdown, row_name
from audiossl.data.cached import CachedClips
from audiossl.data.clips import SPLITS
from audiossl.probes.config import LinearSGDConfig
from audiossl.probes.features import why_no_probe
from audiossl.probes.few_shot import short_labels
from audiossl.probes.protocol import protocol, short_label_sentences
from audiossl.run import files
from audiossl.run.page_file import replace

LABEL_FREE_TEXT = (
    "agreement: percent of at most 1,000 clips found again among them when heard louder or softer, 50 ms off and in "
    "noise 20 dB below; RankMe and spread: how many directions the features use, and how evenly"
)


class Results:
    """Results of cells as they come, in the rows of the table.

    Args:
        config: of the comparison.
        cells: all that there will be.
        clips: by fold.
        floors: measures the rows that learnt nothing.
    """

    def __init__(
        self, config: CompareConfig, cells: Sequence[Cell], clips: Mapping[Path | None, CachedClips], floors: Floors
    ) -> None:
        self.config, self.clips, self.floors = config, clips, floors
        self.keys = list(dict.fromkeys(cell.row for cell in cells))
        self.n_cells = len(cells)
        self.results: list[dict[str, Any]] = []
        self.failures: dict[Cell, str] = {}

    def add(self, result: dict[str, Any]) -> None:
        """Take what `measured_cell` gave."""
        self.results.append(result)

    def failed(self, cell: Cell, reason: str) -> None:
        """Note a cell that has no result."""
        self.failures[cell] = reason

    def rows(self) -> list[Row]:
        """Supervised rows first, then the others as they were asked for, then what learnt nothing."""
        learned = []
        for key in self.keys:
            mine = [r for r in self.results if (r["method"], r["frontend"], r["backbone"]) == key]
            reasons = [reason for cell, reason in self.failures.items() if cell.row == key]
            if mine or reasons:
                learned.append(learned_row(row_name(key, self.keys), key[0], mine, reasons))
        learned.sort(key=lambda row: row.kind != "supervised")
        return learned + self._floors()

    def _floors(self) -> list[Row]:
        """Random weights of every network that a cell has, and statistics of the clips."""
        networks: dict[str, dict[str, Any]] = {}
        for result in self.results:
            networks.setdefault(result["network"], {}).setdefault(result["fold"], result)
        names = self._network_names()
        by_name: dict[str, list[list[dict[str, float]]]] = {}
        for key, of_folds in networks.items():
            for fold, result in of_folds.items():
                folder = Path(self.config.out) / "cells" / result["folder"]
                for name, scores in self.floors.of_network(folder, key, self._clips_of(fold)).items():
                    by_name.setdefault(f"{name}{names[key]}", []).append(scores)
        for clips in self.clips.values():
            for name, scores in self.floors.of_clips(clips).items():
                by_name.setdefault(name, []).append(scores)
        return [floor_row(name, folds) for name, folds in by_name.items()]

    def _clips_of(self, fold: str | None) -> CachedClips:
        return next(clips for path, clips in self.clips.items() if (path.name if path else None) == fold)

    def _network_names(self) -> dict[str, str]:
        """What tells the networks apart, for the names of their rows: picture and network, and a method's own one."""
        rows: dict[str, list[tuple[str, str, str]]] = {}
        for r in self.results:
            rows.setdefault(r["network"], []).append((r["method"], r["frontend"], r["backbone"]))
        names = {}
        for key, mine in rows.items():
            method, *place = mine[0]
            others = [part for n, part in enumerate(place, 1) if len({k[n] for k in self.keys}) > 1 and part != "own"]
            rivals = [k for k, theirs in rows.items() if k != key and theirs[0][1:] == tuple(place)]
            alone = len({row[0] for row in mine}) == 1 and len({k[0] for k in self.keys}) > 1
            if alone and (rivals or "own" in place):  # such as a bag of patches
                others.insert(0, METHODS[method].title)
            names[key] = f" ({', '.join(others)})" if others else ""
        return names

    def small_print(self) -> str:
        """Clips, speakers, splits, seeds, budget, protocol and command, in a few sentences."""
        first = next(iter(self.clips.values()))
        about, config = first.describe(), self.config
        sizes = " / ".join(str(len(first.split(name))) for name in SPLITS)
        where = f"({about['split_rule'].rstrip('.')})"
        if config.folds:
            where = f"in the first of {len(self.clips)} folds by {Path(config.folds).name}, mean ± deviation over them"
        sentences = [
            f"{about['name']}: {about['clips']} clips, {about['speakers'] or 'unknown'} speakers, "
            f"{len(about['labels'])} labels; training / validation / testing {sizes} clips {where}",
            f"Budget: {config.budget}; seeds {', '.join(map(str, config.seeds))}, mean (range)",
        ]
        if why_no_probe(first) is None:
            text = protocol(COLUMNS, LinearSGDConfig())
            sentences.append(f"{text[0].upper()}{text[1:]}")
            y = first.split("training").label_ids
            short = short_labels(y[y >= 0], first.label_names, COLUMNS)
            sentences += [sentence.rstrip(".") for sentence in short_label_sentences(short)]
        sentences.append(f"{LABEL_FREE_TEXT[0].upper()}{LABEL_FREE_TEXT[1:]}")
        sentences.append(
            "Minutes are of training alone, on CPUs by the CPU's clock; passes: pictures of a whole clip that went "
            "through a network, teachers' included. Bold: the best that learned without labels"
        )
        done = len(self.results)
        if done < self.n_cells:
            sentences.append(f"{done} of {self.n_cells} cells are done, {len(self.failures)} failed")
        sentences.append(f"audiossl {__version__}: {self._command()}")
        return ". ".join(sentences) + "."

    def _command(self) -> str:
        words = ["python", "recipes/compare.py", *sys.argv[1:]]
        return shlex.join(Path(w).name if os.path.isabs(w) else w for w in words)

    def encoders(self) -> tuple[dict[str, Path], CachedClips]:
        """The encoder of each row's first seed and fold by the row's name, and the clips of that fold."""
        first = next(iter(self.clips))
        found: dict[str, Path] = {}
        for result in self.results:
            if result["fold"] == (first.name if first else None):
                name = row_name((result["method"], result["frontend"], result["backbone"]), self.keys)
                found.setdefault(name, Path(self.config.out) / "cells" / result["folder"] / files.ENCODER)
        return found, self.clips[first]

    def write(self, out: Path) -> None:
        """Write comparison.md, comparison.csv and comparison.html."""
        rows, small_print = self.rows(), self.small_print()
        replace(out / "comparison.md", markdown(rows, small_print))
        floors = [row for row in rows if row.kind == "floor"]
        replace(out / "comparison.csv", csv_text(self.results, floors))
        links = [("map of the encoders, side by side", files.MAP)] * (out / files.MAP).is_file()
        links += [(r["folder"], f"cells/{r['folder']}/{files.REPORT}") for r in self.results]
        name = next(iter(self.clips.values())).name
        write_comparison(out / "comparison.html", f"{name}: {self.config.budget}", rows, small_print, links)
