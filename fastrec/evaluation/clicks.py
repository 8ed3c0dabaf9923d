"""``evaluate_clicks``: every metric of predicted probabilities against what was clicked, from one sort of the rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrec._core import arrays, checks
from fastrec._core import threads as _threads
from fastrec.evaluation import click_sums
from fastrec.evaluation.click_sums import PairSums, PointSums, RankSums
from fastrec.evaluation.delong import Interval, delong_error, normal_interval
from fastrec.evaluation.named_values import NamedValues

if TYPE_CHECKING:
    import pandas as pd

    from fastrec.evaluation.bootstrap import Bootstrap
    from fastrec.evaluation.click_groups import GroupValues

DEFAULT_METRICS = ("auc", "logloss", "ece")
LIGHT, HEAVY = 1e-70, 1e70  # weights whose products, of pairs and their sums, are numbers
GAUC_WEIGHTS = ("impressions", "positives", "uniform")


class _Undefined(Exception):
    """A metric has no value on these rows; the message says why, ``value`` stands in."""

    def __init__(self, why: str, value: float = math.nan) -> None:
        super().__init__(why)
        self.value = value


class Confusion(NamedTuple):
    """Weight of the true and false positives and negatives at a threshold."""

    tp: float
    fp: float
    fn: float
    tn: float


@dataclass(frozen=True, slots=True)
class _Metric:
    """One metric: what it is, what it needs, and how it follows from the sums."""

    compute: Callable[[_Sums, Any], float]
    needs: tuple[str, ...]
    labels: str = "binary"  # binary: 0 or 1; soft: 0..1; real
    probabilities: bool = False
    parameter: str | None = None
    better: int = 1  # 1: the larger the better, -1: the smaller, 0: neither


METRICS: dict[str, _Metric] = {}
_ALIASES = {
    "roc_auc": "auc",
    "partial_auc": "pauc",
    "pr_auc": "ap",
    "average_precision": "ap",
    "log_loss": "logloss",
    "normalized_entropy": "ne",
    "calibration": "pcoc",
    "brier_score": "brier",
    "tnr": "specificity",
    "tpr": "recall",
}
_THRESHOLD_METRICS = ("accuracy", "precision", "recall", "specificity", "f1", "mcc")


def _metric(name: str, needs: str, **options: Any) -> Callable[[Callable[..., float]], Callable[..., float]]:
    def add(compute: Callable[..., float]) -> Callable[..., float]:
        METRICS[name] = _Metric(compute, tuple(needs.split()), **options)
        return compute

    return add


class _Sums:
    """What was summed for one call; metrics read from it."""

    def __init__(self) -> None:
        self.rank: RankSums
        self.point: PointSums
        self.pair: PairSums
        self.bins: dict[int, np.ndarray] = {}
        self.confusion: dict[float, Confusion] = {}
        self.partial: dict[float, float] = {}
        self.gain: dict[float, float] = {}
        self.mass: dict[int, np.ndarray] = {}
        self.group_rows: np.ndarray
        self.group_gap: float
        self.zero_division = 0.0
        self.weighted = False

    def both_classes(self) -> None:
        if not self.rank.positive or not self.rank.negative:
            only = "positive" if self.rank.positive else "negative"
            raise _Undefined(f"every row{' that has a weight' if self.weighted else ''} is {only}")


def _share(top: float, bottom: float, why: str) -> float:
    if not bottom:
        raise _Undefined(why)
    return top / bottom


@_metric("auc", "rank")
def _(sums: _Sums, _: Any) -> float:
    sums.both_classes()
    return sums.rank.pairs / (sums.rank.positive * sums.rank.negative)


@_metric("pauc", "rank", parameter="max_fpr")
def _(sums: _Sums, max_fpr: float) -> float:
    sums.both_classes()
    area = sums.partial[max_fpr] / (sums.rank.positive * sums.rank.negative)
    if max_fpr == 1.0:
        return area
    least = max_fpr**2 / 2
    return 0.5 * (1.0 + (area - least) / (max_fpr - least))


@_metric("gauc", "groups", parameter="gauc_weights")
def _(sums: _Sums, weights: str) -> float:
    positive, negative = sums.rank.group_positive, sums.rank.group_negative
    both = (positive > 0) & (negative > 0)
    if not both.any():
        raise _Undefined("no group holds both classes")
    positive, negative = positive[both], negative[both]
    auc = sums.rank.group_pairs[both] / (positive * negative)
    weight = {"impressions": positive + negative, "positives": positive}.get(weights, np.ones(len(auc)))
    return math.fsum((weight * auc).tolist()) / math.fsum(weight.tolist())


@_metric("ap", "rank everything")
def _(sums: _Sums, _: Any) -> float:
    return _share(sums.rank.precision, sums.rank.positive, "no row is positive")


@_metric("ks", "rank everything")
def _(sums: _Sums, _: Any) -> float:
    sums.both_classes()
    return sums.rank.ks


@_metric("best_f1", "rank everything")
def _(sums: _Sums, _: Any) -> float:
    if not sums.rank.positive:
        raise _Undefined("no row is positive")
    return sums.rank.f1


@_metric("gain", "rank", parameter="top")
def _(sums: _Sums, top: float) -> float:
    return _share(sums.gain[top], sums.rank.positive, "no row is positive")


@_metric("lift", "rank", parameter="top")
def _(sums: _Sums, top: float) -> float:
    return _share(sums.gain[top], sums.rank.positive * top, "no row is positive")


@_metric("logloss", "loss", labels="soft", probabilities=True, better=-1)
def _(sums: _Sums, _: Any) -> float:
    return sums.point.loss / sums.point.weight


@_metric("ne", "loss", labels="soft", probabilities=True, better=-1)
def _(sums: _Sums, _: Any) -> float:
    rate = sums.point.label / sums.point.weight
    if not 0 < rate < 1:
        raise _Undefined("the entropy of the labels is 0")
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
    return sums.point.loss / sums.point.weight / entropy


@_metric("rig", "loss", labels="soft", probabilities=True)
def _(sums: _Sums, _: Any) -> float:
    return 1.0 - METRICS["ne"].compute(sums, None)


@_metric("pcoc", "point", labels="soft", probabilities=True, better=0)
def _(sums: _Sums, _: Any) -> float:
    return _share(sums.point.prob, sums.point.label, "the labels sum to 0")


@_metric("brier", "point", labels="soft", probabilities=True, better=-1)
def _(sums: _Sums, _: Any) -> float:
    return sums.point.square / sums.point.weight


def _gaps(bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each bin that has any, and |mean label - mean probability| in it."""
    weight, label, prob = bins[bins[:, 0] > 0].T
    return weight, np.abs(label / weight - prob / weight)


@_metric("ece", "bins", labels="soft", probabilities=True, parameter="bins", better=-1)
def _(sums: _Sums, bins: int) -> float:
    weight, gaps = _gaps(sums.bins[bins])
    return math.fsum((weight * gaps).tolist()) / math.fsum(weight.tolist())


@_metric("mce", "bins", labels="soft", probabilities=True, parameter="bins", better=-1)
def _(sums: _Sums, bins: int) -> float:
    return float(_gaps(sums.bins[bins])[1].max())


@_metric("ace", "rank", probabilities=True, parameter="bins", better=-1)
def _(sums: _Sums, bins: int) -> float:
    weight, gaps = _gaps(sums.mass[bins])
    return math.fsum((weight * gaps).tolist()) / math.fsum(weight.tolist())


@_metric("field_ece", "groups gap", labels="soft", probabilities=True, better=-1)
def _(sums: _Sums, _: Any) -> float:
    return sums.group_gap / sums.point.weight


@_metric("mse", "point", labels="real", better=-1)
def _(sums: _Sums, _: Any) -> float:
    return sums.point.square / sums.point.weight


@_metric("rmse", "point", labels="real", better=-1)
def _(sums: _Sums, _: Any) -> float:
    return math.sqrt(sums.point.square / sums.point.weight)


@_metric("mae", "point", labels="real", better=-1)
def _(sums: _Sums, _: Any) -> float:
    return sums.point.absolute / sums.point.weight


@_metric("r2", "spread", labels="real")
def _(sums: _Sums, _: Any) -> float:
    return 1.0 - _share(sums.point.square, sums.point.spread, "all labels are equal")


@_metric("xauc", "pairs", labels="real")
def _(sums: _Sums, _: Any) -> float:
    pair = sums.pair
    return _share(pair.pairs - pair.discordant - pair.tied / 2, pair.pairs, "all labels are equal")


def _of_confusion(name: str, compute: Callable[[Confusion], tuple[float, float]]) -> None:
    def value(sums: _Sums, threshold: float) -> float:
        top, bottom = compute(sums.confusion[threshold])
        if not bottom:
            raise _Undefined(f"0 / 0, given as zero_division={sums.zero_division}", sums.zero_division)
        return top / bottom

    METRICS[name] = _Metric(value, ("confusion",), parameter="threshold")


_of_confusion("accuracy", lambda c: (c.tp + c.tn, sum(c)))
_of_confusion("precision", lambda c: (c.tp, c.tp + c.fp))
_of_confusion("recall", lambda c: (c.tp, c.tp + c.fn))
_of_confusion("specificity", lambda c: (c.tn, c.tn + c.fp))
_of_confusion("f1", lambda c: (2 * c.tp, 2 * c.tp + c.fp + c.fn))
_of_confusion(
    "mcc",
    lambda c: (
        c.tp * c.tn - c.fp * c.fn,
        math.sqrt(c.tp + c.fp) * math.sqrt(c.tp + c.fn) * math.sqrt(c.tn + c.fp) * math.sqrt(c.tn + c.fn),
    ),
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One metric of a call, as it was asked for."""

    name: str
    metric: str
    parameter: Any

    @property
    def definition(self) -> _Metric:
        return METRICS[self.metric]


@dataclass(frozen=True, slots=True)
class Request:
    """What a call asks for, apart from its rows."""

    wanted: list[_Wanted]
    eps: float | None
    zero_division: float
    undefined: str
    threads: int

    @property
    def needs(self) -> set[str]:
        return {need for one in self.wanted for need in one.definition.needs}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as metrics read them: labels (uint8 zeros and ones, or float64), scores (float32 or float64), weights, and
    group codes with the labels they stand for."""

    y: np.ndarray
    p: np.ndarray
    w: np.ndarray | None
    codes: np.ndarray | None
    labels: Any

    def __len__(self) -> int:
        return len(self.y)


def _parse(names: Any, defaults: dict[str, Any]) -> list[_Wanted]:
    if isinstance(names, str):
        names = [names]
    wanted: dict[str, _Wanted] = {}
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"`metrics` must hold names; got {type(name).__name__} {name!r}")
        base, at, text = name.strip().lower().partition("@")
        base = _ALIASES.get(base, base)
        if base not in METRICS:
            known = [*METRICS, *_ALIASES]
            raise ValueError(
                f"`metrics` holds {name!r}, which is not known.{checks.nearest(base, known)} "
                f"Known: {', '.join(sorted(METRICS))}"
            )
        parameter = METRICS[base].parameter
        if at and parameter is None:
            raise ValueError(f"metric {name!r} takes no parameter; write {base!r}")
        value = (
            None if parameter is None else _parameter(parameter, text if at else defaults[parameter], name)
        )
        wanted[name] = _Wanted(name, base, value)
    if not wanted:
        raise ValueError("`metrics` must name at least one metric; got none")
    return list(wanted.values())


def _parameter(parameter: str, value: Any, name: str) -> Any:
    if parameter == "gauc_weights":
        return checks.choice(value, f"gauc_weights of {name}", GAUC_WEIGHTS)
    if isinstance(value, str) and "@" in name:
        try:
            value = int(value) if parameter == "bins" else float(value)
        except ValueError:
            kind = "an integer" if parameter == "bins" else "a number"
            raise ValueError(
                f"metric {name!r} needs {kind} after '@' (its `{parameter}`); got {value!r}"
            ) from None
    if parameter == "bins":
        return checks.integer(value, f"bins of {name}", low=1, high=100_000)
    if parameter == "threshold":
        return checks.number(value, f"threshold of {name}")
    share = checks.number(value, f"{parameter} of {name}", low=0.0, high=1.0)
    if share == 0.0:
        raise ValueError(f"`{parameter} of {name}` must be above 0; got 0")
    return share


def _on_cpu(value: Any, name: str) -> Any:
    array = arrays.adopt(value, name)
    if arrays.device(array) != arrays.CPU:
        raise TypeError(
            f"`{name}` is on {arrays.device(array)}; click metrics run on the CPU: pass `{name}.get()`"
        )
    return array


def _column(value: Any, name: str, size: int | None = None) -> np.ndarray:
    """A vector of real numbers, of any real type, contiguous and in native byte order."""
    array = checks.real(_numbers(_on_cpu(value, name), name), name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or (size is not None and len(array) != size):
        want = "(n,)" if size is None else f"({size},) to match `y_true`"
        hint = f" Pass one column, `{name}[:, 1]`." if array.ndim == 2 else ""
        raise ValueError(f"`{name}` must have shape {want}; got {array.shape}.{hint}")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _numbers(array: Any, name: str) -> Any:
    """Python's numbers, held as objects, as an array of their own; anything else as it is."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "O" or array.ndim != 1:
        return array
    for row, number in enumerate(array.tolist()):
        if number is None:
            raise ValueError(f"`{name}` must not be missing; row {row} is None")
        if not isinstance(number, (bool, int, float, np.number, np.bool_)):
            return array
    return np.array(array.tolist())


def _scores(value: Any, size: int) -> np.ndarray:
    """Scores as float32 or float64, whichever holds them exactly."""
    array = _column(value, "y_prob", size)
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype == np.float16 or array.dtype.itemsize < 3:
        return array.astype(np.float32)
    wide = array.astype(np.float64)
    if array.dtype.itemsize > 4 and size and not (wide.astype(array.dtype) == array).all():
        raise ValueError(
            f"`y_prob` holds {array.dtype} values that float64 cannot tell apart; cast it yourself"
        )
    return wide


def _narrow(scores: np.ndarray) -> np.ndarray:
    """The scores as float32 where that loses nothing, which halves the passes of the sort."""
    if scores.dtype == np.float32:
        return scores
    for part in (scores[:256], scores):
        with np.errstate(over="ignore"):
            if not np.array_equal(part.astype(np.float32).astype(np.float64), part):
                return scores
    return scores.astype(np.float32)


def _weights(value: Any, size: int) -> np.ndarray | None:
    if value is None:
        return None
    weights = _column(value, "weights", size).astype(np.float64, copy=False)
    if not size:
        return weights
    low, high, nan = click_sums.span(weights, 1)
    if nan >= 0 or not math.isfinite(high) or low < 0:
        row = int(np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0])
        raise ValueError(f"`weights` must be finite and not negative; row {row} is {weights[row]}")
    if low < LIGHT or high > HEAVY:  # 0 is neither
        extreme = np.flatnonzero(((weights > 0) & (weights < LIGHT)) | (weights > HEAVY))
        if len(extreme):
            raise ValueError(
                f"`weights` must be 0, or from {LIGHT} to {HEAVY}; row {extreme[0]} is {weights[extreme[0]]}. Only "
                "their ratios matter: divide them by their mean"
            )
    return weights


def group_codes(groups: Any, size: int, name: str = "groups") -> tuple[np.ndarray, Any]:
    """Codes 0..G-1 of the rows (int32), and the sorted labels they stand for (a pandas index).

    Takes anything pandas can factorise: integers, strings, floats, dates, categoricals, from NumPy, pandas, polars,
    Arrow or lists.  Labels that cannot be sorted stay in order of appearance; a missing label is a ``ValueError``.
    """
    import pandas as pd

    if hasattr(groups, "to_pandas") and not isinstance(groups, (pd.Series, pd.Index)):
        groups = groups.to_pandas()
    if not isinstance(groups, (pd.Series, pd.Index, pd.Categorical)):
        groups = list(groups) if isinstance(groups, (tuple, set, range)) else groups
        groups = np.asarray(_mixed(groups)) if isinstance(groups, list) else _on_cpu(groups, name)
    if getattr(groups, "ndim", 1) != 1 or len(groups) != size:
        raise ValueError(f"`{name}` must have shape ({size},) to match `y_true`; got {np.shape(groups)}")
    direct = _small_integers(groups, size)
    if direct is not None:
        codes, labels = direct
        return codes, pd.Index(labels)
    try:
        codes, labels = pd.factorize(groups, sort=True)
    except TypeError:  # labels of kinds that do not compare
        codes, labels = pd.factorize(groups)
    if (codes < 0).any():
        raise ValueError(
            f"`{name}` must name a group for every row; {int((codes < 0).sum())} rows have none "
            f"(first: row {int(np.argmin(codes))})"
        )
    return codes.astype(np.int32), pd.Index(labels)


def _mixed(values: list[Any]) -> Any:
    """A list as an array that keeps each label's own type (NumPy would turn 1 and "a" into strings)."""
    kinds = {type(value) for value in values}
    if len(kinds) <= 1 and tuple not in kinds:
        return values
    out = np.empty(len(values), object)
    out[:] = values
    return out


def _small_integers(groups: Any, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Codes of integers that lie close together, by counting instead of hashing."""
    values = groups if isinstance(groups, np.ndarray) else None
    if (
        values is None
        and getattr(getattr(groups, "dtype", None), "kind", "") in "iu"
        and hasattr(groups, "to_numpy")
    ):
        values = groups.to_numpy()
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu" or not size:
        return None
    low, high = int(values.min()), int(values.max())
    if high - low >= 4 * size + 1000 or high - low >= 2**31:
        return None
    places = values - low if low else values
    seen = np.zeros(high - low + 1, np.int32)
    seen[places] = 1
    if seen.all():
        return places.astype(np.int32, copy=False), np.arange(low, high + 1, dtype=values.dtype)
    labels = np.flatnonzero(seen)
    seen[labels] = np.arange(len(labels), dtype=np.int32)
    return seen[places], (labels + low).astype(values.dtype)


def evaluate_clicks(
    y_true: Any,
    y_prob: Any,
    groups: Any = None,
    weights: Any = None,
    metrics: str | Sequence[str] = DEFAULT_METRICS,
    *,
    threshold: float = 0.5,
    bins: int = 15,
    max_fpr: float = 0.1,
    top: float = 0.1,
    gauc_weights: str = "impressions",
    eps: float | None = None,
    zero_division: float = 0.0,
    undefined: str = "warn",
    threads: int | None = None,
) -> ClickEvaluation:
    """All metrics of predicted probabilities against what was clicked, from one sort of the rows.

    Parameters
    ----------
    y_true : (n,) labels, n >= 1
        0 or 1 (bool, integer or float).  ``logloss, ne, rig, pcoc, brier, ece, mce, field_ece`` also take soft labels
        in 0..1; ``mse, rmse, mae, r2, xauc`` any finite target.
    y_prob : (n,) probabilities or scores
        Ranking metrics take any real score (float32 and float64 are compared exactly; infinities are legal);
        metrics of probabilities need 0..1.  NaN is refused.
    groups : (n,) group labels, optional
        A user, query or field of each row: integers, strings, categoricals, dates; from NumPy, pandas, polars, Arrow or
        a list.  No label may be missing.
    weights : (n,) sample weights, optional
        Each 0, or from 1e-70 to 1e70; not all 0.  A row of weight 0 changes nothing but row counts and the edges of
        ``ace``.
    metrics : names, or one name
        A parameter follows an @: ``"f1@0.3"``, ``"ece@10"``, ``"pauc@0.05"``, ``"lift@0.01"``, ``"gauc@uniform"``;
        without it the argument named in the table below holds.
    threshold, bins, max_fpr, top, gauc_weights
        The parameters of metrics that were named without one.
    eps : float, optional
        ``logloss, ne, rig`` clip p and 1 - p to ``eps..1 - eps``; by default the machine epsilon of ``y_prob``'s type,
        as scikit-learn does (RecBole: 1e-15, torchrec: 1e-12).
    zero_division : float
        Value of a threshold metric that is 0 / 0.
    undefined : "warn", "nan" or "error"
        What to do about a metric that has no value on these rows (the AUC of a single class, the NE of equal labels):
        it is NaN and ``result.undefined`` says why; "warn" also warns once, "error" raises ``ValueError``.
    threads : int, optional
        Results do not depend on it.

    Returns
    -------
    ClickEvaluation
        ``result["auc"]``, ``result.values``, ``.counts``, ``.per_group``, ``.interval("auc")``, ``.to_frame()``,
        ``.plot()``.

    Notes
    -----
    ============== ============ ============================================================================
    name           parameter    definition (sums over rows with weight w, label y, probability p)
    ============== ============ ============================================================================
    auc                         share of (positive, negative) pairs in the right order, ties one half
    pauc           max_fpr      area under the ROC curve up to that false positive rate, standardised (McClish 1989)
    gauc           gauc_weights mean AUC of the groups that hold both classes, weighted by their "impressions" (Zhu et
                                al., Deep interest network, 2018), "positives" or "uniform"
    ap                          sum of (R_n - R_(n-1)) P_n over distinct thresholds (also: pr_auc)
    ks                          max |TPR - FPR|: the two-sample Kolmogorov-Smirnov statistic
    best_f1                     max F1 over all thresholds; ``result.best_threshold`` is the highest that reaches it
    gain, lift     top          share of the positives in the top share of the rows, linear inside ties; the same
                                divided by that share
    accuracy, precision, recall, specificity, f1, mcc
                   threshold    of the rule "positive where y_prob >= threshold" (rounded to y_prob's type)
    logloss                     -mean(y ln p + (1 - y) ln(1 - p))
    ne, rig                     logloss / entropy of mean(y) (He et al., 2014); 1 - ne
    pcoc                        sum p / sum y
    brier                       mean (p - y)^2
    ece, mce       bins         mean (largest) |mean y - mean p| over equal bins [a, b); p = 1 is a bin of its own,
                                as in torchmetrics; edges are b / bins
    ace            bins         the same mean over bins of equal numbers of rows, whose edges are percentiles as in
                                sklearn.calibration.calibration_curve(strategy="quantile")
    field_ece                   sum over groups of |sum (p - y)| / n (Pan et al., Field-aware calibration, 2020)
    mse, rmse, mae, r2          of p as a prediction of y
    xauc                        share of pairs with different y in the right order, ties one half; a pair weighs the
                                product of its weights
    ============== ============ ============================================================================

    Equal to scikit-learn to 1e-12 (with ties and weights), SciPy (ks) and brute force (gauc).  Bit for bit the same for
    any number of threads, any instruction set, and whichever other metrics are asked for.  O(n) time; scratch 16 to 48
    bytes a row.

    On a card (CuPy or torch arrays, all on one): binary labels, integer groups, and every metric but ``ace`` and
    ``field_ece``; the result has ``.values``, ``.counts``, ``.undefined`` and ``.parameters``.  AUC and GAUC without
    weights are those of the CPU to the bit, the others to 1e-12.  The call waits for the card; scratch 40 bytes a row,
    72 with weights, 24 more with float64 scores.

    Raises
    ------
    TypeError
        Not real numbers; arrays on different devices; on a card, what only the CPU does.
    ValueError
        No rows, lengths that differ, NaN, labels or probabilities out of range (naming the metric that needs them), bad
        weights, missing group labels, an unknown metric (naming the nearest), and, where asked for, undefined metrics.

    Examples
    --------
    >>> import fastrec as fr
    >>> result = fr.evaluate_clicks([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], metrics=["auc", "logloss"])
    >>> result["auc"]
    0.75
    """
    request = read_request(
        metrics,
        threshold=threshold,
        bins=bins,
        max_fpr=max_fpr,
        top=top,
        gauc_weights=gauc_weights,
        eps=eps,
        zero_division=zero_division,
        undefined=undefined,
        threads=threads,
    )
    if _is_on_card(y_true, y_prob, groups, weights):
        with arrays.stream_of(y_true, y_prob, groups, weights):
            return _on_card(y_true, y_prob, groups, weights, request)
    return evaluate_rows(read_rows(y_true, y_prob, groups, weights, request), request, stacklevel=3)


def _is_on_card(*values: Any) -> bool:
    """Whether any of the arguments is an array on a card."""
    for value in values:
        if type(value) is np.ndarray or value is None:
            continue
        if hasattr(value, "__cuda_array_interface__") or hasattr(value, "__dlpack_device__"):
            try:
                if int(value.__dlpack_device__()[0]) in (2, 13):
                    return True
            except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
                continue
    return False


def _on_card(y_true: Any, y_prob: Any, groups: Any, weights: Any, request: Request) -> Any:
    from fastrec.evaluation import clicks_on_device

    sums = _Sums()
    sums.weighted = weights is not None
    sums.zero_division = request.zero_division
    found = clicks_on_device.sums_of(
        y_true, y_prob, groups, weights, wanted=request.wanted, needs=request.needs, eps=request.eps
    )
    if found.rank is not None:
        sums.rank = found.rank
    if found.pair is not None:
        sums.pair = found.pair
    sums.partial, sums.gain = found.partial, found.gain
    sums.confusion = {cut: Confusion(*parts) for cut, parts in found.confusion.items()}
    for bins, point in found.points.items():
        sums.point, sums.bins[bins] = point, point.bins
    result = clicks_on_device.CardClicks()
    result.counts = found.counts
    _fill(result, sums, request, found.eps, stacklevel=4)
    return result


def read_request(
    metrics: str | Sequence[str] = DEFAULT_METRICS,
    *,
    threshold: float = 0.5,
    bins: int = 15,
    max_fpr: float = 0.1,
    top: float = 0.1,
    gauc_weights: str = "impressions",
    eps: float | None = None,
    zero_division: float = 0.0,
    undefined: str = "warn",
    threads: int | None = None,
) -> Request:
    """The arguments of :func:`evaluate_clicks` that are not rows, checked."""
    defaults = {
        "threshold": threshold,
        "bins": bins,
        "max_fpr": max_fpr,
        "top": top,
        "gauc_weights": gauc_weights,
    }
    wanted = _parse(metrics, defaults)
    checks.choice(undefined, "undefined", ("warn", "nan", "error"))
    if eps is not None and not 0 <= checks.number(eps, "eps") < 0.5:
        raise ValueError(f"`eps` must be at least 0 and below 0.5; got {eps}")
    return Request(
        wanted,
        None if eps is None else float(eps),
        float(zero_division),
        undefined,
        _threads.resolve(threads),
    )


def read_rows(
    y_true: Any, y_prob: Any, groups: Any, weights: Any, request: Request, *, least: int = 1
) -> Rows:
    """Rows of one call, or of one batch (which may have none), checked."""
    y = _column(y_true, "y_true")
    n = len(y)
    if not least <= n <= click_sums.MAX_ROWS:
        raise ValueError(f"`y_true` must have between 1 and {click_sums.MAX_ROWS} rows; got {n}")
    p = _scores(y_prob, n)
    w = _weights(weights, n)
    if n:
        low, high, nan = click_sums.span(p, request.threads)
        if nan >= 0:
            raise ValueError(f"`y_prob` must not hold NaN; row {nan} is NaN")
        _check_probabilities(p, low, high, request.wanted)
        y = _labels(y, request.wanted, request.threads)
    else:
        y = y.astype(np.uint8)
    if groups is None and "groups" in request.needs:
        which = ", ".join(repr(one.name) for one in request.wanted if "groups" in one.definition.needs)
        raise ValueError(f"`groups` must be given for {which}: the group (user, query, ...) of each row")
    codes, labels = (None, None) if groups is None else group_codes(groups, n)
    return Rows(y, p, w, codes, labels)


def evaluate_rows(rows: Rows, request: Request, stacklevel: int = 2) -> ClickEvaluation:
    """``evaluate_clicks`` after its arguments have been read."""
    if rows.w is not None and not rows.w.any():
        raise ValueError("`weights` must not be all 0")
    eps = float(np.finfo(rows.p.dtype).eps) if request.eps is None else request.eps
    evaluation = ClickEvaluation(rows, replace(request, eps=eps))
    _fill(evaluation, _collect(evaluation), request, eps, stacklevel + 1)
    return evaluation


def _fill(result: Any, sums: _Sums, request: Request, eps: float, stacklevel: int) -> None:
    """The values of the metrics, and why some have none."""
    for one, (value, why) in zip(request.wanted, _values_of(sums, request.wanted)):
        if why is not None:
            result.undefined[one.name] = why
        result._values[one.name] = value
        if one.definition.parameter is not None:
            result.parameters[one.name] = {one.definition.parameter: one.parameter}
        if "loss" in one.definition.needs:
            result.parameters[one.name] = {"eps": eps}
    if result.undefined and request.undefined != "nan":
        text = "; ".join(f"{name}: {why}" for name, why in result.undefined.items())
        if request.undefined == "error":
            raise ValueError(f"undefined on these rows: {text}")
        warnings.warn(f"undefined on these rows: {text}", RuntimeWarning, stacklevel=stacklevel)


def _values_of(sums: _Sums, wanted: list[_Wanted]) -> list[tuple[float, str | None]]:
    """Each metric's value, and why it is not defined where it is not."""
    values: list[tuple[float, str | None]] = []
    for one in wanted:
        try:
            values.append((float(one.definition.compute(sums, one.parameter)), None))
        except _Undefined as why:
            values.append((float(why.value), str(why)))
    return values


def _check_probabilities(p: np.ndarray, low: float, high: float, wanted: list[_Wanted]) -> None:
    need = next((one.name for one in wanted if one.definition.probabilities), None)
    if need is not None and (low < 0 or high > 1):
        row = int(np.flatnonzero((p < 0) | (p > 1))[0])
        raise ValueError(
            f"`y_prob` must lie in 0..1 for {need!r}; row {row} is {p[row]}. Ranking metrics (auc, gauc, ap, ...) take "
            "any score; turn logits into probabilities with scipy.special.expit"
        )
    if not math.isfinite(low) or not math.isfinite(high):
        for one in wanted:
            if one.definition.labels == "real":
                raise ValueError(f"`y_prob` must be finite for {one.name!r}; it holds an infinity")


def _labels(y: np.ndarray, wanted: list[_Wanted], threads: int) -> np.ndarray:
    """uint8 zeros and ones where the labels are such, else float64, if all metrics can do with that."""
    binary, bad = click_sums.row_labels(y, threads)
    if bad < 0:
        return binary
    need = next((one.name for one in wanted if one.definition.labels == "binary"), None)
    if need is not None:
        raise ValueError(
            f"`y_true` must hold 0 and 1 for {need!r}; row {bad} is {y[bad]}. "
            "Make labels of other values with a comparison, such as `y_true > 0`"
        )
    y = y.astype(np.float64)
    need = next((one.name for one in wanted if one.definition.labels == "soft"), None)
    wrong = np.flatnonzero(~np.isfinite(y) if need is None else ~((y >= 0) & (y <= 1)))
    if len(wrong):
        want = "be finite" if need is None else f"lie in 0..1 for {need!r}"
        raise ValueError(f"`y_true` must {want}; row {wrong[0]} is {y[wrong[0]]}")
    return y


def _collect(of: ClickEvaluation) -> _Sums:
    """The sums of everything the evaluation was asked for."""
    wanted, needs = of._request.wanted, of._request.needs
    sums = _Sums()
    sums.zero_division = of._request.zero_division
    y, p, w, threads = of._y, of._p, of._w, of._threads
    sums.weighted = w is not None

    def parameters(*names: str) -> list[Any]:
        return sorted({one.parameter for one in wanted if one.metric in names})

    cuts, widths = parameters(*_THRESHOLD_METRICS), parameters("ece", "mce")
    binary = y.dtype == np.uint8
    # Sorted rows give these counts for nothing; the others are the same, from the rows as they come.
    sorted_too = binary and w is None and "rank" in needs
    if needs & {"rank", "groups"} and binary:
        limits, tops, masses = parameters("pauc"), parameters("gain", "lift"), parameters("ace")
        grouped = of._codes is not None and bool(needs & {"groups"})
        rank = of._ranked(
            of._codes if grouped else None,
            len(of._labels) if grouped else 0,
            detail=int("everything" in needs) if "rank" in needs else -1,
            max_fprs=limits,
            tops=tops,
            masses=masses,
            thresholds=[float(p.dtype.type(cut)) for cut in cuts] if sorted_too else (),
            edges=[click_sums.equal_edges(bins, p.dtype) for bins in widths] if sorted_too else (),
        )
        sums.rank = of._rank = rank
        sums.partial = dict(zip(limits, sums.rank.partial.tolist()))
        sums.gain = dict(zip(tops, sums.rank.gain.tolist()))
        sums.mass = dict(zip(masses, np.split(sums.rank.mass_bins, np.cumsum(masses)[:-1])))
    if sorted_too:
        for cut, (tp, fp) in zip(cuts, rank.above.tolist()):
            sums.confusion[cut] = Confusion(tp, fp, rank.positive - tp, rank.negative - fp)
        sums.bins = dict(zip(widths, np.split(rank.bins, np.cumsum([bins + 1 for bins in widths])[:-1])))
    else:
        sums.confusion = {cut: _confusion(y, p, w, cut) for cut in cuts}
    if needs & {"point", "loss", "bins", "gap", "spread"}:
        options: dict[str, Any] = {"loss": "loss" in needs, "eps": of._request.eps, "threads": threads}
        first, *more = [bins for bins in widths if bins not in sums.bins] or [0]
        sums.point = click_sums.click_point_sums(y, p, w, bins=first, **options)
        if first:
            sums.bins[first] = sums.point.bins
        for bins in more:
            sums.bins[bins] = click_sums.click_point_sums(y, p, w, bins=bins, threads=threads).bins
        if "spread" in needs:
            weight, label = sums.point.weight, sums.point.label
            centre = label / weight
            if binary:  # two values: no second pass
                spread = label * (1.0 - centre) ** 2 + (weight - label) * centre**2
            else:
                spread = click_sums.click_point_sums(y, p, w, centre=centre, threads=threads).spread
            sums.point = replace(sums.point, spread=spread)
    if "pairs" in needs:
        sums.pair = _pair_sums(of, y, p, w, threads)
    if "gap" in needs:
        gaps = of._group_sum(p) - of._group_sum(y)
        sums.group_gap = math.fsum(np.abs(gaps).tolist())
    return sums


def _pair_sums(
    of: ClickEvaluation, y: np.ndarray, p: np.ndarray, w: np.ndarray | None, threads: int
) -> PairSums:
    if y.dtype != np.uint8:
        return click_sums.click_pair_sums(y, p, w, threads=threads)
    # With two targets the pairs are those that the sweep has counted.
    rank = of._pooled()
    pairs = rank.positive * rank.negative
    return PairSums(pairs, pairs - rank.pairs, 0.0)


def _confusion(y: np.ndarray, p: np.ndarray, w: np.ndarray | None, cut: float) -> Confusion:
    clicked, chosen = y.view(bool), p >= p.dtype.type(cut)
    if w is None:
        tp, positives, predicted = (int(np.count_nonzero(a)) for a in (clicked & chosen, clicked, chosen))
        return Confusion(tp, predicted - tp, positives - tp, len(y) - positives - predicted + tp)
    each = (clicked & chosen, ~clicked & chosen, clicked & ~chosen, ~(clicked | chosen))
    return Confusion(*(float(w[rows].sum()) for rows in each))


class ClickEvaluation(NamedValues):
    """The metrics of one call of :func:`evaluate_clicks`.

    ``result["auc"]`` is a float; ``result.values`` is a pandas Series; iterating gives the names.

    Attributes
    ----------
    counts : dict
        ``rows``, ``positives``, ``negatives`` (rows, whatever their weights; absent with soft or real labels) and, with
        groups, ``groups`` and ``single_class_groups``: those that GAUC leaves out.
    undefined : dict
        Why a metric is NaN (or ``zero_division``), by name; empty when all are defined.
    parameters : dict
        The parameters each metric was computed with.
    per_group : pandas.DataFrame
        One row a group.
    best_threshold : float
        The highest threshold that reaches the best F1.
    """

    def __init__(self, rows: Rows, request: Request) -> None:
        super().__init__()
        self._y, self._p, self._w, self._codes, self._labels = rows.y, rows.p, rows.w, rows.codes, rows.labels
        self._request, self._threads = request, request.threads
        self._rank: RankSums | None = None
        self._order: click_sums.Order | None = None  # the sorted rows, where they are used again

    def __repr__(self) -> str:
        return f"ClickEvaluation of {len(self._y)} rows\n{self._table()}"

    @property
    def counts(self) -> dict[str, int]:
        counts = {"rows": len(self._y)}
        if self._y.dtype == np.uint8:
            counts["positives"] = int(np.count_nonzero(self._y))
            counts["negatives"] = counts["rows"] - counts["positives"]
        if self._codes is not None:
            counts["groups"] = len(self._labels)
            if self._y.dtype == np.uint8:
                rank = self._grouped()
                single = (rank.group_positive == 0) | (rank.group_negative == 0)
                counts["single_class_groups"] = int(single.sum())
        return counts

    def _grouped(self) -> RankSums:
        if self._rank is None or len(self._rank.group_positive) != len(self._labels):
            self._rank = self._ranked(self._codes, len(self._labels))
        return self._rank

    def _pooled(self) -> RankSums:
        if self._rank is None or math.isnan(self._rank.pairs):
            return self._ranked(None, 0, detail=0)
        return self._rank

    def _ranked(self, codes: np.ndarray | None, n_groups: int, **options: Any) -> RankSums:
        if self._order is not None:
            return click_sums.rank_sums(self._order, codes, n_groups, **options)
        return click_sums.click_rank_sums(
            self._y, _narrow(self._p), self._w, codes, n_groups=n_groups, threads=self._threads, **options
        )

    def _reweighted(self) -> Callable[[np.ndarray], list[float]]:
        """A function from (n,) weights to the values of the metrics; the rows are sorted once for all calls."""
        rows = Rows(self._y, self._p, np.ones(len(self._y)), self._codes, self._labels)
        replica = ClickEvaluation(rows, self._request)
        order = None
        if self._y.dtype == np.uint8:
            groups = 0 if self._labels is None else len(self._labels)
            threads = self._threads if len(self._y) >= click_sums.ALONE else 1
            order = click_sums.Order(self._y, _narrow(self._p), rows.w, self._codes, groups, threads)

        def values(weights: np.ndarray) -> list[float]:
            if not weights.any():
                return [math.nan] * len(self._request.wanted)
            replica._w, replica._rank = weights, None
            replica._order = None if order is None else order.reweighted(weights)
            return [value for value, _ in _values_of(_collect(replica), self._request.wanted)]

        return values

    def _group_sum(self, column: np.ndarray) -> np.ndarray:
        """Weighted sum of a column in each group."""
        assert self._codes is not None
        return np.bincount(
            self._codes, column if self._w is None else column * self._w, minlength=len(self._labels)
        )

    @property
    def best_threshold(self) -> float:
        return self._complete().f1_score

    def _complete(self) -> RankSums:
        self._need_binary("this")
        if self._rank is None or math.isnan(self._rank.positive2):
            self._rank = self._ranked(self._codes, 0 if self._labels is None else len(self._labels))
        return self._rank

    def _need_binary(self, what: str) -> None:
        if self._y.dtype != np.uint8:
            raise ValueError(f"{what} needs labels that are 0 or 1")

    @property
    def per_group(self) -> pd.DataFrame:
        """One row a group, by its label: ``rows``, ``positives`` and ``negatives`` (their weights, where given),
        ``auc`` (NaN where the group holds one class), ``mean_label``, ``mean_prob``."""
        import pandas as pd

        if self._codes is None:
            raise ValueError("`per_group` needs `groups`: pass them to evaluate_clicks")
        frame = pd.DataFrame(
            {"rows": np.bincount(self._codes, minlength=len(self._labels))}, index=self._labels
        )
        frame.index.name = "group"
        if self._y.dtype == np.uint8:
            rank = self._grouped()
            pairs = rank.group_positive * rank.group_negative
            frame["positives"], frame["negatives"] = rank.group_positive, rank.group_negative
            frame["auc"] = np.divide(
                rank.group_pairs, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0
            )
        size = self._group_sum(np.ones(len(self._y)))
        for name, column in (("mean_label", self._y), ("mean_prob", self._p)):
            sums = self._group_sum(column)
            frame[name] = np.divide(sums, size, out=np.full(len(size), np.nan), where=size > 0)
        return frame

    def by_group(self, metrics: Sequence[str] | str | None = None) -> GroupValues:
        """The values of metrics in each group, for those that are means over groups.

        ``gauc`` (each group weighs as that metric says) and ``logloss, brier, mse, mae, accuracy, field_ece`` (each
        group weighs as much as its rows); by default all of these that were asked for.  :func:`fastrec.compare` and
        ``fr.evaluation.bootstrap`` take what comes: groups are then the sample, and their mean is this metric.
        """
        from fastrec.evaluation.click_groups import group_values

        return group_values(self, metrics)

    def interval(
        self,
        name: str = "auc",
        level: float = 0.95,
        *,
        method: str | None = None,
        clusters: Any = None,
        replicates: int = 1000,
        seed: int = 0,
    ) -> Interval:
        """A confidence interval of one metric.

        Parameters
        ----------
        name : a metric of this evaluation, or "auc" or "gauc"
        level : float in (0, 1)
        method : "delong", "groups", "bootstrap" or "bca"
            ``"delong"`` (the default of ``"auc"``): the normal interval of DeLong's variance, cut to 0..1; needs two
            rows of each class, and neither weights nor clusters.  ``"groups"`` (the default of ``"gauc"``): groups as
            the sample, with the delta-method variance of a weighted mean over them.  ``"bootstrap"`` (the default of
            all others, and wherever ``clusters`` are given): percentiles of :meth:`bootstrap`; ``"bca"``: its BCa
            interval.
        clusters, replicates, seed : of the bootstrap.
        """
        level = checks.number(level, "level", low=0.0, high=1.0)
        base, _, parameter = name.partition("@")
        own = {"auc": "delong", "gauc": "groups"}.get(base, "bootstrap") if clusters is None else "bootstrap"
        methods = ("delong", "groups", "bootstrap", "bca")
        method = checks.choice(own if method is None else method, "method", methods)
        if method == "delong":
            if base != "auc" or clusters is not None:
                raise ValueError("method 'delong' is for 'auc' without clusters; use method 'bootstrap'")
            return self._auc_interval(level)
        if method == "groups":
            if base != "gauc" or clusters is not None:
                raise ValueError("method 'groups' is for 'gauc' without clusters; use method 'bootstrap'")
            if self._codes is None:
                raise ValueError("the interval of the GAUC needs `groups`: pass them to evaluate_clicks")
            self._need_binary("the interval of the GAUC")
            chosen = parameter or self.parameters.get(name, {}).get("gauc_weights", GAUC_WEIGHTS[0])
            return self._gauc_interval(checks.choice(chosen, "name", GAUC_WEIGHTS), level)
        value = self[name]
        drawn = self.bootstrap(
            level=level,
            method="bca" if method == "bca" else "percentile",
            clusters=clusters,
            replicates=replicates,
            seed=seed,
        )
        at = drawn.metrics.index(name)
        return Interval(
            float(drawn.low[at]), float(drawn.high[at]), value, float(drawn.standard_error[at]), level
        )

    def bootstrap(
        self,
        *,
        level: float = 0.95,
        method: str = "percentile",
        clusters: Any = None,
        replicates: int = 1000,
        seed: int = 0,
    ) -> Bootstrap:
        """Intervals of all metrics, from one set of replicates of the rows.

        Parameters
        ----------
        level : float in (0, 1)
        method : "percentile" or "bca"
            ``"bca"`` corrects for bias and skewness (Efron, *Better bootstrap confidence intervals*, JASA 1987).  Its
            acceleration comes from a jackknife that leaves out one row (or cluster) at a time or, where there are more
            than 200, one of 200 blocks of them, row i in block i % 200: as long as 200 replicates take.  Where every
            replicate lies on one side of the value, the percentile interval stands.
        clusters : "groups", (n,) labels, or None
            Rows that belong together (one user's, one session's) are drawn together: without it, an interval over
            correlated rows is too short.  ``"groups"``: the groups of this evaluation.
        replicates : int >= 1
        seed : int
            The same seed gives the same bits on any machine and any number of threads, and the same draws for every
            evaluation of as many rows (or clusters).

        Returns
        -------
        Bootstrap
            ``.to_frame()``; ``replicates`` (B, M), NaN where a metric is undefined on a draw, which then counts in no
            interval.

        Notes
        -----
        Every replicate gives each row (or cluster) a whole weight, the number of times that it was drawn, and
        evaluates all metrics under it; the rows are sorted once.  The edges of ``ace`` stay those of the rows.
        O(replicates * n) time, 40 bytes a row of memory.
        """
        from fastrec.evaluation.click_bootstrap import bootstrap_clicks

        return bootstrap_clicks(
            self, level=level, method=method, clusters=clusters, replicates=replicates, seed=seed
        )

    def _auc_interval(self, level: float) -> Interval:
        self._need_binary("the interval of the AUC")
        if self._w is not None:
            raise ValueError(
                "DeLong's interval is defined for rows of equal weight; use method 'bootstrap' instead"
            )
        sums = self._complete()
        value = sums.pairs / (sums.positive * sums.negative) if sums.positive and sums.negative else math.nan
        return normal_interval(value, delong_error(sums), level, (0.0, 1.0))

    def _gauc_interval(self, weights: str, level: float) -> Interval:
        rank = self._grouped()
        both = (rank.group_positive > 0) & (rank.group_negative > 0)
        positive, negative = rank.group_positive[both], rank.group_negative[both]
        auc = rank.group_pairs[both] / (positive * negative)
        weight = {"impressions": positive + negative, "positives": positive}.get(weights, np.ones(len(auc)))
        if len(auc) < 2:
            return Interval(math.nan, math.nan, float(auc[0]) if len(auc) else math.nan, math.nan, level)
        total = math.fsum(weight.tolist())
        value = math.fsum((weight * auc).tolist()) / total
        spread = math.fsum(((weight / total * (auc - value)) ** 2).tolist())
        return normal_interval(value, math.sqrt(spread * len(auc) / (len(auc) - 1)), level, (0.0, 1.0))

    def calibration(self, bins: int = 15, strategy: str = "uniform") -> pd.DataFrame:
        """The reliability curve: one row a bin that holds rows: ``weight``, ``mean_prob``, ``mean_label``.

        ``strategy="uniform"``: bins of equal width, as in ``ece``; ``"quantile"``: of equal numbers of rows, as in
        ``ace`` (labels of 0 and 1 only).
        """
        import pandas as pd

        bins = checks.integer(bins, "bins", low=1)
        low, high, _ = click_sums.span(self._p, self._threads)
        if low < 0 or high > 1:
            raise ValueError("calibration needs `y_prob` in 0..1")
        if checks.choice(strategy, "strategy", ("uniform", "quantile")) == "uniform":
            sums = click_sums.click_point_sums(
                self._y, self._p, self._w, bins=bins, threads=self._threads
            ).bins
        else:
            self._need_binary("the quantile strategy")
            p = _narrow(self._p)
            options: dict[str, Any] = {"masses": (bins,), "detail": 0, "threads": self._threads}
            sums = click_sums.click_rank_sums(self._y, p, self._w, **options).mass_bins
        weight, label, prob = sums[sums[:, 0] > 0].T
        return pd.DataFrame({"weight": weight, "mean_prob": prob / weight, "mean_label": label / weight})

    def roc(self) -> pd.DataFrame:
        """The ROC curve, a row a distinct score, highest first: ``threshold``, ``fpr``, ``tpr``; from (inf, 0, 0)."""
        import pandas as pd

        self._need_binary("the ROC curve")
        order = np.argsort(-self._p, kind="stable")
        score, clicked = self._p[order], self._y[order].astype(bool)
        weight = np.ones(len(order)) if self._w is None else self._w[order]
        last = np.append(np.flatnonzero(score[1:] != score[:-1]), len(score) - 1)
        tp, fp = (
            np.append(0.0, np.cumsum(np.where(rows, weight, 0.0))[last]) for rows in (clicked, ~clicked)
        )
        nan = np.full(len(tp), np.nan)
        fpr, tpr = (np.divide(x, x[-1], out=nan.copy(), where=x[-1] > 0) for x in (fp, tp))
        threshold = np.append(np.inf, score[last].astype(np.float64))
        return pd.DataFrame({"threshold": threshold, "fpr": fpr, "tpr": tpr})

    def plot(self, axes: Any = None, bins: int = 15) -> Any:
        """Draw the ROC curve and the reliability curve; returns the Matplotlib figure.

        ``axes``: two Matplotlib axes to draw into.  Scores that are not probabilities get no reliability curve.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("plots need Matplotlib: pip install 'fastrec[report]'") from error
        self._need_binary("the plot")
        if axes is None:
            figure = Figure(figsize=(9, 4), layout="constrained")
            axes = figure.subplots(1, 2)
        left, right = axes
        figure = left.figure
        curve = self.roc()
        rank = self._pooled()
        pairs = rank.positive * rank.negative
        kept = np.unique(np.linspace(0, len(curve) - 1, 2000).astype(int))  # more points than a plot can show
        left.plot(curve["fpr"].iloc[kept], curve["tpr"].iloc[kept])
        left.plot([0, 1], [0, 1], ls=":", color="gray")
        title = f"ROC, AUC {rank.pairs / pairs:.4f}" if pairs else "ROC"
        left.set(xlabel="False positive rate", ylabel="True positive rate", title=title)
        if self._p.min() >= 0 and self._p.max() <= 1:
            points = self.calibration(bins)
            right.plot(points["mean_prob"], points["mean_label"], marker="o")
        right.plot([0, 1], [0, 1], ls=":", color="gray")
        right.set(xlabel="Mean probability", ylabel="Mean label", title="Reliability")
        return figure
