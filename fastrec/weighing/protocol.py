"""What a model must expose for its samples to be weighed, and how models that know nothing of fastrec come to do so.

A model with one logit per sample has, for every sample, a loss that depends on its parameters through that logit
alone: the gradient is the residual times the gradient of the logit.  So two numbers a sample say it all: the logit,
and the squared norm of the logit's gradient.  They are what :class:`LogitModel` asks for.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from fastrec._core import arrays, checks
from fastrec.weighing import linear

Jacobian = Literal["full", "last"]


@runtime_checkable
class LogitModel(Protocol):
    """A fitted binary classifier whose logit is differentiable in its parameters.

    Attributes
    ----------
    classes_ : (2,) array
        The labels; the logit speaks for the second.
    """

    classes_: Any

    def sample_logits(
        self, X: Any, *, jacobian: Jacobian | None = None, threads: int | None = None
    ) -> tuple[Any, Any]:
        """Logits (n,) float64, and squared norms (n,) float64 of each logit's gradient, or None if not asked for.

        ``"full"``: with respect to every trained parameter; ``"last"``: to those of the last linear layer.
        """
        ...


class LinearLogits:
    """Any binary linear classifier with ``coef_``, ``intercept_`` and ``classes_``, such as scikit-learn's.

    The intercept counts as a parameter unless the model says ``fit_intercept=False``.
    """

    def __init__(self, model: Any) -> None:
        kind = type(model).__name__
        coefficients = checks.real(model.coef_, "model.coef_")
        self.classes_ = np.asarray(model.classes_)
        if len(self.classes_) != 2 or coefficients.size != coefficients.shape[-1]:
            raise ValueError(
                f"`model` must be a binary classifier with one logit; this {kind} has {len(self.classes_)} classes "
                f"and `coef_` of shape {coefficients.shape}"
            )
        xp = arrays.namespace(coefficients)
        intercept = getattr(model, "intercept_", 0.0)
        self._parameters = xp.append(coefficients.reshape(-1), intercept).astype(np.float64)
        self._extra = 1.0 if getattr(model, "fit_intercept", True) else 0.0

    def sample_logits(
        self, X: Any, *, jacobian: Jacobian | None = None, threads: int | None = None
    ) -> tuple[Any, Any]:
        x = linear.features(X, columns=len(self._parameters) - 1)
        squares = jacobian is not None
        return linear.forward(x, self._parameters, squares=squares, extra=self._extra, threads=threads)


def as_logit_model(model: Any) -> LogitModel:
    """``model`` itself if it follows the protocol, a view of it if it is linear; ``TypeError`` otherwise."""
    if callable(getattr(model, "sample_logits", None)):
        if not hasattr(model, "classes_"):
            raise ValueError(
                f"`model` is not fitted: this {type(model).__name__} has no `classes_`; call `fit` first"
            )
        return model
    if hasattr(model, "coef_") and hasattr(model, "classes_"):
        return LinearLogits(model)
    if hasattr(model, "fit") and not hasattr(model, "classes_"):
        raise TypeError(
            f"`model` must be a fitted binary classifier; this {type(model).__name__} has no `classes_`: it is either "
            "not fitted yet (call `fit`) or not a classifier"
        )
    raise TypeError(
        "`model` must have `classes_` and either `sample_logits(X, jacobian=, threads=)` (see "
        f"fastrec.weighing.LogitModel) or `coef_` and `intercept_`; got {type(model).__name__}"
    )


def targets(y: Any, classes: Any, rows: int) -> Any:
    """Labels as int8: -1 for ``classes[0]``, +1 for ``classes[1]``; any other label is a ``ValueError`` naming it."""
    array = arrays.adopt(y, "y")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (rows,):
        raise ValueError(f"`y` must have shape ({rows},), one label per row of `X`; got {array.shape}")
    low, high = classes[0], classes[1]
    if isinstance(array, np.ndarray) and (array.dtype.kind in "US") != (
        np.asarray(classes).dtype.kind in "US"
    ):
        array = array.astype(object)  # so that "1" == 1 is False everywhere, not an error
    if not isinstance(array, np.ndarray) and np.asarray(classes).dtype.kind not in "biuf":
        raise TypeError(
            f"`y` is on a card, where labels are numbers, and the model's classes are {low!r} and {high!r}: pass "
            "numbers when you fit"
        )
    positive = array == high
    wrong = ~(positive | (array == low))
    if wrong.any():
        row = int(wrong.argmax())
        found = array[row] if isinstance(array, np.ndarray) else array[row].item()
        raise ValueError(
            f"`y` must hold the model's classes {low!r} and {high!r}; got {found!r} in row {row}"
        )
    return positive.astype(np.int8) * np.int8(2) - np.int8(1)
