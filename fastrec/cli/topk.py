"""``fastrec topk``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from scipy.sparse import csr_matrix

    from fastrec.data import IdMap
    from fastrec.ranking import TopK

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".feather", ".npz", ".trec", ".run", ".txt")
BATCH = 8192  # queries between two steps of the progress bar; the answer does not depend on it


def topk(
    items: Annotated[str, typer.Argument(help="Item vectors (N, d): .npy, .npz[:KEY], Parquet, CSV.")],
    queries: Annotated[str, typer.Argument(help="Query vectors (Q, d).")],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Where to write; the suffix names the format; - prints TREC."
        ),
    ] = "-",
    k: Annotated[int, typer.Option("-k", help="How many items a query.")] = 10,
    metric: Annotated[str, typer.Option(help="dot, cosine or l2 (the negated squared distance).")] = "dot",
    exclude: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Pairs never to return: query, item columns, TREC, or a (Q, N) CSR .npz."
        ),
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Item ids, one per row of ITEMS: text, .npy, FILE:COLUMN."),
    ] = None,
    query_ids: Annotated[
        str | None, typer.Option(metavar="FILE", help="Query ids, one per row of QUERIES.")
    ] = None,
    bias: Annotated[
        str | None, typer.Option(metavar="FILE", help="A number per item, added to its scores.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out items that score less.")] = None,
    precision: Annotated[
        str, typer.Option(help="auto, int8 or float32: speed and memory, never the answer.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Threads to use.", show_default="all processors")
    ] = None,
    tag: Annotated[str, typer.Option(help="The name of the run in TREC output.")] = "fastrec",
) -> None:
    """Find the k best items of each query, exactly: by score descending, then by row ascending.

    Writes query, rank, item, score (Parquet, CSV, TSV, JSONL), TREC lines, or arrays ids and scores (.npz).
    Without --ids and --query-ids, items and queries are numbered by row, from 0.

    \b
    Examples:
      fastrec topk items.npy users.npy -k 100 --exclude seen.npz --out top.parquet
      fastrec topk items.npz:emb queries.npy --metric cosine --ids items.parquet:sku --out run.trec
      fastrec topk items.npy users.npy | head
    """
    from fastrec import Index
    from fastrec._core import checks
    from fastrec._core import threads as counts
    from fastrec.cli.common import STDOUT, check_output, note, progress, split_key
    from fastrec.data import IdMap, read_labels, read_matrix, read_vector, write_topk
    from fastrec.data.writing import trec_run

    checks.integer(k, "-k", low=1)
    checks.choice(metric, "--metric", ("dot", "cosine", "l2"))
    checks.choice(precision, "--precision", ("auto", "int8", "float32"))
    counts.resolve(threads)
    check_output(out, SUFFIXES, stdout=True)
    vectors = read_matrix(*split_key(items))
    wanted = read_matrix(*split_key(queries))
    if vectors.shape[1] != wanted.shape[1]:
        raise ValueError(
            f"{queries}: expected {vectors.shape[1]} columns, as {items} has {vectors.shape}; got {wanted.shape}"
        )
    labels = _labels(ids, len(vectors), items, read_labels, split_key)
    names = _labels(query_ids, len(wanted), queries, read_labels, split_key)
    excluded = None
    if exclude is not None:
        item_map = IdMap(range(len(vectors)) if labels is None else labels)
        query_map = IdMap(range(len(wanted)) if names is None else names)
        excluded, strangers = read_exclusions(exclude, query_map, item_map)
        if strangers:
            note(
                f"{exclude}: {strangers:,} pairs name a query or an item that is not here; they exclude nothing"
            )
    terms = None if bias is None else read_vector(*split_key(bias))
    index = Index._for_queries(len(wanted), vectors, metric, terms, labels, precision, threads)
    tops = []
    with progress("searching", len(wanted)) as advance:
        for start in range(0, max(len(wanted), 1), BATCH):
            rows = slice(start, start + BATCH)
            mask = None if excluded is None else excluded[rows]
            tops.append(index.topk(wanted[rows], k, exclude=mask, min_score=min_score, threads=threads))
            advance(len(tops[-1]))
    top = join(tops)
    if out == STDOUT:
        typer.echo(trec_run(top.to_frame(names), tag), nl=False)
    else:
        if Path(out).suffix == ".npz":
            write_topk(top, out, names)
        else:
            _write_ranked(top, out, names, tag)
        note(f"wrote {out}: {int(top.counts.sum()):,} items for {len(top):,} queries")


def join(tops: list[TopK]) -> TopK:
    """Consecutive batches of queries as one."""
    import numpy as np

    from fastrec.ranking import TopK

    rows = np.concatenate([top.rows for top in tops])
    return TopK(rows, np.concatenate([top.scores for top in tops]), tops[0].labels)


def read_exclusions(path: str, queries: IdMap, items: IdMap) -> tuple[csr_matrix, int]:
    """The pairs of a file as CSR (queries, items), and how many of them name a query or an item that is not
    there.
    """
    import numpy as np
    from scipy.sparse import csr_matrix

    from fastrec.cli.common import split_key
    from fastrec.data import read_features, read_truth
    from fastrec.data.formats import format_of, open_path

    shape = (len(queries), len(items))
    file, key = split_key(path)
    if format_of(open_path(file)) == "npz":
        mask = read_features(file, key)
        if mask.shape != shape or isinstance(mask, np.ndarray):
            kind = "a dense array" if isinstance(mask, np.ndarray) else "a sparse matrix"
            raise ValueError(
                f"{path}: expected a SciPy CSR matrix of shape {shape}; got {kind} of shape {mask.shape}"
            )
        return mask, 0
    pairs = read_truth(file)
    row, column = _places(queries, pairs["query"]), _places(items, pairs["item"])
    known = (row >= 0) & (column >= 0)
    if len(pairs) and not known.any():
        shown = tuple(pairs.iloc[0, :2])
        raise ValueError(
            f"{path}: expected ids of these queries and items; not one pair matches, the first is {shown}"
        )
    ones = np.ones(int(known.sum()), np.float32)
    matrix = csr_matrix((ones, (row[known], column[known])), shape=shape)
    return matrix, int((~known).sum())


def _places(ids: IdMap, values: Any) -> np.ndarray:
    """Rows of ``values`` in ``ids``, -1 where there is none; "7" in a file of text finds the integer id 7,
    and 7 finds "7".
    """
    import numpy as np

    text = np.asarray(values).dtype.kind not in "iu"
    if ids.labels.dtype.kind in "iu" and text:
        from fastrec.data import IdMap

        ids = IdMap(ids.labels.astype(str).astype(object))
    elif ids.labels.dtype.kind not in "iu" and not text:
        values = np.asarray(values).astype(str).astype(object)
    return ids.rows(values, unknown="-1")


def _labels(path: str | None, size: int, owner: str, read: Any, split: Any) -> np.ndarray | None:
    if path is None:
        return None
    labels = read(*split(path))
    if len(labels) != size:
        raise ValueError(f"{path}: expected {size} ids, one per row of {owner}; got {len(labels)}")
    return labels


def _write_ranked(top: TopK, path: str, names: Any, tag: str) -> None:
    from fastrec.data import write_frame, write_run
    from fastrec.data.formats import format_by_suffix

    frame = top.to_frame(names)
    if format_by_suffix(Path(path)) is None:
        write_run(frame, path, tag)
    else:
        write_frame(frame, path)
