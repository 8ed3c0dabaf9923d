"""Record what other libraries make of the lists in ``shop.py``: their metrics beyond accuracy.

    python -m venv v && v/bin/pip install rectools && v/bin/python tests/evaluation/recorded/record_catalog.py rectools

writes ``rectools_catalog.json``: the library's version, and the value of each of its metrics, or of each user's list.
``rectools``, ``recbole`` and ``lenskit``.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from shop import ITEMS, USERS, shop

CUTOFFS = (1, 3, 8)
Values = dict[str, float | list[float]]


def rectools() -> Values:
    import numpy as np
    import pandas as pd
    from rectools import metrics as m
    from rectools.metrics.distances import PairwiseDistanceCalculator

    made = shop()

    def pairs(lists: list[list[int]]) -> Any:
        rows = [(user, item, rank) for user, items in enumerate(lists) for rank, item in enumerate(items, 1)]
        return pd.DataFrame(rows, columns=["user_id", "item_id", "rank"])

    reco, had, wanted = pairs(made.lists), pairs(made.history), pairs(made.wanted)
    vectors = np.array(made.vectors, np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    class Cosine(PairwiseDistanceCalculator):  # type: ignore[misc]
        def _get_distances_for_item_pairs(self, items_0: Any, items_1: Any) -> Any:
            return 1.0 - (units[np.asarray(items_0)] * units[np.asarray(items_1)]).sum(axis=1)

    values: Values = {}
    for k in CUTOFFS:
        values[f"CatalogCoverage(normalize=True)@{k}"] = m.CatalogCoverage(k, normalize=True).calc(
            reco, range(ITEMS)
        )
        values[f"CatalogCoverage@{k}"] = float(m.CatalogCoverage(k).calc(reco, range(ITEMS)))
        values[f"SufficientReco@{k}"] = float(m.SufficientReco(k).calc(reco))
        for name, by_user in {
            "AvgRecPopularity": m.AvgRecPopularity(k).calc_per_user(reco, had),
            "MeanInvUserFreq": m.MeanInvUserFreq(k).calc_per_user(reco, had),
            "Serendipity": m.Serendipity(k).calc_per_user(reco, wanted, had, range(ITEMS)),
            "IntraListDiversity": m.IntraListDiversity(k, Cosine()).calc_per_user(reco),
        }.items():
            values[f"{name}@{k}"] = by_user.reindex(range(USERS)).tolist()
    return values


def recbole() -> Values:
    import numpy as np

    vars(np)["float"] = float  # RecBole 1.2 uses np.float, which NumPy 1.24 took away
    import torch
    from recbole.evaluator import metrics as m

    made = shop(full=True)  # it ranks the whole catalogue: no list is short
    held = {
        "rec.items": torch.tensor(made.lists),
        "data.num_items": ITEMS,
        "data.count_items": Counter(item for items in made.history for item in items),
    }
    config = {"topk": list(CUTOFFS), "metric_decimal_place": 17, "tail_ratio": 0.1}
    values: Values = {}
    for make in (m.ItemCoverage, m.AveragePopularity, m.ShannonEntropy, m.GiniIndex):
        found = make(config).calculate_metric(held)
        values |= {f"{make.__name__}@{name.partition('@')[2]}": float(value) for name, value in found.items()}
    return values


def lenskit() -> Values:
    from lenskit.data import ItemList
    from lenskit.metrics import ranking as m

    made = shop()
    lists = [ItemList(items, ordered=True) for items in made.lists]
    values: Values = {}
    for k in CUTOFFS:
        metrics = {
            "ListGini": m.ListGini(k, items=ITEMS),
            "ExposureGini(weight=LogRankWeight(offset=1))": m.ExposureGini(
                k, items=ITEMS, weight=m.LogRankWeight(offset=1)
            ),
        }
        for name, metric in metrics.items():
            data = [metric.compute_list_data(one, ItemList([])) for one in lists]
            values[f"{name}@{k}"] = float(metric.global_aggregate(data))
    return values


LIBRARIES = {"rectools": rectools, "recbole": recbole, "lenskit": lenskit}


def main() -> None:
    for name in sys.argv[1:]:
        recorded = {
            "library": name,
            "version": importlib.metadata.version(name),
            "values": LIBRARIES[name](),
        }
        path = Path(__file__).with_name(f"{name}_catalog.json")
        path.write_text(json.dumps(recorded, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
