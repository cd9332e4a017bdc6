"""The flags of `recipes/compare.py`, and the rows that it knows. No torch here, so that `--help` is quick."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from audiossl.data.config import DataConfig
from audiossl.errors import UserError


class Method(NamedTuple):
    """A row's name in the table, and how its recipe is called: the recipe, its preset, flags beside."""

    title: str
    recipe: str
    preset: str = "small"
    flags: tuple[str, ...] = ()


METHODS = {
    "supervised": Method("supervised", "supervised_speechcommands"),
    "esvit": Method("EsViT", "esvit_speechcommands", flags=("--views.n_locals", "0")),
    "emp_ssl": Method("EMP-SSL", "emp_ssl_speechcommands"),
    "byol": Method("BYOL", "byol_speechcommands"),
    "byol_no_momentum": Method("BYOL without momentum", "byol_speechcommands", "no_momentum"),
    "simsiam": Method("SimSiam", "byol_speechcommands", "simsiam_small"),
    "byola_v1": Method("BYOL-A v1", "byol_speechcommands", "byola_v1"),
    "byola_v2": Method("BYOL-A v2", "byol_speechcommands", "byola_v2"),
    "contrastive": Method("contrastive (NT-Xent)", "contrastive_speechcommands"),
}
# Presets that are a published recipe with its own front end and network, which a comparison leaves to them.
OWN_NETWORK = ("byola_v1", "byola_v2")
DEFAULT_METHODS = ("supervised", "esvit", "emp_ssl", "byol", "byol_no_momentum", "simsiam", "contrastive")
COLUMNS = ("kNN", "linear", "LR", "one-vs-rest", "1", "5", "20", "100")


@dataclass
class CompareConfig:
    """Which methods, pictures and networks, on which audio, for how long."""

    data: DataConfig = field(default_factory=DataConfig)
    out: str = "compared"  # folder of the comparison; given again, it goes on where it was
    # supervised, esvit, emp_ssl, byol, byol_no_momentum, simsiam, contrastive, byola_v1, byola_v2
    methods: list[str] = field(default_factory=lambda: list(DEFAULT_METHODS))
    frontends: list[str] = field(default_factory=lambda: ["mel"])  # types of front ends: mel, stft, cqt, cwt ...
    backbones: list[str] = field(default_factory=lambda: ["resnet10"])  # names of networks
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # every cell is trained once for each
    # The budget of a cell's training, one of the three. Minutes become epochs by timing a short run of each setting.
    minutes: float = 0.0
    epochs: int = 0
    steps: int = 0
    # Train and test once for each group of the clips: speaker, or FILE.csv:COLUMN; the next group is for validation.
    folds: str = ""
    # Flags for the recipes: for all of them, as --flags="--run.threads 1", and for some of the methods and front ends,
    # as lines METHOD: FLAGS or FRONTEND: FLAGS of a YAML file.
    flags: str = ""
    settings: str | None = None
    launch: str = ""  # what accelerate launch is given, --launch="--multi_gpu --num_processes 8"
    map: bool = True  # map.html at the end: the validation clips as each encoder lays them out, side by side
    random_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # seeds of the rows with random weights
    device: str | None = None  # of the probes: cpu, cuda ...; by default a GPU when there is one

    def __post_init__(self) -> None:
        """Raise `UserError` for unknown methods, no budget or several, and lists that are empty."""
        for name in self.methods:
            if name not in METHODS:
                raise UserError(f"--methods has {name!r}: choose from {', '.join(METHODS)}.")
        for name in ("methods", "frontends", "backbones", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise UserError(f"--{name} is {','.join(map(str, values)) or 'empty'}; give each value once.")
        budgets = {name: getattr(self, name) for name in ("minutes", "epochs", "steps")}
        if any(value < 0 for value in budgets.values()) or sum(value > 0 for value in budgets.values()) != 1:
            given = ", ".join(f"--{name} {value:g}" for name, value in budgets.items() if value) or "none"
            raise UserError(f"a comparison needs one budget, --minutes, --epochs or --steps, and was given {given}.")
        for name in ("flags", "launch"):
            try:
                shlex.split(getattr(self, name))
            except ValueError as error:
                raise UserError(f"--{name} {getattr(self, name)!r} cannot be split into words ({error}).") from None
        if not self.processes:
            raise UserError(f"--launch {self.launch!r} does not say how many processes: add --num_processes N.")

    @property
    def processes(self) -> int:
        """How many processes train a cell; 0 where `--launch` does not say."""
        words = [part for word in shlex.split(self.launch) for part in word.split("=", 1)]
        given = [n for word, n in pairwise(words) if word in ("--num_processes", "--num-processes") and n.isdecimal()]
        return int(given[-1]) if given else int(not words)

    @property
    def budget(self) -> str:
        """The budget as the small print says it."""
        if self.minutes:
            return f"{self.minutes:g} minutes of training a cell"
        unit, number = ("epoch", self.epochs) if self.epochs else ("step", self.steps)
        return f"{number} {unit}{'s' * (number != 1)} a cell"
