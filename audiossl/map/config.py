"""Settings of a map: the flags of `audiossl map`. No torch here, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiossl.data.config import DataConfig
from audiossl.errors import UserError

PROJECTIONS = ("pca", "tsne", "umap")
SPLITS = ("all", "training", "validation", "testing")
SOUNDS = ("opus", "flac", "none")


@dataclass
class MapConfig:
    """A page on which one can see and hear what encoders make of sounds.

    Raises `UserError` when a value makes no sense, naming its flag.
    """

    title: str = ""  # heading of the page; by default the name of the data
    # A CSV with a column file (or path) and further columns, which are joined to the points: label, split, speaker ...
    table: str | None = None
    split: str = "all"  # whose clips are shown: all, training, validation, testing
    limit: int | None = None  # at most so many points: a draw by hash of their names
    projections: list[str] = field(default_factory=lambda: list(PROJECTIONS))  # the last one is shown first
    seed: int = 0  # of the projections
    neighbours: int = 10  # nearest in the original space that the page knows of each point
    # Who names a point: so many nearest training clips with labels, weighted as in `audiossl probe`; itself left out.
    k: int = 20
    classifier: str | None = None  # folder of a classifier, whose predictions take their place
    sound: str = "opus"  # opus (small), flac (exact, and plays on older phones too), none
    sound_s: float = 10.0  # of a long clip the first so many seconds can be heard and are pictured
    one_file: int = 5000  # points that one page holds; more of them need a folder as -o
    parquet: str | None = None  # the same as a file for Embedding Atlas or Renumics Spotlight
    batch_size: int = 256  # clips on the device at a time
    device: str | None = None  # cpu, cuda ...; by default a GPU when there is one
    overwrite: bool = False  # replace what stands at -o and --parquet
    # Rate and length of the clips are the first encoder's, unless flags say otherwise.
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        for name, value, known in (("split", self.split, SPLITS), ("sound", self.sound, SOUNDS)):
            if value not in known:
                raise UserError(f"--{name} is {value!r}; choose one of {', '.join(known)}.")
        wrong = [kind for kind in self.projections if kind not in PROJECTIONS]
        if wrong or not self.projections:
            raise UserError(
                f"--projections has {wrong[0] if wrong else 'none'!r}; choose from {','.join(PROJECTIONS)}."
            )
        self.projections = list(dict.fromkeys(self.projections))
        for name, least in (("limit", 1), ("neighbours", 0), ("k", 1), ("one_file", 1), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} is {value}; give at least {least}.")
        if not 0 < self.sound_s <= 60:
            raise UserError(f"--sound_s is {self.sound_s:g}; give seconds above 0, at most 60.")
