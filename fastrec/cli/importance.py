"""``fastrec importance``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".feather", ".npz")


@dataclass(frozen=True)
class LinearModel:
    """A logistic model's coefficients, as scikit-learn names them."""

    coef_: np.ndarray
    intercept_: np.ndarray
    classes_: np.ndarray


def importance(
    features: Annotated[
        str, typer.Argument(help="Features (n, d): .npy, .npz[:KEY], SciPy CSR .npz, Parquet, CSV.")
    ],
    labels: Annotated[
        str | None,
        typer.Argument(help="Labels (n,), two classes: .npy, text, FILE:COLUMN.", show_default=False),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The label is this column of FEATURES, a table.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE", help="Write row, importance[, weight].")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="grad_norm, loss, error, el2n, confidence, margin, uncertainty, input_norm, grad_norm_last."
        ),
    ] = "grad_norm",
    select: Annotated[
        float | None,
        typer.Option(metavar="FRACTION", help="Keep this share of the rows, and write only those."),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="stratified, sample (weighted), top, bottom, random or stratified_random.")
    ] = "stratified",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Coefficients: .npz with coef, intercept; or an array of d (+1) numbers."
        ),
    ] = None,
    save_model: Annotated[
        str | None, typer.Option(metavar="FILE", help="Save the fitted coefficients (.npz).")
    ] = None,
    l2: Annotated[
        float | None,
        typer.Option(help="L2 penalty of the fit, on the mean loss.", show_default="1/n: scikit-learn's C=1"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the strategies that draw.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Threads to use.", show_default="all processors")
    ] = None,
) -> None:
    """Tell how much each training sample matters to a logistic model, and keep those that matter.

    Fits the model, or takes --model; then scores every row: by default the norm of its gradient, |p - y| |(x,
    1)|. Larger always means that a row matters more.  With --select, writes the rows to keep and the weight
    each needs in training (1, but for --strategy sample).

    \b
    Examples:
      fastrec importance X.npy y.npy --out importance.parquet
      fastrec importance table.parquet --label click --select 0.1 --out keep.csv
      fastrec importance X.npz y.npy --model model.npz --method loss
    """
    import fastrec as fr
    from fastrec._core import checks
    from fastrec.cli.common import check_output, note

    check_output(out, SUFFIXES)
    check_output(save_model, (".npz",))
    if (labels is None) == (label is None):
        raise ValueError("give the labels once: as the second argument, or as --label COLUMN of the first")
    if select is not None:
        checks.number(select, "--select", low=0.0, high=1.0)
    x, y = _read(features, labels, label)
    fitted: Any
    if model is None:
        l2 = 1 / len(y) if l2 is None else checks.number(l2, "--l2", low=0.0)
        fitted = fr.models.LogisticRegression(solver="lbfgs", l2=l2, threads=threads).fit(x, y)
    else:
        fitted = _load(model, x.shape[1], y)
    if save_model is not None:
        _save(fitted, save_model)
        note(f"wrote {save_model}")
    scores = fr.importance(fitted, x, y, method, threads=threads)
    kept = None
    if select is not None:
        kept = fr.select(scores, fraction=select, strategy=strategy, y=y, seed=seed, threads=threads)
    if out is None:
        _show(scores, y, kept, method)
    else:
        _write(scores, kept, out)
        note(f"wrote {out}: {len(scores) if kept is None else len(kept):,} of {len(scores):,} rows")


def _read(features: str, labels: str | None, label: str | None) -> tuple[Any, np.ndarray]:
    """The features and the labels, from two files or from one table."""
    import numpy as np

    from fastrec.cli.common import split_key
    from fastrec.data import read_features, read_frame, read_vector

    if labels is not None:
        x = read_features(*split_key(features))
        y = read_vector(*split_key(labels))
        owner = labels
    else:
        table = read_frame(features)
        if label not in table.columns:
            raise ValueError(
                f"{features}: expected a column {label!r}; got columns {', '.join(map(str, table.columns))}"
            )
        y = table.pop(label).to_numpy()
        for name in table.columns:
            if table[name].dtype.kind not in "fiub":
                raise ValueError(
                    f"{features}: expected numbers besides {label!r}; got {name!r} of type {table[name].dtype}"
                )
        x = table.to_numpy(np.float64)
        owner = features
    if len(y) != x.shape[0]:
        raise ValueError(f"{owner}: expected {x.shape[0]} labels, one per row of {features}; got {len(y)}")
    if y.dtype.kind == "f":
        if np.isnan(y).any():
            raise ValueError(
                f"{owner}: expected a label in every row; got NaN in row {np.isnan(y).argmax() + 1}"
            )
        if (y == np.round(y)).all():
            y = y.astype(np.int64)
    classes = np.unique(y)
    if len(classes) != 2:
        shown = ", ".join(map(str, classes[:5].tolist())) + (", ..." if len(classes) > 5 else "")
        raise ValueError(f"{owner}: expected labels of two classes; got {len(classes)}: {shown}")
    return x, y


def _load(path: str, columns: int, y: np.ndarray) -> LinearModel:
    """Coefficients from ``.npz`` (``coef``, ``intercept``), or from one array of d or d + 1 numbers,
    intercept last.
    """
    import numpy as np

    from fastrec.cli.common import split_key
    from fastrec.data import read_arrays, read_vector
    from fastrec.data.formats import format_of, malformed, open_path

    file, key = split_key(path)
    classes = np.unique(y)
    if key is None and format_of(open_path(file)) == "npz":
        arrays = read_arrays(file)
        if "coef" not in arrays:
            raise malformed(file, None, "arrays coef and intercept", f"arrays {', '.join(arrays)}")
        coef = np.ravel(arrays["coef"]).astype(np.float64)
        intercept = np.ravel(arrays.get("intercept", np.zeros(1))).astype(np.float64)
    else:
        coef, intercept = read_vector(file, key), np.zeros(1)
        if len(coef) == columns + 1:
            coef, intercept = coef[:-1], coef[-1:]
    if len(coef) != columns or len(intercept) != 1:
        raise malformed(file, None, f"{columns} coefficients, one per feature", f"{len(coef)}")
    return LinearModel(coef.reshape(1, -1), intercept, classes)


def _save(fitted: Any, path: str) -> None:
    import numpy as np

    from fastrec._core.files import replacing

    with replacing(path) as temporary:
        np.savez(
            temporary,
            coef=np.ravel(fitted.coef_),
            intercept=np.ravel(fitted.intercept_),
            classes=fitted.classes_,
        )


def _frame(scores: np.ndarray, kept: Any) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    if kept is None:
        return pd.DataFrame({"row": np.arange(len(scores)), "importance": scores})
    return pd.DataFrame({"row": kept.index, "importance": scores[kept.index], "weight": kept.weight})


def _write(scores: np.ndarray, kept: Any, path: str) -> None:
    import numpy as np

    from fastrec._core.files import replacing
    from fastrec.data import write_frame

    frame = _frame(scores, kept)
    if Path(path).suffix != ".npz":
        write_frame(frame, path)
        return
    with replacing(path) as temporary:
        np.savez(temporary, **{name: frame[name].to_numpy() for name in frame})


def _show(scores: np.ndarray, y: np.ndarray, kept: Any, method: str) -> None:
    """What one looks at first: the spread of the importances in each class, and the rows that matter most."""
    import numpy as np
    import pandas as pd

    from fastrec.cli.common import show

    rows = []
    for name in np.unique(y):
        of_class = scores[y == name].astype(np.float64)
        quantiles = np.quantile(of_class, [0.5, 0.9, 0.99, 1.0])
        row = {"label": str(name), "rows": len(of_class), "mean": of_class.mean()}
        row |= dict(zip(("median", "90 %", "99 %", "max"), quantiles))
        if kept is not None:
            row["kept"] = int((y[kept.index] == name).sum())
        rows.append(row)
    typer.echo(f"importance by {method}, {len(scores):,} rows\n")
    show(pd.DataFrame(rows))
    order = np.lexsort((np.arange(len(scores)), -scores))[:10]
    typer.echo("\nthe rows that matter most (--out FILE writes them all)")
    show(
        pd.DataFrame(
            {
                "row": order.astype(str),
                "label": y[order].astype(str),
                "importance": scores[order].astype(np.float64),
            }
        )
    )
