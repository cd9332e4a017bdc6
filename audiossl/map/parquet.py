"""The map as one table, which Embedding Atlas and Renumics Spotlight open as it is.

    embedding-atlas map.parquet --x projection_x --y projection_y --neighbors neighbors --image image
    spotlight map.parquet

Pictures and sounds are structs of bytes and path, as Hugging Face's data sets have them, and both tools look into the
bytes for what they are. A neighbour's id is the number of its row, from 0.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from audiossl.embeddings import printable, written
from audiossl.map.neighbours import Nearest
from audiossl.map.projections import Projection

if TYPE_CHECKING:
    import pyarrow as pa

# Points whose pictures and sounds are in memory at a time: about 6 MB of them, and a row group of the file.
ROWS = 1024


def write_parquet(
    path: str | os.PathLike[str],
    table: dict[str, Sequence[Any]],
    projections: dict[str, Projection],
    nearest: Nearest,
    images: Iterable[bytes | None] | None,
    sounds: Iterable[bytes | None] | None,
    embeddings: np.ndarray | None = None,
) -> None:
    """Write one row a point; `projection_x` and `projection_y` are those of the projection that preserves most.

    Args:
        path: the file; written beside, then renamed.
        table: columns of N texts or numbers, None for nothing. One that is named as one of the map's gets a "_" behind.
        projections: by kind; each has its columns, `umap_x` and `umap_y` say.
        nearest: of `nearest_of_all`: `neighbors`, with distances of 1 - cosine.
        images: N files, one after the other, for `image`; or none.
        sounds: N files for `sound`; or none.
        embeddings: (N, D) for `embedding`; or none.

    Raises `UserError` when the file cannot be written, and `ValueError` for columns that are not of N rows.
    """
    from pyarrow import parquet

    fixed = _fixed(table, projections, nearest, embeddings)
    media = {name: iter(files) for name, files in (("image", images), ("sound", sounds)) if files is not None}
    with written(path) as part:
        writer = None
        try:
            for group in _groups(fixed, media):
                writer = writer or parquet.ParquetWriter(part, group.schema, compression="zstd")
                writer.write_table(group)
        finally:
            if writer is not None:
                writer.close()


def _groups(fixed: pa.Table, media: dict[str, Iterator[bytes | None]]) -> Iterator[pa.Table]:
    """The rows, `ROWS` at a time, with their files."""
    import pyarrow as pa

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for start in range(0, max(1, len(fixed)), ROWS):
        group = fixed.slice(start, ROWS)
        for name, files in media.items():
            these = [None if file is None else {"bytes": file, "path": None} for file in islice(files, len(group))]
            if len(these) < len(group):
                raise ValueError(f"there are {start + len(these)} files for {name}, and {len(fixed)} points")
            group = group.append_column(name, pa.array(these, kind))
        yield group


def _fixed(
    table: dict[str, Sequence[Any]],
    projections: dict[str, Projection],
    nearest: Nearest,
    embeddings: np.ndarray | None,
) -> pa.Table:
    """All columns but the files, with what they mean as JSON in the schema's metadata."""
    import pyarrow as pa

    best = max(projections, key=lambda kind: np.nan_to_num(projections[kind].preserved), default=None)
    places = {kind: projections[kind].xy for kind in projections}
    if best is not None:
        places = {"projection": places[best], **places}
    own: dict[str, Any] = {
        f"{kind}_{axis}": pa.array(np.ascontiguousarray(xy[:, at], np.float32))
        for kind, xy in places.items()
        for at, axis in enumerate("xy")
    }
    rows, cosines = nearest
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
    ids = pa.ListArray.from_arrays(offsets, pa.array(rows.ravel().astype(np.int64)))
    distances = pa.ListArray.from_arrays(offsets, pa.array((1 - cosines).clip(min=0).ravel().astype(np.float32)))
    own["neighbors"] = pa.StructArray.from_arrays([ids, distances], ["ids", "distances"])
    if embeddings is not None:
        flat = pa.array(np.ascontiguousarray(embeddings, np.float32).ravel())
        own["embedding"] = pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    columns: dict[str, Any] = {}
    for name, values in table.items():
        while name in own or name in ("image", "sound") or name in columns:
            name += "_"
        columns[name] = pa.array([printable(value) for value in values])
    for name, column in (columns | own).items():
        if len(column) != len(rows):
            raise ValueError(f"the column {name} has {len(column)} rows, and there are {len(rows)} points")
    meaning = {
        kind: {"about": found.about, "preserved": None if np.isnan(found.preserved) else found.preserved}
        for kind, found in projections.items()
    }
    said = json.dumps({"projections": meaning, "projection": best})
    return pa.table(columns | own).replace_schema_metadata({"audiossl": said})
