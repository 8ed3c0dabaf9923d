"""What the cases work on: seeded synthetic embeddings and labels, and the real data that ships in the wheel."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastrec as fr
from fastrec.benchmarks.harness import Lab, Skip


def embeddings(lab: Lab, queries: int, items: int, d: int, norms: str) -> tuple[np.ndarray, np.ndarray]:
    """Normally distributed directions; item norms all equal (nothing can be stopped early) or drawn from gamma(2)."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        rng = lab.rng(f"embeddings {queries} {items} {d}")
        vectors = rng.standard_normal((items, d), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if norms == "gamma":
            vectors *= rng.gamma(2.0, size=(items, 1)).astype(np.float32)
        return rng.standard_normal((queries, d), np.float32), vectors

    return lab.shared(f"embeddings {queries} {items} {d} {norms}", make)


def random_csr(rng: np.random.Generator, rows: int, columns: int, a_row: int) -> Any:
    """A CSR matrix of ones with ``a_row`` sorted random columns in each row."""
    from scipy.sparse import csr_matrix

    indices = np.concatenate([np.sort(rng.choice(columns, a_row, replace=False)) for _ in range(rows)])
    return csr_matrix(
        (np.ones(rows * a_row, np.float32), indices.astype(np.int32), np.arange(rows + 1) * a_row),
        shape=(rows, columns),
    )


@dataclass(frozen=True)
class Labelled:
    """Rows and 0/1 labels, split into a training and a test part."""

    X: Any
    y: np.ndarray
    X_test: Any
    y_test: np.ndarray


def labelled(lab: Lab, rows: int, columns: int) -> Labelled:
    """Normal features and labels drawn from a logistic model with a third of positives."""

    def make() -> Labelled:
        rng = lab.rng(f"labelled {rows} {columns}")
        features = rng.standard_normal((rows, columns), np.float32)
        slopes = rng.standard_normal(columns) / np.sqrt(columns)
        chance = 1 / (1 + np.exp(-(features @ slopes * 1.5 - 0.9)))
        y = (rng.random(rows) < chance).astype(np.int64)
        cut = rows * 4 // 5
        return Labelled(features[:cut], y[:cut], features[cut:], y[cut:])

    return lab.shared(f"labelled {rows} {columns}", make)


@dataclass(frozen=True)
class Purchases:
    """The Complete Journey: what households bought in a first window, and which new products in a later one.

    ``users`` and ``items`` are the factors of a truncated SVD of log(1 + times bought) in the first window; ``seen``
    and ``later`` are CSR matrices, households x products, without overlap.
    """

    users: np.ndarray
    items: np.ndarray
    seen: Any
    later: Any
    popularity: np.ndarray
    train_weeks: str
    test_weeks: str

    def recommended(self, lab: Lab, k: int = 100) -> Any:
        """The k best products by factors for every household, none that it has bought before."""
        return fr.Index(self.items).topk(self.users, k, exclude=self.seen, threads=lab.threads)

    def popular(self, lab: Lab, k: int = 100) -> Any:
        """The k products that most households bought, without those that this one has."""
        one = np.ones((len(self.users), 1), np.float32)
        return fr.Index(self.popularity[:, None]).topk(one, k, exclude=self.seen, threads=lab.threads)


def purchases(lab: Lab, *, factors: int = 64, test_weeks: int = 6) -> Purchases:
    """The purchases that ship in the wheel, split by week; prepared once a run, the same for every seed."""
    return lab.shared("purchases", lambda: _purchases(factors, test_weeks))


def _purchases(factors: int, test_weeks: int) -> Purchases:
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import svds

    rows = fr.datasets.load("complete_journey").purchases
    households, user = np.unique(rows["household"].to_numpy(), return_inverse=True)
    products, item = np.unique(rows["product"].to_numpy(), return_inverse=True)
    week = rows["week"].to_numpy()
    first, last = int(week.min()), int(week.max())
    late = week > last - test_weeks
    shape = (len(households), len(products))

    def counts(which: np.ndarray) -> Any:
        bought = csr_matrix((np.ones(which.sum()), (user[which], item[which])), shape=shape)
        bought.sum_duplicates()
        return bought

    seen, later = counts(~late), counts(late)
    later = later - later.multiply(seen > 0)
    later.eliminate_zeros()
    judged = np.flatnonzero(np.diff(later.indptr))  # households that bought something new later
    factored = seen.copy()
    factored.data = np.log1p(factored.data)
    left, values, right = svds(factored, k=factors, v0=np.ones(min(shape)))
    root = np.sqrt(values)
    later.data[:], seen.data[:] = 1.0, 1.0
    return Purchases(
        users=np.ascontiguousarray((left * root)[judged], np.float32),
        items=np.ascontiguousarray(right.T * root, np.float32),
        seen=seen[judged].tocsr(),
        later=later[judged].tocsr(),
        popularity=np.asarray(seen.sum(axis=0), np.float32).ravel(),
        train_weeks=f"weeks {first} to {last - test_weeks}",
        test_weeks=f"weeks {last - test_weeks + 1} to {last}",
    )


def _data(lab: Lab, *names: str) -> list[Path]:
    """Files of the folder that the environment variable FASTREC_DATA names; what is not there skips the case."""
    if lab.scale == "quick":
        raise Skip("left out of --quick")
    folder = os.environ.get("FASTREC_DATA")
    if not folder:
        raise Skip("its data is not in the package: set FASTREC_DATA to the folder that holds it")
    paths = [Path(folder, name) for name in names]
    for path in paths:
        if not path.is_file():
            raise Skip(f"FASTREC_DATA has no {path.relative_to(folder)}")
    return paths


def journey(lab: Lab) -> tuple[np.ndarray, np.ndarray]:
    """Factors (d = 64) of all households and all products of the whole Complete Journey.

    By implicit's alternating least squares where it is installed, else by a truncated SVD of log(1 + times bought).
    """
    return lab.shared("journey", lambda: _journey(lab, 64))


def _journey(lab: Lab, factors: int) -> tuple[np.ndarray, np.ndarray]:
    import pandas as pd
    from scipy.sparse import csr_matrix

    (path,) = _data(lab, "complete_journey/transactions.parquet")
    rows = pd.read_parquet(path, columns=["household_id", "product_id"])
    households, user = np.unique(rows["household_id"].to_numpy(), return_inverse=True)
    products, item = np.unique(rows["product_id"].to_numpy(), return_inverse=True)
    bought = csr_matrix((np.ones(len(rows), np.float32), (user, item)), (len(households), len(products)))
    bought.sum_duplicates()
    if lab.peer("implicit"):
        from implicit.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(factors, num_threads=lab.threads, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(bought, show_progress=False)
        return model.user_factors, model.item_factors
    from scipy.sparse.linalg import svds

    bought.data = np.log1p(bought.data)
    left, values, right = svds(bought, k=factors, v0=np.ones(min(bought.shape), np.float32))
    root = np.sqrt(values)
    return np.ascontiguousarray(left * root, np.float32), np.ascontiguousarray(right.T * root, np.float32)


def sentences(lab: Lab) -> tuple[np.ndarray, np.ndarray]:
    """(285, 384) queries and (49,050, 384) product texts as a sentence encoder places them."""
    items = ("chorus_icecat/product", "esci_sample/product", "online_retail/item", "complete_journey/text")
    queries = ("chorus_icecat/query", "esci_sample/query")

    def read(names: tuple[str, ...]) -> np.ndarray:
        paths = _data(lab, *(f"{name}_emb_minilm_f16.npz" for name in names))
        return np.concatenate([np.load(path)["emb"] for path in paths]).astype(np.float32)

    return lab.shared("sentences", lambda: (read(queries), read(items)))


CLICK_L2 = 1e-3
TRAIN_SHARE = 0.7  # of the impressions, by time


def clicks(lab: Lab) -> Labelled:
    """The logged impressions of the random policy and of Thompson sampling, split by time."""
    return lab.shared("clicks", _clicks)


def _clicks() -> Labelled:
    """All three campaigns below one another; columns of the same name are one, those of items are a campaign's own."""
    from scipy.sparse import csr_matrix, vstack

    logs = {
        name: fr.datasets.load("open_bandit", policy="both", campaign=name)
        for name in ("all", "men", "women")
    }
    parts = {name: log.features() for name, log in logs.items()}
    columns: dict[str, int] = {}
    blocks = []
    for campaign, (features, _, names) in parts.items():
        own = [f"{campaign} {name}" if name.startswith("item") else name for name in names]
        at = [columns.setdefault(name, len(columns)) for name in own]
        coo = features.tocoo()
        blocks.append((coo.data, (coo.row, np.array(at)[coo.col]), coo.shape[0]))
    X = vstack(
        [
            csr_matrix((data, where), shape=(rows, len(columns)), dtype=np.float32)
            for data, where, rows in blocks
        ],
        format="csr",
    )
    X.sort_indices()
    y = np.concatenate([labels for _, labels, _ in parts.values()])
    when = np.concatenate([log.impressions["timestamp"].astype("int64").to_numpy() for log in logs.values()])
    order = np.argsort(when, kind="stable")
    cut = int(len(order) * TRAIN_SHARE)
    first, later = order[:cut], order[cut:]
    return Labelled(X[first], y[first], X[later], y[later])


def click_model(lab: Lab) -> Any:
    """The logistic model of the studies of clicks, unfitted."""
    return fr.models.LogisticRegression(solver="lbfgs", l2=CLICK_L2, threads=lab.threads)
