"""Record what another library makes of the queries in ``queries.py``, where it does not install beside the rest.

    python -m venv v && v/bin/pip install rectools && v/bin/python tests/evaluation/recorded/record.py rectools

writes ``rectools.json``: the library's version, and for each of its metrics the value of every query that it gives one
(queries it leaves out are not there).  ``rectools``, ``recbole``, ``lenskit`` and ``ranx``.  The tests compare each
with the preset of that name, query by query.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from queries import collection, relevant

CUTOFFS = (1, 3, 10)
Values = dict[str, dict[str, float]]


def rectools() -> Values:
    import pandas as pd
    from rectools import metrics as m

    run, truth = collection()
    rows = [(q, item, rank) for q, items in run.items() for rank, item in enumerate(items, start=1)]
    reco = pd.DataFrame(rows, columns=["user_id", "item_id", "rank"])
    rows = [(q, item) for q, items in relevant(truth).items() for item in items]
    interactions = pd.DataFrame(rows, columns=["user_id", "item_id"])
    made: dict[str, Callable[[int], Any]] = {
        "Precision": lambda k: m.Precision(k=k),
        "Precision(r_precision=True)": lambda k: m.Precision(k=k, r_precision=True),
        "Recall": lambda k: m.Recall(k=k),
        "F1Beta": lambda k: m.F1Beta(k=k),
        "F1Beta(beta=2)": lambda k: m.F1Beta(k=k, beta=2),
        "HitRate": lambda k: m.HitRate(k=k),
        "MAP": lambda k: m.MAP(k=k),
        "MAP(divide_by_k=True)": lambda k: m.MAP(k=k, divide_by_k=True),
        "NDCG": lambda k: m.NDCG(k=k),
        "NDCG(divide_by_achievable=True)": lambda k: m.NDCG(k=k, divide_by_achievable=True),
        "MRR": lambda k: m.MRR(k=k),
        "PartialAUC": lambda k: m.PartialAUC(k=k),
        "PAP": lambda k: m.PAP(k=k),
    }
    return {
        f"{name}@{k}": make(k).calc_per_user(reco, interactions).to_dict()
        for name, make in made.items()
        for k in CUTOFFS
    }


def recbole() -> Values:
    import numpy as np

    vars(np)["float"] = float  # RecBole 1.2 uses np.float, which NumPy 1.24 took away
    import torch
    from recbole.evaluator import metrics as m

    width = 20
    run, truth = collection(seed=2, length=width)  # it ranks the whole catalogue: no list is short
    right = {query: items for query, items in relevant(truth).items() if items}  # others it does not evaluate
    found = torch.tensor([[item in right[query] for item in run[query]] for query in right], dtype=torch.int)
    sizes = torch.tensor([[len(items)] for items in right.values()], dtype=torch.int)
    topk = {"rec.topk": torch.cat((found, sizes), dim=1)}
    config = {"topk": [*CUTOFFS, width], "metric_decimal_place": 17}
    values: Values = {}
    for make in (m.Hit, m.MRR, m.MAP, m.Recall, m.NDCG, m.Precision):
        metric = make(config)
        index, lengths = metric.used_info(topk)
        needs_lengths = make in (m.MAP, m.Recall, m.NDCG)
        table = metric.metric_info(index, lengths) if needs_lengths else metric.metric_info(index)
        for k in (*CUTOFFS, width):
            values[f"{make.__name__}@{k}"] = dict(zip(right, np.asarray(table, float)[:, k - 1].tolist()))
    return values


def lenskit() -> Values:
    import numpy as np
    from lenskit.data import ItemList
    from lenskit.metrics import ranking as m

    run, truth = collection()
    right = relevant(truth)
    number = {f"d{i}": i for i in range(100)}
    graded = {
        query: ItemList(
            np.array([number[item] for item in right[query]], np.int64),
            rating=np.array([truth[query][item] for item in right[query]], np.float64),
        )
        for query in truth
    }
    lists = {query: ItemList([number[item] for item in items], ordered=True) for query, items in run.items()}
    made: dict[str, Callable[[int], Any]] = {
        "Precision": lambda k: m.Precision(k),
        "Recall": lambda k: m.Recall(k),
        "Hit": lambda k: m.Hit(k),
        "RecipRank": lambda k: m.RecipRank(k),
        "AveragePrecision": lambda k: m.AveragePrecision(k),
        "NDCG": lambda k: m.NDCG(k),
        "NDCG(gain='rating')": lambda k: m.NDCG(k, gain="rating"),
        "DCG": lambda k: m.DCG(k),
        "RBP": lambda k: m.RBP(k),
        "RBP(patience=0.8)": lambda k: m.RBP(k, patience=0.8),
        "RBP(normalize=True)": lambda k: m.RBP(k, normalize=True),
    }
    values: Values = {}
    for name, make in made.items():
        for k in CUTOFFS:
            metric, of = make(k), {}
            for query, items in lists.items():  # as RunAnalysis does, which leaves out what has no list
                try:
                    value = float(metric.measure_list(items, graded[query]))
                except (
                    ZeroDivisionError
                ):  # average precision without a relevant item, normalised RBP without an item
                    continue
                of[query] = metric.default if math.isnan(value) else value
            values[f"{name}@{k}"] = of
    return values


def ranx() -> Values:
    """It installs beside the rest, but compiles for a minute or two before it answers."""
    import ranx

    run, truth = collection()
    run = {query: items for query, items in run.items() if items}  # it cannot hold an empty list
    qrels, lists = ranx.Qrels(truth), ranx.Run(run)
    names = ["hits", "hit_rate", "precision", "recall", "f1", "mrr", "map", "dcg", "ndcg", "ndcg_burges"]
    wanted = [
        *(f"{name}@{k}" for name in names for k in CUTOFFS),
        "r-precision",
        "rbp.80",
        "map",
        "mrr",
        "ndcg",
    ]
    found = ranx.evaluate(qrels, lists, wanted, return_mean=False, make_comparable=True)
    return {name: dict(zip(sorted(truth), map(float, values))) for name, values in found.items()}


LIBRARIES = {"rectools": rectools, "recbole": recbole, "lenskit": lenskit, "ranx": ranx}


def main() -> None:
    for name in sys.argv[1:]:
        values = LIBRARIES[name]()
        queries = sorted({query for column in values.values() for query in column})
        table = {
            metric: [None if math.isnan(column.get(query, math.nan)) else column[query] for query in queries]
            for metric, column in values.items()
        }
        left_out = {metric: sorted(set(queries) - set(column)) for metric, column in values.items()}
        recorded = {
            "library": name,
            "version": importlib.metadata.version(name),
            "queries": queries,
            "values": table,
            "left_out": {metric: missing for metric, missing in left_out.items() if missing},
        }
        path = Path(__file__).with_name(f"{name}.json")
        path.write_text(json.dumps(recorded, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
