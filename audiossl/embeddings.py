"""What `featurize` returns: embeddings, a table that says where each comes from, and files of both."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audiossl.errors import UserError
from audiossl.reading import parse_json, read_arrays

# Columns of the table with the type of their numbers; None stands where a file could not be read.
COLUMNS: dict[str, type] = {
    "file": str,
    "channel": str,
    "start_s": float,
    "end_s": float,
    "valid_s": float,
    "sample_rate_in": int,
    "peak_db": float,
    "status": str,
    "message": str,
}


@dataclass(frozen=True)
class FeaturizeResult:
    """Embeddings with their origin.

    embeddings: (N, D) float32; a row of NaN where the status is "error".
    table: N dictionaries: file; channel ("mix", "first", or its number); start_s and end_s in the file, and
        valid_s, how much of that is sound; sample_rate_in of the file in Hz; peak_db re full scale (None for
        silence); status "ok", "padded" (a window that is longer than its sound), "clipped" (more than 0.1 % of
        the samples at full scale), "silent" (all zeros; as the others, embedded all the same) or "error"; message.
    meta: model, its checksum and configuration, settings, statistics of the pictures and the model's, versions.
    skipped: (file, reason) of all that could not be read, also where they have a row.
    """

    embeddings: np.ndarray
    table: list[dict[str, Any]]
    meta: dict[str, Any]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.embeddings)

    def __repr__(self) -> str:
        """Say the shape, and how many rows are no embeddings."""
        n_rows, dim = self.embeddings.shape
        rows = f"{n_rows} row{'' if n_rows == 1 else 's'} of {dim} dimensions"
        bad = f", {len(self.skipped)} not read" if self.skipped else ""
        return f"FeaturizeResult({rows}{bad}, one a {self.meta.get('level', 'row')})"

    def column(self, name: str) -> list[Any]:
        """One column of the table as a list."""
        return [row[name] for row in self.table]

    def to_npz(self, path: str | os.PathLike[str]) -> Path:
        """Write `embeddings`, one array a column, and `meta` as JSON text, for `numpy.load`; no pickles.

        The column `file` is called `files`: numpy cannot save an array of the name `file`.
        """
        arrays: dict[str, Any] = {name: _plain_array(self.column(name), kind) for name, kind in COLUMNS.items()}
        arrays["files"] = arrays.pop("file")
        with written(path) as part, part.open("wb") as file:
            np.savez(file, embeddings=self.embeddings, meta=np.array(_json(self.meta)), **arrays)
        return Path(path)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the table's columns and e0 ... of the embedding; cells are empty where there is none."""
        names = [f"e{i}" for i in range(self.embeddings.shape[1])]
        with (
            written(path) as part,
            part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, *names])
            for row, embedding in zip(self.table, self.embeddings, strict=True):
                cells = ["" if row[name] is None else row[name] for name in COLUMNS]
                # repr of a float32 is its shortest exact text: nothing is lost, and nothing is longer than
                # needed.
                values = ["" if np.isnan(value) else str(value) for value in embedding]
                writer.writerow([*cells, *values])
        return Path(path)

    def to_parquet(self, path: str | os.PathLike[str]) -> Path:
        """Write the table and a column `embedding` (fixed-size list of float32); metadata holds `meta`."""
        from pyarrow import parquet

        with written(path) as part:
            parquet.write_table(self.to_arrow(), part)
        return Path(path)

    def to_arrow(self) -> Any:
        """A `pyarrow.Table` of the table's columns and `embedding`; the schema's metadata holds `meta`."""
        import pyarrow as pa

        kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
        columns = {
            name: pa.array([printable(value) for value in self.column(name)], type=kinds[kind])
            for name, kind in COLUMNS.items()
        }
        flat = pa.array(self.embeddings.ravel(), type=pa.float32())
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, self.embeddings.shape[1])
        return pa.table(columns).replace_schema_metadata({"audiossl": _json(self.meta)})

    def to_dataset(self) -> Any:
        """A `datasets.Dataset` of the table's columns and `embedding`; its description is `meta` as JSON."""
        import datasets

        kinds = {str: "string", float: "float64", int: "int64"}
        features = {name: datasets.Value(kinds[kind]) for name, kind in COLUMNS.items()}
        features["embedding"] = datasets.Sequence(datasets.Value("float32"), length=self.embeddings.shape[1])
        columns: dict[str, Any] = {name: [printable(value) for value in self.column(name)] for name in COLUMNS}
        info = datasets.DatasetInfo(description=_json(self.meta), features=datasets.Features(features))
        return datasets.Dataset.from_dict(columns | {"embedding": list(self.embeddings)}, info=info)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write .npz, .csv or .parquet, as the path ends; raises `UserError` for another ending."""
        return getattr(self, WRITERS[check_output(path)])(path)


WRITERS = {".npz": "to_npz", ".csv": "to_csv", ".parquet": "to_parquet"}


def check_output(path: str | os.PathLike[str]) -> str:
    """The ending of an output file; raises `UserError` for an unknown one, or a folder that is not there."""
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise UserError(
            f"{path} ends in {path.suffix or 'nothing'}: choose a name that ends in {', '.join(WRITERS)}, or a folder."
        )
    if path.is_dir():
        raise UserError(f"{path} is a folder: give the name of a file.")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} is no folder, so {path.name} cannot be written there: make it first.")
    return path.suffix.lower()


def refuse_existing(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raise `UserError` when a command's output file exists and `--overwrite` was not given."""
    if os.path.lexists(path) and not overwrite:
        raise UserError(f"{path} exists: give --overwrite to replace it, or another name.")


@contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A place beside `path` to write to; renamed when all went well, removed when not."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{path} cannot be written ({reason}): make room or choose another place.") from error
    finally:
        part.unlink(missing_ok=True)


def _plain_array(values: list[Any], kind: type) -> np.ndarray:
    """A column without objects: missing text is empty, a missing number NaN or, for integers, 0."""
    if kind is str:
        return np.array([printable(value) or "" for value in values], dtype=str)
    missing = np.nan if kind is float else 0
    return np.array([missing if value is None else value for value in values], dtype=kind)


def printable(value: Any) -> Any:
    """Text as files can hold it: names of files that are no UTF-8 come with surrogates, which become backslashes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _json(meta: dict[str, Any]) -> str:
    return json.dumps(meta, ensure_ascii=True, default=str)


def load_embeddings(path: str | os.PathLike[str]) -> FeaturizeResult:
    """Read what `featurize` wrote: a .npz or .parquet file, or the folder of a corpus, whose rows come sorted by file.

    Raises `UserError` for what is no such file.
    """
    place = Path(path)
    if not place.exists():
        raise UserError(f"{place} does not exist: give a file or a folder that featurize wrote.")
    try:
        if place.suffix.lower() == ".npz":
            return _from_npz(place)
        from pyarrow import parquet

        if place.is_dir():
            shards = sorted(place.glob(f"{SHARD}*.parquet"))
            if not shards:
                raise UserError(f"{place} holds no embeddings: give the folder that `audiossl featurize -o` wrote.")
            import pyarrow as pa

            table = pa.concat_tables([parquet.read_table(shard) for shard in shards])
            table = table.sort_by([("file", "ascending"), ("start_s", "ascending"), ("channel", "ascending")])
        else:
            table = parquet.read_table(place)
        vectors = table["embedding"].combine_chunks()
        meta = parse_json(table.schema.metadata[b"audiossl"])
        embeddings = vectors.flatten().to_numpy().reshape(len(table), vectors.type.list_size)
        return _loaded(embeddings, table.select(list(COLUMNS)).to_pylist(), meta)
    except UserError:
        raise
    except Exception as error:  # a damaged file can make its reader trip over anything
        raise UserError(f"{place} cannot be read as embeddings ({error}): give a file that featurize wrote.") from error


SHARD = "embeddings-"
# What stands in an .npz where there is nothing, besides NaN.
MISSING = {("channel", ""), ("sample_rate_in", 0)}


def _from_npz(path: Path) -> FeaturizeResult:
    arrays = read_arrays(path)
    columns = {name: arrays["files" if name == "file" else name].tolist() for name in COLUMNS}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for row in rows:
        row.update({k: None for k, v in row.items() if v != v or (k, v) in MISSING})
    return _loaded(arrays["embeddings"], rows, parse_json(str(arrays["meta"])))


def _loaded(embeddings: np.ndarray, table: list[dict[str, Any]], meta: dict[str, Any]) -> FeaturizeResult:
    skipped = [(row["file"], row["message"]) for row in table if row["status"] == "error"]
    return FeaturizeResult(embeddings, table, meta, skipped)
