"""The flags of `audiossl probe`, and of the table at a run's end. No torch import here, so that `--help` is quick."""

from __future__ import annotations

from dataclasses import dataclass, field

from audiossl.data.config import DataConfig
from audiossl.errors import UserError


@dataclass
class ProbeTableConfig:
    """The table at the end of a run; it needs labels in all three splits, and is left out without."""

    skip: bool = False  # no table at all, for runs that are probed elsewhere
    quick: bool = False  # kNN and linear probe only: seconds instead of minutes
    one_vs_rest: bool = False  # a logistic regression for each label as one more column
    random_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # seeds of the random weights
    # One more row: random weights with batch norms measured on training clips, as a network in training has them.
    calibrate_random: bool = False
    map: bool = True  # map.html of the validation clips, to see and to hear
    keep_features: bool = False  # leave features.npz in the run's folder, for `audiossl probe --features`


@dataclass
class LinearSGDConfig:
    """EsViT's linear evaluation, switched on by --linear_sgd: one layer by SGD, all rates trained at once.

    Raises `UserError` when a value makes no sense, naming its flag.
    """

    # Per 256 clips, scaled to the batch; the one that is best on validation is taken. EsViT's default alone: 0.001.
    learning_rates: list[float] = field(default_factory=lambda: [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1])
    weight_decays: list[float] = field(default_factory=lambda: [0.0])  # every pair with a rate is tried
    epochs: int = 100
    batch_size: int = 128  # clips a step
    standardise: bool = True  # features as the other probes get them; false: as they are, as in EsViT

    def __post_init__(self) -> None:
        for name, least in (("learning_rates", "above 0"), ("weight_decays", "0 or above")):
            values = getattr(self, name)
            wrong = [value for value in values if value < 0 or (name == "learning_rates" and value == 0)]
            if wrong or not values:
                raise UserError(f"--sgd.{name} has {wrong[0] if wrong else 'no value'}; give numbers {least}.")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"--sgd.{name} is {getattr(self, name)}; give at least 1.")


@dataclass
class ProbeConfig:
    """Score a frozen encoder on labelled clips, beside random weights and log-mel statistics.

    Raises `UserError` when a value makes no sense, naming its flag.
    """

    encoder: str  # folder of the encoder, such as runs/first/encoder, or the name of a model
    json: str | None = None  # file for the table as JSON, settings that were chosen included
    overwrite: bool = False  # replace the file of --json when it exists
    quick: bool = False  # kNN and linear probe only: seconds instead of minutes
    k: list[int] = field(default_factory=lambda: [20])  # neighbours of kNN; EsViT reports 10,20,100,200
    linear_sgd: bool = False  # EsViT's linear evaluation as one more column; its settings are --sgd.*
    one_vs_rest: bool = False  # a logistic regression for each label as one more column
    # Read the pooled outputs of the last so many blocks in place of the embedding; 0 reads the embedding. EsViT: 4.
    last_blocks: int = 0
    avgpool_patchtokens: bool = False  # with --last_blocks of a ViT: append the mean of the last patches
    n_patches: int = 0  # patches of a clip, where the encoder takes patches (EMP-SSL); 0: as many as in its settings
    per_class: bool = False  # accuracy of each label, and the label that it is most often taken for
    # An .npz file that keeps the features: made when it is not there, read when it is of the same encoder and clips.
    features: str | None = None
    random_seeds: list[int] = field(default_factory=lambda: [0, 1, 2])  # seeds of the random weights
    # One more row: random weights with batch norms measured on training clips, as a network in training has them.
    calibrate_random: bool = False
    seed: int = 0  # order of the linear probes' batches
    batch_size: int = 256  # clips on the device at a time
    device: str | None = None  # cpu, cuda ...; by default a GPU when there is one
    sgd: LinearSGDConfig = field(default_factory=LinearSGDConfig)
    # Rate and length of the clips are the encoder's, unless flags say otherwise.
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"--batch_size is {self.batch_size}; give at least 1.")
        if not self.k or min(self.k) < 1:
            raise UserError(f"--k is {','.join(map(str, self.k)) or 'empty'}; give numbers of neighbours from 1.")
        if self.n_patches < 0:
            raise UserError(f"--n_patches is {self.n_patches}; give a number of patches, or 0 for the encoder's own.")
        if self.last_blocks < 0:
            raise UserError(f"--last_blocks is {self.last_blocks}; give a number of blocks, or 0 for the embedding.")
        if self.avgpool_patchtokens and not self.last_blocks:
            raise UserError("--avgpool_patchtokens belongs to --last_blocks, which is 0; give that too, such as 4.")
        if self.features is not None and not self.features.endswith(".npz"):
            raise UserError(f"--features is {self.features}; give a name that ends in .npz.")
