"""`audiossl search`: the recordings that sound most like one, and those that are all but the same."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from typing import TYPE_CHECKING, Any

from audiossl.errors import UserError

if TYPE_CHECKING:
    from audiossl.embeddings import FeaturizeResult

LISTED, SHOWN = 20, 5  # groups of repeats, and rows of a group, that are printed; the rest is counted

SEARCH_EXAMPLE = """\
examples:
  audiossl search my_sounds.parquet a_call.wav -k 5
  audiossl search corpus_embeddings/ "calls/*.wav" --json
  audiossl search my_sounds.parquet --repeats

EMBEDDINGS is what `audiossl featurize` wrote: a .npz or .parquet file, or a folder. A query is embedded in the same
way, as one row, and compared with all rows, by cosine.
"""


def search_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    add = parser.add_argument
    add("embeddings", metavar="EMBEDDINGS", help="a .npz or .parquet file, or a folder of `audiossl featurize`")
    add("queries", nargs="*", metavar="QUERY", help="recordings to look for")
    add("-k", type=int, default=10, metavar="N", help="so many neighbours of each; default: %(default)s")
    add("--approximate", action="store_true", help="by a graph that is built once: for millions of rows (extra search)")
    add("--repeats", action="store_true", help="list the rows that are all but the same, in place of a search")
    add("--threshold", type=float, default=0.9999, metavar="C", help="cosine of such rows; default: %(default)s")
    add("--model", help="where the encoder is, if not where it was")
    add("--device", help="cpu, cuda ...; default: a GPU when there is one")
    add("--json", action="store_true", help="print one line of JSON for each query or group")


def search(given: argparse.Namespace) -> int:
    """Print neighbours of recordings, or groups of repeats."""
    if given.k < 1:
        raise UserError(f"-k is {given.k}: give at least 1.")
    if not 0 < given.threshold <= 1:
        raise UserError(f"--threshold is {given.threshold:g}: give a cosine above 0 and at most 1.")
    if bool(given.queries) == given.repeats:
        raise UserError("give a recording to look for, or --repeats.")
    from audiossl.embeddings import load_embeddings

    found = load_embeddings(given.embeddings)
    if given.repeats:
        _print_repeats(found, given)
    else:
        _print_neighbours(found, given)
    return 0


def _print_neighbours(found: FeaturizeResult, given: argparse.Namespace) -> None:
    from audiossl.search import embed_query, nearest

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that one query is far from the model's mean says little
        query = embed_query(found, given.queries, given.model, device=given.device)
    if given.approximate:
        from audiossl.data.config import DataConfig, cache_root
        from audiossl.search_index import nearly_nearest

        rows, cosines = nearly_nearest(found.embeddings, query.embeddings, given.k, cache_root(DataConfig()) / "search")
    else:
        rows, cosines = nearest(found.embeddings, query.embeddings, given.k)
    for asked, places, values in zip(query.table, rows.tolist(), cosines.tolist(), strict=True):
        hits = [_hit(found.table[place], value) for place, value in zip(places, values, strict=True)]
        if given.json:
            print(json.dumps({"query": asked["file"], "nearest": hits}))
            continue
        print(f"{asked['file']}:")
        for hit in hits:
            print(f"  {hit['cosine']:.4f}  {_where(hit)}")


def _hit(row: dict[str, Any], cosine: float) -> dict[str, Any]:
    return {name: row[name] for name in ("file", "channel", "start_s", "end_s")} | {"cosine": round(cosine, 6)}


def _where(row: dict[str, Any]) -> str:
    span = "" if row["start_s"] is None else f"  {row['start_s']:.2f}-{row['end_s']:.2f} s"
    return f"{row['file']}{span}"


def _print_repeats(found: FeaturizeResult, given: argparse.Namespace) -> None:
    from audiossl.search import repeats

    groups, share = repeats(found.embeddings, given.threshold)
    if given.json:
        for group in groups:
            print(json.dumps([_hit(found.table[place], 1.0) | {"row": place} for place in group]))
        return
    for group in groups[:LISTED]:
        lines = [_where(found.table[place]) for place in group[:SHOWN]]
        more = [f"... and {len(group) - SHOWN} more"] if len(group) > SHOWN else []
        print("\n  ".join(lines + more))
    if len(groups) > LISTED:
        print(f"... and {len(groups) - LISTED} more groups")
    n_rows = sum(len(group) for group in groups)
    above = f"have a cosine of {given.threshold:g} or more"
    print(f"{len(groups)} groups of {n_rows} rows, {100 * share:.1f} % of all, {above}")
    if share > 0.5:
        print(
            "audiossl: warning: more than half of the embeddings are all but the same: is the sample rate right, is "
            "there sound in the files, has the encoder learnt?",
            file=sys.stderr,
        )
