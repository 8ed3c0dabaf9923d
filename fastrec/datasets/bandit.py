"""Open Bandit: logged impressions with clicks and the probabilities with which they were shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastrec._core import checks
from fastrec.datasets.catalogue import FILES, Card

if TYPE_CHECKING:
    import pandas as pd
    from scipy.sparse import csr_matrix

CAMPAIGNS = {"all": 80, "men": 34, "women": 46}
POLICIES = ("random", "bts")
_USER = [f"user_feature_{i}" for i in range(4)]
_ITEM = [f"item_feature_{i}" for i in range(1, 4)]


@dataclass(frozen=True, slots=True, repr=False)
class OpenBandit:
    """Impressions of the recommendation slots of a fashion shop, 2019-11-24 to 30, 10,000 for each policy and
    campaign.

    ``load("open_bandit", policy="random", campaign="all")``: ``policy`` is ``"random"`` (each item equally
    likely), ``"bts"`` (Bernoulli Thompson sampling) or ``"both"``; ``campaign`` is ``"all"`` (80 items),
    ``"men"`` (34) or ``"women"`` (46).

    Attributes
    ----------
    impressions : pandas.DataFrame
        ``policy`` (str), ``timestamp`` (UTC), ``item`` (0..n_items-1), ``position`` (1 to 3: left, centre,
        right), ``click`` (0 or 1; 0.4 to 0.7 % are 1), ``propensity`` (float64: the probability with which
        the policy showed this item here), ``user_feature_0`` to ``_3`` (hashed strings).
    items : pandas.DataFrame
        ``item``, ``item_feature_0`` (float64), ``item_feature_1`` to ``_3`` (hashed strings).
    affinity : (n, n_items) CSR, float64
        How often this user clicked each item before; 0.06 % of it is not zero.
    n_items : int
    card : Card
        Licence, citation, source.

    Notes
    -----
    A log has but 38 to 69 clicks: what is estimated from it is noisy, and its confidence interval belongs
    beside it.
    """

    impressions: pd.DataFrame
    items: pd.DataFrame
    affinity: csr_matrix
    n_items: int
    card: Card

    @classmethod
    def _load(cls, card: Card, policy: str = "random", campaign: str = "all") -> OpenBandit:
        import pyarrow.parquet as pq
        from scipy.sparse import csr_matrix

        checks.choice(policy, "policy", (*POLICIES, "both"))
        checks.choice(campaign, "campaign", CAMPAIGNS)
        filters = [("campaign", "==", campaign)]
        if policy != "both":
            filters.append(("policy", "==", policy))
        table = pq.read_table(FILES / "open_bandit_impressions.parquet", filters=filters).combine_chunks()
        lists = table["affinity"].combine_chunks()
        n_items = CAMPAIGNS[campaign]
        indptr = np.r_[0, np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))].astype(np.int32)
        columns = table["affinity_item"].combine_chunks().flatten().to_numpy().astype(np.int32)
        affinity = csr_matrix((lists.flatten().to_numpy(), columns, indptr), shape=(len(table), n_items))
        frame = table.drop_columns(["campaign", "affinity", "affinity_item"]).to_pandas()
        for name in ("item", "position", "click"):
            frame[name] = frame[name].astype(np.int64)
        for name in ("policy", *_USER):
            frame[name] = frame[name].astype(str)
        items = pq.read_table(FILES / "open_bandit_items.parquet", filters=filters[:1]).to_pandas()
        items = items.drop(columns="campaign").astype({"item": np.int64})
        return cls(frame, items, affinity, n_items, card)

    def features(self) -> tuple[csr_matrix, np.ndarray, list[str]]:
        """A one-hot design for click models: ``(X, y, names)``.

        Returns
        -------
        X : (n, p) CSR, float32
            One column for each position, item, value of a user feature and value of an item feature, 1 where
            it applies; then ``item_feature_0`` and the user's affinity to the item shown, as they are.
        y : (n,) int64
            The clicks.
        names : list of str
            The p columns, such as ``"position=1"``.
        """
        from scipy.sparse import csr_matrix, hstack

        rows = self.impressions
        shown = self.items.set_index("item").loc[rows["item"]]
        parts, names = [], []
        factors = {"position": rows["position"], "item": rows["item"]}
        factors |= {name: rows[name] for name in _USER} | {name: shown[name] for name in _ITEM}
        for name, values in factors.items():
            levels, codes = np.unique(values.to_numpy(), return_inverse=True)
            data = (np.ones(len(codes), np.float32), codes, np.arange(len(codes) + 1))
            parts.append(csr_matrix(data, shape=(len(codes), len(levels))))
            names += [f"{name}={level}" for level in levels]
        liked = np.asarray(self.affinity[np.arange(len(rows)), rows["item"].to_numpy()]).ravel()
        numbers = np.column_stack([shown["item_feature_0"].to_numpy(), liked])
        parts.append(csr_matrix(numbers.astype(np.float32)))
        names += ["item_feature_0", "affinity"]
        return hstack(parts, format="csr"), rows["click"].to_numpy(), names

    def __repr__(self) -> str:
        clicks = int(self.impressions["click"].sum())
        return (
            f"<open_bandit: {len(self.impressions):,} impressions of {self.n_items} items, {clicks} clicks>"
        )
