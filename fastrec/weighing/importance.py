"""``fr.importance``: how much every training sample matters to a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrec._core import arrays, checks
from fastrec.weighing.protocol import as_logit_model, targets
from fastrec.weighing.scores import SCORES


@arrays.following
def importance(
    model: Any,
    X: Any,
    y: Any = None,
    method: str = "grad_norm",
    *,
    sample_weight: Any = None,
    threads: int | None = None,
) -> Any:
    """How much each training sample matters to a fitted model: one number a sample, from one forward pass.

    Parameters
    ----------
    model : fitted binary classifier
        A fastrec model, or any linear classifier with ``coef_``, ``intercept_`` and ``classes_`` (scikit-learn's
        ``LogisticRegression``, ``SGDClassifier``...; its decision value is read as a logit), or anything that follows
        :class:`fastrec.weighing.LogitModel`.
    X : (n, d) array, frame or sparse matrix
        float32 and float64 rows and canonical CSR are read where they lie; other types are converted.
    y : (n,) array
        The labels, of the model's two classes.  Not needed by ``"uncertainty"`` and ``"input_norm"``.
    method : str
        With p the probability of the second class, y = 0 or 1, t = -1 or +1, z the logit, w the sample's weight:

        * ``"grad_norm"``: ``w |p - y| |dz/dtheta|``, the norm of the gradient of the sample's loss (GraNd).  For a
          linear model ``|dz/dtheta|^2 = |x|^2 + 1``, the 1 only where an intercept was fitted.
        * ``"grad_norm_last"``: the same for the parameters of the last linear layer alone.
        * ``"loss"``: ``w log(1 + exp(-t z))``.
        * ``"error"``: ``w |p - y|``.
        * ``"el2n"``: ``w sqrt(2) |p - y|``, the norm of (probabilities - one-hot label).
        * ``"confidence"``: ``1 - p(label)``, the lack of confidence in the given label.
        * ``"margin"``: ``-t z``, the lack of margin (a logit, so it can be negative).
        * ``"uncertainty"``: ``1 - |2 p - 1|``; needs no label.
        * ``"input_norm"``: ``|dz/dtheta|``, a negative control; needs no label.

    sample_weight : (n,) array, optional
        Finite, not negative.  Part of the methods that show ``w`` above; the others do not depend on it.
    threads : int, optional
        The result does not depend on it.

    Returns
    -------
    (n,) float32 array, on the device of ``X``, ``y`` and the model; the same bits on either
        **Larger means that the sample matters more (is harder), for every method.**  Computed in float64 and rounded
        once.

    Raises
    ------
    ValueError
        Shapes that do not match, labels that the model does not know, a NaN in ``X`` (its first row is named).
    TypeError
        A model of an unknown kind; arrays on different devices.

    Notes
    -----
    The loss is that of the sample alone: a sum's term, not a mean's; the regulariser, which adds the same vector to
    every gradient, is left out.

    **For a binary loss, ``loss``, ``error``, ``el2n``, ``confidence`` and ``margin`` rank the samples alike** (each is
    an increasing function of ``-t z``, up to ties from rounding to float32, and for equal weights): they are one
    method, not five.  ``grad_norm`` differs from them by the factor ``|dz/dtheta|`` only; where all rows have the same
    norm (one-hot fields), it too ranks like them.

    The hardest samples are not a sample of the population: on calibrated click data with a rate of 25%, nearly all of
    the 10% with the largest error are positives.  See :func:`fastrec.select` for selection that stratifies or weights,
    and compare with a random subset of the same size, which is a strong baseline.

    Cost: one read of ``X`` and 24 bytes a sample of scratch.

    Examples
    --------
    >>> import fastrec as fr, numpy as np
    >>> X, y = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    >>> model = fr.models.LogisticRegression(solver="lbfgs", l2=1.0).fit(X, y)
    >>> fr.importance(model, X, y, method="loss").shape
    (4,)
    """
    score = SCORES[checks.choice(method, "method", SCORES)]
    logit_model = as_logit_model(model)
    logits, squares = logit_model.sample_logits(X, jacobian=score.jacobian, threads=threads)
    with arrays.current(logits):
        target = None
        if score.labels:
            if y is None:
                raise ValueError(f"method={method!r} needs the labels: pass `y`")
            target = targets(y, logit_model.classes_, len(logits))
        weight = _weights(sample_weight, len(logits)) if sample_weight is not None else None
        arrays.common_device(X=logits, y=target, sample_weight=weight)
        result = score.compute(logits, target, squares, weight if score.weights else None, threads)
        xp = arrays.namespace(result)
        if len(result) and xp.isnan(result.min()):
            row = int(xp.isnan(result).argmax())
            raise ValueError(
                f"`X` must hold finite numbers: the score of row {row} is NaN; drop such rows or fill what is missing"
            )
        return result


def _weights(sample_weight: Any, rows: int) -> Any:
    weight = checks.vector(sample_weight, "sample_weight", dtype=np.float64, size=rows, like="to match `X`")
    xp = arrays.namespace(weight)
    wrong = ~xp.isfinite(weight) | (weight < 0)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"`sample_weight` must be finite and not negative; got {float(weight[row])} in row {row}"
        )
    return weight
