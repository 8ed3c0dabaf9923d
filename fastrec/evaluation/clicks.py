"""``evaluate_clicks``: every metric of predicted probabilities against what was clicked, from one sort of the rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastrec._core import arrays
from fastrec.evaluation.click_evaluation import ClickEvaluation, collect, values_of
from fastrec.evaluation.click_metrics import Confusion, Sums
from fastrec.evaluation.click_request import DEFAULT_METRICS, Request, read_request
from fastrec.evaluation.click_rows import Rows, read_rows


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
    any number of threads, any instruction set, and whichever other metrics are asked for.  O(n) time; scratch 8 to 48
    bytes a row.

    On a card (CuPy or torch arrays, all on one): every metric, with integer groups; the result has ``.values``,
    ``.counts``, ``.undefined`` and ``.parameters``.  AUC and GAUC without weights are those of the CPU to the bit, the
    others to 1e-12.  The call waits for the card; scratch 40 bytes a row, 72 with weights, 24 more with float64 scores,
    100 for ``xauc`` of targets that are not 0 and 1.

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
    if is_on_card(y_true, y_prob, groups, weights):
        with arrays.stream_of(y_true, y_prob, groups, weights):
            return evaluate_on_card(y_true, y_prob, groups, weights, request)
    return evaluate_rows(read_rows(y_true, y_prob, groups, weights, request), request, stacklevel=3)


def is_on_card(*values: Any) -> bool:
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


def evaluate_on_card(y_true: Any, y_prob: Any, groups: Any, weights: Any, request: Request) -> Any:
    """``evaluate_clicks`` of columns on a card, its other arguments having been read."""
    from fastrec.evaluation import clicks_on_device

    sums = Sums()
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
    sums.mass, sums.group_gap = found.mass, found.group_gap
    result = clicks_on_device.CardClicks()
    result.counts = found.counts
    _fill(result, sums, request, found.eps, stacklevel=4)
    return result


def evaluate_rows(rows: Rows, request: Request, stacklevel: int = 2) -> ClickEvaluation:
    """``evaluate_clicks`` after its arguments have been read."""
    if rows.w is not None and not rows.w.any():
        raise ValueError("`weights` must not be all 0")
    eps = float(np.finfo(rows.p.dtype).eps) if request.eps is None else request.eps
    evaluation = ClickEvaluation(rows, replace(request, eps=eps))
    _fill(evaluation, collect(evaluation), request, eps, stacklevel + 1)
    return evaluation


def _fill(result: Any, sums: Sums, request: Request, eps: float, stacklevel: int) -> None:
    """The values of the metrics, and why some have none."""
    for one, (value, why) in zip(request.wanted, values_of(sums, request.wanted)):
        if why is not None:
            result.undefined[one.name] = why
        result._values[one.name] = value
        definition = one.definition
        if definition.parameter is not None:
            result.parameters[one.name] = {definition.parameter: one.parameter}
        if "loss" in definition.needs:
            result.parameters[one.name] = {"eps": eps}
    if result.undefined and request.undefined != "nan":
        text = "; ".join(f"{name}: {why}" for name, why in result.undefined.items())
        if request.undefined == "error":
            raise ValueError(f"undefined on these rows: {text}")
        warnings.warn(f"undefined on these rows: {text}", RuntimeWarning, stacklevel=stacklevel)
