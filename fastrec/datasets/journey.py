"""The Complete Journey: grocery purchases with timestamps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastrec.datasets.catalogue import FILES, Card

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, repr=False)
class CompleteJourney:
    """Half a year of the purchases of 2,402 households in one grocery chain.

    Attributes
    ----------
    purchases : pandas.DataFrame, 605,891 rows
        One row a product in a basket, sorted by household, then time: ``household`` (int), ``basket`` (int,
        numbered from 0 here), ``product`` (int), ``timestamp`` (local, to the second), ``week`` (27 to 53 of
        2017), ``store`` (int), ``quantity`` (int; 0 where only a discount was booked, and in thousandths of a
        gallon for fuel), ``sales_value`` (float64, US dollars).
    products : pandas.DataFrame, 10,286 rows
        ``product, manufacturer, department, brand`` ("National" or "Private"), ``category, type,
        package_size``; all but ``product`` are missing for a few.
    households : pandas.DataFrame, 801 rows
        Demographics of a third of the households: ``household, age, income, home_ownership, marital_status,
        household_size, household_comp, kids_count``, all strings.
    card : Card
        Licence, citation, source.

    Notes
    -----
    The excerpt keeps every household, the weeks from 27 on, and the products that at least 20 households
    bought in the whole year; that last rule looks at all weeks, so the catalogue itself knows a little of the
    future.  The Python package that carries the data calls them simulated after real shopping; the scripts of
    the R package show one year of dunnhumby's real household panel with its dates moved to 2017.
    """

    purchases: pd.DataFrame
    products: pd.DataFrame
    households: pd.DataFrame
    card: Card

    @classmethod
    def _load(cls, card: Card) -> CompleteJourney:
        import pandas as pd

        rows, baskets, products, households = (
            pd.read_parquet(FILES / f"complete_journey_{name}.parquet")
            for name in ("purchases", "baskets", "products", "households")
        )
        basket = rows["basket"].to_numpy()
        whole = {
            name: baskets[name].to_numpy()[basket] for name in ("household", "timestamp", "week", "store")
        }
        purchases = pd.DataFrame(
            {
                "household": whole["household"].astype(np.int64),
                "basket": basket.astype(np.int64),
                "product": rows["product"].to_numpy().astype(np.int64),
                "timestamp": whole["timestamp"],
                "week": whole["week"].astype(np.int64),
                "store": whole["store"].astype(np.int64),
                "quantity": rows["quantity"].to_numpy().astype(np.int64),
                "sales_value": rows["cents"].to_numpy() / 100,
            }
        )
        products["product"] = products["product"].astype(np.int64)
        households["household"] = households["household"].astype(np.int64)
        return cls(purchases, products, households, card)

    def __repr__(self) -> str:
        return f"<complete_journey: {len(self.purchases):,} purchases of {len(self.products):,} products>"
