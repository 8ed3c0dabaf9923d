"""``evaluate_catalog``: what lists do to a catalogue, beyond accuracy: coverage, concentration, novelty, diversity."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrec._core import arrays
from fastrec.evaluation import catalog_input as reading
from fastrec.evaluation.catalog_lists import Catalog, Lists, Undefined
from fastrec.evaluation.catalog_metrics import METRICS, exposure_shares
from fastrec.evaluation.named_values import NamedValues

if TYPE_CHECKING:
    import pandas as pd

MAX_LISTS = 2**32 - 2


def evaluate_catalog(
    top: Any,
    n_items: int | None = None,
    popularity: Any = None,
    n_users: int | None = None,
    vectors: Any = None,
    categories: Any = None,
    metrics: str | Sequence[str] = reading.DEFAULT_METRICS,
    *,
    history: Any = None,
    truth: Any = None,
    baseline: Any = None,
    item_groups: Any = None,
    target: Any = None,
    items: Any = None,
    tail: float = 0.2,
    alpha: float = 0.01,
    duplicates: str = "error",
    undefined: str = "warn",
    threads: int | None = None,
) -> CatalogEvaluation:
    """What the lists of a recommender do beyond accuracy: coverage, concentration, novelty, diversity, fairness.

    Parameters
    ----------
    top : TopK, (Q, k) integer array, lists of any lengths, or any other run that ``fr.evaluate`` reads
        Item rows ``0..n_items-1``, best first, -1 where a list has no more.  Ids of another kind need ``items``.
        Named lists (of a frame, dict or file) stand in the order that their names first come in, for ``history`` and
        its like; ``per_list`` has the names.
    n_items : int, optional
        Size of the catalogue; taken from the item arguments where one is given.
    popularity : (n_items,) numbers, optional
        How many users (interactions) each item has in the training data.
    n_users : int, optional
        How many users ``popularity`` was counted over.  Metrics that need it take ``popularity`` for numbers of users:
        none may be larger.
    vectors : (n_items, d), optional
        For ``ild``, which takes their cosine.
    categories : (n_items,) labels or (n_items, C) matrix, optional
        One label an item, or any number of them.
    metrics : names, or one name
        ``"coverage@10"`` looks at the first 10 of every list.
    history, truth : SciPy sparse (Q, n_items), optional
        What each list's user had before (gives ``popularity``, and ``n_users`` with it, where that is missing), and
        what is relevant to them.
    baseline : (Q, k) or (k,) item rows, optional
        Lists of an obvious recommender.
    item_groups : (n_items,) labels, optional
    target : mapping of group to share, optional
        The exposure each group is due; by default its share of the catalogue.
    items : (n_items,) ids, optional
        ``top`` (not a TopK) holds these instead of rows; ``None``, NaN and -1 are padding.
    tail : float
        The tail are the items left when the most popular, holding ``1 - tail`` of all interactions, are taken away.
    alpha : float
        Smoothing of ``miscalibration``.
    duplicates : "error" or "count"
        What to do about an item that is listed twice in a list.
    undefined : "warn", "nan" or "error"
        What to do about a metric that has no value: it is NaN and ``result.undefined`` says why.
    threads : int, optional
        Results do not depend on it.

    Returns
    -------
    CatalogEvaluation
        ``result["coverage"]``, ``.values``, ``.counts``, ``.per_list``, ``.exposure``, ``.to_frame()``.
        ``fr.evaluation.CatalogAccumulator`` gives the same from batches.

    Notes
    -----
    Means are over lists that are not empty.

    ================== ===============================================================================================
    coverage           share of the catalogue in at least one list; ``distinct_items``: how many
    user_coverage      share of the lists that hold an item; ``full_lists``: that hold k
    gini               Gini coefficient of the items' list counts, over the whole catalogue; ``gini_exposure``: of
                       their exposure, the sum of 1 / log2(rank + 1)
    entropy            Shannon entropy of the list counts, in bits; ``entropy_normalized``: / log2(n_items)
    popularity         mean popularity of the items (ARP); ``popularity_lift``: relative to the users' own histories,
                       mean over lists / mean over histories - 1 (Abdollahpouri et al., 2020)
    tail_share         share of items from the tail (APLT)
    novelty            mean of -log2(n_i / n_users) (MIUF); an item of popularity 0 counts as 1; ``surprisal``:
                       / log2(n_users); ``self_information``: mean of -log2(n_i / sum of n)
    ild                mean over lists of the mean of 1 - cosine over pairs of items; ``ild_category``: of 1 - Jaccard
                       of their categories; lists below two items are left out
    personalization    1 - mean over pairs of lists of the cosine of their item sets, from item counts alone
    serendipity        mean of relevance x max((n + 1 - rank) / n - (n + 1 - popularity rank) / n, 0), as in RecTools
    unexpectedness     share of a list that the baseline does not hold
    epc                discounted mean of relevance x (1 - n_i / n_users) (Vargas and Castells, 2011); ``efd``: of
                       relevance x -log2(n_i / sum of n)
    exposure_gap       half the sum over item groups of |share of exposure - share due|
    rsp                deviation / mean over item groups of the chance that an item new to a user is in their list;
                       ``reo``: that a relevant one is (Zhu, Wang and Caverlee, 2020); 0 where all are the same
    miscalibration     KL divergence of a user's categories from the list's (Steck, 2018), natural logarithm
    ================== ===============================================================================================

    Lists on a card (a ``TopK`` of a CUDA index, a CuPy or torch matrix) are read there, to 1e-12 of the CPU; what is
    known about items and users is copied to them, and a few numbers an item and a list come back, so that the call
    waits for the card.

    Cost: O(Q k) with 12 bytes an item and thread for what follows from counts (all but the metrics that need
    ``vectors``, ``truth``, ``baseline`` or ``categories``); ``ild`` is O(Q k d).

    Raises
    ------
    ValueError
        An unknown metric (naming the nearest), a metric whose input is missing (naming it), items outside the
        catalogue, an item listed twice, arguments of the wrong shape, an item of more users than there are.
    TypeError
        Ids that are not integers and no ``items``; with ``items``, lists on a card; lists of no kind that can be read.

    Examples
    --------
    >>> import fastrec as fr
    >>> result = fr.evaluate_catalog([[0, 1], [0, 2]], n_items=4, metrics=["coverage", "personalization"])
    >>> result["coverage"], result["personalization"]
    (0.75, 0.5)
    """
    with arrays.stream_of(top):
        ids, names, known = reading.list_ids(top, items)
        request = reading.read_request(
            metrics, n_items, popularity, n_users, vectors, categories, item_groups, target, items, tail, alpha,
            duplicates, undefined, threads, known,
        )  # fmt: skip
        with arrays.current(ids):
            return evaluate_lists(
                reading.read_lists(ids, names, history, truth, baseline, request.n_items), request
            )


def evaluate_lists(given: reading.Lists, request: reading.Request) -> CatalogEvaluation:
    """``evaluate_catalog`` after its arguments have been read."""
    lists, width = given.ids.shape
    if lists > MAX_LISTS:
        raise ValueError(f"`top` must have at most {MAX_LISTS} lists; got {lists}")
    popularity, n_users = request.popularity, request.n_users
    if given.history is not None and popularity is None:
        popularity = np.bincount(given.history.indices, minlength=request.n_items).astype(np.float64)
        n_users = lists if n_users is None else n_users
        most = int(popularity.max(initial=0))
        if most > n_users:
            raise ValueError(f"`n_users` must be at least {most}, the users of one item; got {n_users}")
    catalog = Catalog(
        given.ids, request.n_items, n_users, popularity, given.history, given.truth, given.baseline, request.vectors,
        request.categories, request.groups, request.target, request.threads,
    )  # fmt: skip
    result = CatalogEvaluation(catalog, request.duplicates, lists, width)
    result._names = given.names
    result._cut(width)  # a fault is one behind every cutoff as well
    for name, (metric, cutoff) in request.wanted.items():
        definition = METRICS[metric]
        k = width if cutoff is None else cutoff
        cut = result._cut(k)
        option = request.options.get(definition.option or "")
        result.parameters[name] = {"k": k} | ({definition.option: option} if definition.option else {})
        try:
            value = definition.compute(cut, option)
            if definition.per_list:
                result._per_list[name] = value
                defined = value[~np.isnan(value)]
                if not len(defined):
                    raise Undefined("no list has a value")
                value = math.fsum(defined.tolist()) / len(defined)
        except Undefined as why:
            value = math.nan
            result.undefined[name] = str(why)
        except LookupError as missing:
            raise ValueError(f"{name!r} needs {reading.NEEDED[str(missing.args[0])]}") from None
        result._values[name] = float(value)
    if result.undefined and request.undefined != "nan":
        text = "undefined on these lists: " + "; ".join(f"{n}: {why}" for n, why in result.undefined.items())
        if request.undefined == "error":
            raise ValueError(text)
        warnings.warn(text, RuntimeWarning, stacklevel=3)
    return result


class CatalogEvaluation(NamedValues):
    """The metrics of one call of :func:`evaluate_catalog`.

    ``result["coverage"]`` is a float; ``result.values`` is a pandas Series.

    Attributes
    ----------
    counts : dict
        ``lists``, ``empty_lists``, ``items`` (the catalogue), ``listed`` (ids that are not padding).
    item_counts : (n_items,) int64
        How many lists name each item.
    per_list : pandas.DataFrame
        One row a list.  :func:`fastrec.compare` and ``fr.evaluation.bootstrap`` take the evaluation for it.
    exposure : pandas.DataFrame
        One row a group of items.
    """

    def __init__(self, catalog: Catalog, duplicates: str, lists: int, width: int) -> None:
        super().__init__()
        self._catalog, self._duplicates, self._width = catalog, duplicates, width
        self._cuts: dict[int, Lists] = {}
        self._per_list: dict[str, np.ndarray] = {}
        self._index = range(lists)
        self._names: np.ndarray | None = None

    def _cut(self, k: int) -> Lists:
        if k not in self._cuts:
            lists = self._catalog.cut(k)
            if lists.duplicate >= 0 and self._duplicates == "error":
                raise reading.listed_twice(lists.duplicate)
            self._cuts[k] = lists
        return self._cuts[k]

    @property
    def better(self) -> dict[str, int]:
        """1 where a larger value of a metric is better, -1 where a smaller one is, 0 where neither is."""
        return {name: METRICS[name.strip().lower().partition("@")[0]].better for name in self.parameters}

    def __repr__(self) -> str:
        return f"CatalogEvaluation of {len(self._index)} lists\n{self._table()}"

    @property
    def counts(self) -> dict[str, int]:
        whole = self._cut(self._width)
        return {
            "lists": whole.lists,
            "empty_lists": whole.lists - whole.used,
            "items": self._catalog.n_items,
            "listed": int(whole.lengths.sum()),
        }

    @property
    def item_counts(self) -> np.ndarray:
        return self._cut(self._width).counts

    @property
    def per_list(self) -> pd.DataFrame:
        """One row a list: ``items`` and the value of each metric that has one a list (NaN where it has none)."""
        import pandas as pd

        columns: dict[str, np.ndarray] = {"items": self._cut(self._width).lengths}
        with arrays.current(self._catalog.ids):
            for name, parameters in self.parameters.items():
                definition = METRICS[name.strip().lower().partition("@")[0]]
                if name in self._per_list:
                    columns[name] = self._per_list[name]
                elif definition.of_items is not None:
                    columns[name] = np.full(len(self._index), np.nan)
                    if name not in self.undefined:
                        lists = self._cut(parameters["k"])
                        columns[name] = lists.per_list(
                            definition.of_items(lists, parameters.get(definition.option or ""))
                        )
        index = pd.RangeIndex(len(self._index)) if self._names is None else pd.Index(self._names)
        return pd.DataFrame(columns, index=index.rename("list"))

    @property
    def exposure(self) -> pd.DataFrame:
        """One row a group of ``item_groups``: ``items``, ``exposure`` (its share), ``target`` (the share it is due)."""
        import pandas as pd

        try:
            codes, labels = self._catalog.need("item_groups")
        except LookupError:
            raise ValueError(f"`exposure` needs {reading.NEEDED['item_groups']}") from None
        frame = pd.DataFrame({"items": np.bincount(codes, minlength=len(labels))}, index=labels)
        frame.index.name = "group"
        with arrays.current(self._catalog.ids):
            return frame.assign(**exposure_shares(self._cut(self._width)))
