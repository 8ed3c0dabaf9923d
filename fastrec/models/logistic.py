"""Binary logistic regression on dense or sparse features, by mini-batches or to the exact optimum."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from fastrec._core import arrays, checks, sums
from fastrec._core import threads as _threads
from fastrec._core.op import operation
from fastrec._kernels import learning
from fastrec.models import loop
from fastrec.weighing.linear import Features, features, forward, from_parts
from fastrec.weighing.logistic import logistic_map
from fastrec.weighing.protocol import Jacobian, targets

# A batch of fewer stored values than this takes less time than waking a second thread saves.
_PARALLEL_FROM = 2**19


def _shape(x: Features, batch_size: int) -> tuple[int, int, int, int]:
    """Batches, rows of the largest, slices of a batch and rows of a slice, whose sums are kept apart.

    They depend on the data's shape alone: on neither threads nor device.
    """
    batches = max(1, -(-x.rows // batch_size))
    batch = -(-x.rows // batches)
    stored = x.values.size // max(1, x.rows) + 1
    slice_rows = max(64, 16384 // stored // 64 * 64, -(-batch // 64))
    return batches, batch, max(1, -(-batch // slice_rows)), slice_rows


def make_pass(
    x: Features, target: Any, weight: Any, *, batch_size: int, threads: Any, **settings: Any
) -> Any:
    """``Pass``, or ``DevicePass`` where the samples are on a card."""
    if isinstance(x.values, np.ndarray):
        return Pass(x, target, weight, batch_size=batch_size, threads=threads, **settings)
    from fastrec.models.logistic_on_device import DevicePass

    batches, _, slices, slice_rows = _shape(x, batch_size)
    return DevicePass(x, target, weight, batches=batches, slices=slices, slice_rows=slice_rows, **settings)


class Pass:
    """One pass of training after another over the same samples: holds the kernels' scratch, steps in place.

    Weights must have mean 1.
    """

    def __init__(
        self,
        x: Features,
        target: Any,
        weight: Any,
        *,
        batch_size: int,
        solver: str,
        l2: float,
        intercept: bool,
        beta1: float,
        beta2: float,
        epsilon: float,
        threads: int | None,
    ) -> None:
        self.batches, batch, slices, slice_rows = _shape(x, batch_size)
        stored = x.values.size // max(1, x.rows) + 1
        self._arguments: dict[str, Any] = {
            "l2": l2,
            "batches": self.batches,
            "slices": slices,
            "slice_rows": slice_rows,
            "solver": solver,
            "intercept": intercept,
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": epsilon,
            "residuals": np.empty(batch) if x.sparse else None,
            "gradient": np.zeros((1 if x.sparse else slices) * (x.columns + 1)),
            "slice_losses": np.empty(slices),
            "slots": np.zeros(2 * x.columns) if x.sparse else None,
            "touched": np.empty(x.columns + 1, np.int32) if x.sparse else None,
            "threads": _threads.resolve(threads) if batch * stored >= _PARALLEL_FROM else 1,
        }
        self._x, self._target, self._weight, self._share = x, target, weight, None
        if x.sparse and l2 > 0 and solver != "none":
            held = np.bincount(x.indices, minlength=x.columns)
            self._share = l2 * x.rows / np.maximum(held, 1)

    def step(
        self, parameters: Any, first: Any, second: Any, order: Any, done: int, rate: float, rate_drop: float
    ) -> float:
        """One pass; ``done`` steps were taken before it.  Returns the mean loss, each sample's before its step."""
        beta1, beta2 = self._arguments["beta1"], self._arguments["beta2"]
        loss, _, _ = learning.logistic_epoch(
            self._x.samples,
            order,
            self._target,
            self._weight,
            self._share,
            parameters=parameters,
            first=first,
            second=second,
            rate=rate,
            rate_drop=rate_drop,
            power1=beta1**done,
            power2=beta2**done,
            **self._arguments,
        )
        return loss / max(1, self._x.rows)

    @property
    def gradient(self) -> Any:
        """(d + 1,) gradient left by a pass with ``solver="none"`` in one batch; the kernel's own memory."""
        return self._arguments["gradient"][: self._x.columns + 1]


@operation(arrays=("values", "target", "parameters", "first", "second", "order", "weight"), rtol=1e-10)
def logistic_epoch(
    values: Any,
    target: Any,
    parameters: Any,
    first: Any = None,
    second: Any = None,
    *,
    indptr: Any = None,
    indices: Any = None,
    order: Any = None,
    weight: Any = None,
    solver: str = "adam",
    l2: float = 0.0,
    intercept: bool = True,
    batch_size: int = 1024,
    rate: float = 0.01,
    rate_drop: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    done: int = 0,
    threads: int | None = None,
) -> dict[str, Any]:
    """One pass of mini-batch steps of logistic regression.

    Parameters
    ----------
    values : (n, d) array, or (entries,) array with ``indptr`` and ``indices``
        float32 or float64: rows of features, or the data of a CSR matrix in canonical form.
    target : (n,) int8 array of -1 and +1
    parameters : (d + 1,) float64 array
        Coefficients, then the intercept.
    first, second : (d + 1,) float64 arrays, optional
        Adam's moments; zeros at the start.
    indptr, indices : (n + 1,) int64 and (entries,) int32 arrays, optional
    order : (n,) int64 array, optional
        The rows, in the order in which they are used.
    weight : (n,) float64 array, optional
        Weights of the samples, with mean 1.
    solver : "sgd" or "adam"
    l2 : float
        Adds ``l2 / 2 |coefficients|^2`` to the mean loss.
    intercept : bool
        Whether the last parameter steps too; the penalty leaves it alone.
    batch_size : int
        The n rows are cut into ``ceil(n / batch_size)`` batches whose sizes differ by one at most.
    rate, rate_drop : float
        Batch k steps by ``rate - k * rate_drop``.
    beta1, beta2, epsilon : float
        Adam's constants (Kingma and Ba 2015, arXiv:1412.6980).
    done : int
        Steps already taken, for Adam's bias correction.
    threads : int, optional
        The result does not depend on it.

    Returns
    -------
    loss : float
        Weighted mean of ``log(1 + exp(-t z))``, each sample's before its batch's step.
    parameters, first, second : (d + 1,) float64
        After the pass; the arguments are not written to.

    A batch's gradient is ``sum(weight * residual * x) / rows + l2 * coefficients``.  With CSR only the columns that the
    batch holds step (Adam's other moments wait), each with the share ``count in the batch / count in the matrix * n /
    rows`` of the penalty: over a pass the shares add up to the same penalty, so the minimum sought is the same.

    Cost: one read of the matrix; scratch of at most 65 (d + 1) float64, and 8 bytes a row of a batch.
    """
    parameters = checks.vector(parameters, "parameters", dtype=np.float64)
    if len(parameters) == 0:
        raise ValueError("`parameters` must end with the intercept; got no element")
    x = from_parts(values, len(parameters) - 1, indptr, indices)
    target = checks.vector(target, "target", dtype=np.int8, size=x.rows, like="to match `values`")
    size = x.columns + 1
    xp = arrays.namespace(parameters)
    state = [
        xp.zeros(size) if part is None else checks.vector(part, name, dtype=np.float64, size=size).copy()
        for name, part in (("parameters", parameters), ("first", first), ("second", second))
    ]
    if order is not None:
        order = checks.indices(order, "order", below=max(1, x.rows))
        if len(order) != x.rows:
            raise ValueError(f"`order` must name all {x.rows} rows; got {len(order)}")
    if weight is not None:
        weight = checks.vector(weight, "weight", dtype=np.float64, size=x.rows, like="to match `values`")
    return {
        "values": x.values,
        "target": target,
        "parameters": state[0],
        "first": state[1],
        "second": state[2],
        "indptr": x.indptr,
        "indices": x.indices,
        "order": order,
        "weight": weight,
        "solver": checks.choice(solver, "solver", ("sgd", "adam")),
        "l2": checks.number(l2, "l2", low=0.0),
        "intercept": bool(intercept),
        "batch_size": checks.integer(batch_size, "batch_size", low=1),
        "rate": float(rate),
        "rate_drop": float(rate_drop),
        "beta1": float(beta1),
        "beta2": float(beta2),
        "epsilon": float(epsilon),
        "done": checks.integer(done, "done", low=0),
        "threads": threads,
    }


@logistic_epoch.reference
def _(
    xp: Any,
    values: Any,
    target: Any,
    parameters: Any,
    first: Any,
    second: Any,
    indptr: Any,
    indices: Any,
    order: Any,
    weight: Any,
    solver: str,
    l2: float,
    intercept: bool,
    batch_size: int,
    rate: float,
    rate_drop: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    done: int,
    threads: Any,
) -> tuple[float, Any, Any, Any]:
    n, d = len(target), len(parameters) - 1
    matrix = Features(values, n, d, indptr, indices).matrix(xp)
    if indptr is not None:
        held = xp.zeros((n, d))  # 1 where CSR stores an entry
        held[xp.repeat(xp.arange(n), xp.diff(indptr)), indices] = 1.0
        matrix = matrix.toarray()
    else:
        held = xp.ones((n, d))
    order = xp.arange(n) if order is None else order
    weight = xp.ones(n) if weight is None else weight
    batches = max(1, -(-n // batch_size))
    loss = 0.0
    for k, rows in enumerate(xp.array_split(order, batches)):
        X, t, w = matrix[rows], target[rows].astype(np.float64), weight[rows]
        margin = t * (X @ parameters[:-1] + parameters[-1])
        loss += float((w * xp.logaddexp(0.0, -margin)).sum())
        residual = -t * xp.exp(-xp.logaddexp(0.0, margin)) * w
        share = held[rows].mean(axis=0) / xp.maximum(held.mean(axis=0), 1e-300)
        gradient = xp.append(
            X.T @ residual / max(1, len(rows)) + l2 * share * parameters[:-1], residual.mean()
        )
        moves = xp.append(held[rows].any(axis=0), intercept)  # the parameters that step
        step = done + k + 1
        at = rate - k * rate_drop
        if solver == "sgd":
            parameters = xp.where(moves, parameters - at * gradient, parameters)
            continue
        first = xp.where(moves, beta1 * first + (1 - beta1) * gradient, first)
        second = xp.where(moves, beta2 * second + (1 - beta2) * gradient**2, second)
        change = first / (1 - beta1**step) / (xp.sqrt(second / (1 - beta2**step)) + epsilon)
        parameters = xp.where(moves, parameters - at * change, parameters)
    return loss / max(1, n), parameters, first, second


def _epoch(
    values: Any,
    target: Any,
    parameters: Any,
    first: Any,
    second: Any,
    indptr: Any,
    indices: Any,
    order: Any,
    weight: Any,
    done: int,
    rate: float,
    rate_drop: float,
    **settings: Any,
) -> tuple[float, Any, Any, Any]:
    x = Features(values, len(target), len(parameters) - 1, indptr, indices)
    steps = make_pass(x, target, weight, **settings)
    loss = steps.step(parameters, first, second, order, done, rate, rate_drop)
    return loss, parameters, first, second


logistic_epoch.cpu(_epoch)
logistic_epoch.cuda(_epoch)


@logistic_epoch.cases
def _(rng: Any) -> Iterator[dict[str, Any]]:
    from scipy.sparse import csr_array

    for rows, columns, batch_size, dtype in [
        (1, 1, 1, np.float32),
        (67, 17, 16, np.float32),
        (300, 5, 1000, np.float64),
        (5000, 9, 4096, np.float32),  # several slices a batch
    ]:
        dense = rng.standard_normal((rows, columns)).astype(dtype)
        sparse = csr_array(np.where(rng.random((rows, columns)) < 0.3, dense, 0))
        weight = rng.random(rows) + 0.1
        for solver in ("sgd", "adam"):
            case = {
                "target": rng.integers(0, 2, rows).astype(np.int8) * 2 - 1,
                "parameters": rng.standard_normal(columns + 1),
                "first": rng.standard_normal(columns + 1) * 0.01,
                "second": rng.random(columns + 1) * 0.01,
                "order": rng.permutation(rows),
                "weight": weight / weight.mean(),
                "solver": solver,
                "l2": 0.1,
                "batch_size": batch_size,
                "rate_drop": 1e-4,
                "done": 3,
            }
            yield {"values": dense, **case}
            parts = {"indptr": sparse.indptr.astype(np.int64), "indices": sparse.indices.astype(np.int32)}
            yield {"values": sparse.data, **parts, **case}


def _steps_in_batches(self: Any) -> bool:
    if self.solver == "lbfgs":
        raise AttributeError('partial_fit needs solver="adam" or "sgd"; "lbfgs" uses all samples at once')
    return True


class LogisticRegression(ClassifierMixin, BaseEstimator):
    """Binary logistic regression.

    Minimises, over coefficients ``v`` and intercept ``b``::

        sum_i s_i log(1 + exp(-t_i (x_i . v + b))) / sum_i s_i  +  l2 / 2 |v|^2

    with labels t = -1 or +1 and sample weights s.  The intercept is not penalised.  In scikit-learn's terms ``l2`` is
    ``1 / (C * sum of the weights)`` of its ``LogisticRegression``, and ``alpha`` of its ``SGDClassifier``.

    Parameters
    ----------
    solver : {"adam", "sgd", "lbfgs"}
        Mini-batch Adam or SGD, or the exact optimum by L-BFGS over all samples at once (SciPy's, on this package's
        gradient), for data that fits a few hundred passes.
    l2 : float, default 1e-6
    fit_intercept : bool, default True
    learning_rate : float or "auto"
        ``"auto"``: 0.01 for Adam; for SGD ``4 / (mean |x|^2 + 1)``, the inverse of a bound on the curvature.
    schedule : {"linear", "constant"}
        Whether the learning rate falls to 0 over the epochs.  ``partial_fit`` always steps at the constant rate.
    epochs : int, default 20
        Passes of Adam or SGD.
    batch_size : int or "auto"
        ``"auto"``: a hundredth of the samples, but at least 32 and at most 4096.  Batches differ by one sample at most.
    shuffle : bool, default True
        A new order of the samples every epoch.
    beta_1, beta_2, epsilon : float
        Adam's constants.
    early_stopping : bool, default False
        Hold out ``validation_fraction`` of the samples (every class its share), stop when ``monitor`` on them has not
        improved by more than ``tol`` for ``patience`` epochs, and keep the best epoch's state.  Implied by ``eval_set``
        in :meth:`fit`.
    validation_fraction : float in (0, 1), default 0.1
    monitor : {"loss", "auc"}
    patience : int, default 3
    tol : float, default 1e-6
        The least improvement that counts; with L-BFGS the largest component of the gradient at which to stop.
    max_iter : int, default 1000
        Iterations of L-BFGS.
    warm_start : bool, default False
        Start from the coefficients of the last fit.
    random_state : int, RandomState or None, default 0
        Orders and held-out samples.  With the default a fit is the same every time.
    threads : int or None
        The result does not depend on it.
    verbose : bool, default False
        Show a progress bar on a terminal, one line an epoch elsewhere.

    Attributes
    ----------
    classes_ : (2,) array
        The labels, sorted; probabilities and decisions speak for the second.
    coef_ : (1, d) float64
    intercept_ : (1,) float64
        Where the samples were; ``classes_`` is on the host.
    n_iter_ : int
        Epochs, or iterations of L-BFGS, that were run.
    best_iter_ : int
        The one whose coefficients were kept.
    loss_curve_ : list of float
        An epoch's mean weighted loss without the penalty, each sample's before its batch's step (L-BFGS: the objective
        after each iteration).
    validation_curve_ : list of float
        The monitored value after each epoch, where samples were held out.
    n_features_in_ : int
    feature_names_in_ : (d,) array, where X was a frame with string column names.

    Notes
    -----
    Features are float32 or float64 (anything else becomes float64), dense or CSR; parameters and all sums are float64,
    summed in an order that depends on the data's shape alone: the same seed gives the same bits on any number of
    threads and any instruction set.  Float64 costs little, as reading the features is the bottleneck, and lets the
    fit reach the optimum to many digits.

    Samples on a card (CuPy, torch through DLPack, dense or CSR of cupyx; labels are numbers) are fitted there, in the
    same order of additions: the coefficients have the CPU's bits, and stay on the card, as do predictions.  (A
    weighted AUC that is monitored is within 1e-12 of the CPU's, which could stop a fit at another epoch.)  Orders of
    samples are drawn on the host and copied; an epoch brings one loss back, and an evaluation of L-BFGS a gradient.
    A model takes samples where its coefficients are, and :meth:`to` moves them; before a model is pickled for another
    machine, move it to ``"cpu"``.

    With CSR a batch moves only the columns it holds, like torch's ``SparseAdam``, each with its share of the penalty
    (see ``logistic_epoch``): cost is proportional to the entries, however many columns there are.  Dense and sparse
    forms of the same data therefore take different paths to the same minimum.

    Examples
    --------
    >>> import fastrec as fr, numpy as np
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> model = fr.models.LogisticRegression(solver="lbfgs", l2=0.1).fit(X, ["no", "no", "yes", "yes"])
    >>> model.predict([[0.5], [2.5]]).tolist()
    ['no', 'yes']
    """

    def __init__(
        self,
        solver: str = "adam",
        *,
        l2: float = 1e-6,
        fit_intercept: bool = True,
        learning_rate: float | str = "auto",
        schedule: str = "linear",
        epochs: int = 20,
        batch_size: int | str = "auto",
        shuffle: bool = True,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        monitor: str = "loss",
        patience: int = 3,
        tol: float = 1e-6,
        max_iter: int = 1000,
        warm_start: bool = False,
        random_state: Any = 0,
        threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.solver = solver
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.epochs = epochs
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.monitor = monitor
        self.patience = patience
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.random_state = random_state
        self.threads = threads
        self.verbose = verbose

    # ---- fitting --------------------------------------------------------------------------------------------------

    @arrays.following
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, eval_set: Any = None) -> LogisticRegression:
        """Fit to samples ``X`` (n, d) with labels ``y`` (n,) of two classes.

        ``sample_weight``: (n,) finite, not negative, not all 0.  ``eval_set``: ``(X, y)`` or ``(X, y, sample_weight)``
        to stop early on, in place of a held-out part of ``X``.
        """
        self._check_parameters()
        known = self.classes_ if self.warm_start and hasattr(self, "coef_") else None
        x, target, weight = self._samples(X, y, sample_weight, classes=known, first=known is None)
        random = check_random_state(self.random_state)
        held_out = None
        if eval_set is not None:
            held_out = self._evaluation_samples(eval_set)
            arrays.common_device(X=x.values, eval_set=held_out[0].values)
        elif self.early_stopping:
            X, held_out = self._hold_out(X, target, weight, random)
            x, target, weight = X
        start = arrays.namespace(x.values).zeros(x.columns + 1)
        if known is not None:
            start = self._parameters.copy()
        if self.solver == "lbfgs":
            return self._fit_exactly(x, target, weight, start)
        return self._fit_in_batches(x, target, weight, start, held_out, random)

    @available_if(_steps_in_batches)
    @arrays.following
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> LogisticRegression:
        """One pass over ``X`` at the constant learning rate, continuing from the last; the optimiser's state is kept.

        The first call needs ``classes``, both labels.  Each call's samples have the same say in the penalty, and
        weights are relative within the call.
        """
        self._check_parameters()
        first = not hasattr(self, "coef_")
        if first:
            if classes is None:
                raise ValueError("the first call to partial_fit needs `classes`, the two labels")
            classes = np.unique(np.asarray(classes))
            if len(classes) != 2:
                raise ValueError(
                    f"`classes` must hold the two labels; got {len(classes)}: {classes.tolist()}"
                )
        else:
            if classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
                raise ValueError(f"`classes` must be those of the first call, {self.classes_.tolist()}")
            classes = self.classes_
        x, target, weight = self._samples(X, y, sample_weight, classes=classes, first=first)
        xp = arrays.namespace(x.values)
        if first:
            self._set(xp.zeros(x.columns + 1))
            self.n_iter_, self.loss_curve_ = 0, []
        if getattr(self, "_moments", None) is None:
            self._moments: Any = (xp.zeros(x.columns + 1), xp.zeros(x.columns + 1), 0)
            self._seed = int(check_random_state(self.random_state).randint(2**31))
            self._rate = self._learning_rate(x, weight)
        parameters = self._parameters.copy()
        trainer = self._trainer(x, target, weight)
        m, v, done = self._moments
        order = self._order(xp, x.rows, self._seed, self.n_iter_)
        loss = trainer.step(parameters, m, v, order, done, self._rate, 0.0)
        self._moments = (m, v, done + trainer.batches)
        self._set(parameters)
        self.n_iter_ += 1
        self.best_iter_ = self.n_iter_
        self.loss_curve_.append(loss)
        return self

    def _check_parameters(self) -> None:
        checks.choice(self.solver, "solver", ("adam", "sgd", "lbfgs"))
        checks.choice(self.schedule, "schedule", ("linear", "constant"))
        checks.choice(self.monitor, "monitor", ("loss", "auc"))
        checks.number(self.l2, "l2", low=0.0)
        checks.integer(self.epochs, "epochs", low=1)
        checks.integer(self.max_iter, "max_iter", low=1)
        checks.integer(self.patience, "patience", low=1)
        checks.number(self.tol, "tol", low=0.0)
        checks.number(self.epsilon, "epsilon", low=0.0)
        for name in ("beta_1", "beta_2", "validation_fraction"):
            if checks.number(getattr(self, name), name, low=0.0, high=1.0) == 1.0:
                raise ValueError(f"`{name}` must be below 1; got 1.0")
        if self.batch_size != "auto":
            checks.integer(self.batch_size, "batch_size", low=1)
        if (
            self.learning_rate != "auto"
            and checks.number(self.learning_rate, "learning_rate", low=0.0) == 0.0
        ):
            raise ValueError("`learning_rate` must be above 0; got 0.0")

    def _samples(
        self, X: Any, y: Any, sample_weight: Any, *, classes: Any, first: bool
    ) -> tuple[Any, Any, Any]:
        """Features, labels as -1 and +1, and weights with mean 1 (or None)."""
        if arrays.on_card(X):
            return self._samples_there(X, y, sample_weight, classes=classes, first=first)
        X, y = validate_data(
            self, X, y, reset=first, accept_sparse="csr", dtype=[np.float64, np.float32], order="C"
        )
        self.classes_ = _two_classes(y) if classes is None else classes
        x = features(X)
        if not first:
            self._same_place(x)
        return x, targets(y, self.classes_, x.rows), _weights(sample_weight, x.rows)

    def _samples_there(
        self, X: Any, y: Any, sample_weight: Any, *, classes: Any, first: bool, name: str = "X"
    ) -> tuple[Any, Any, Any]:
        """`_samples` of arrays on a card."""
        from fastrec.models import logistic_on_device

        x = features(X, columns=None if first else self.n_features_in_)
        with arrays.current(x.values):
            logistic_on_device.finite(x)
            if not first and name == "X":
                self._same_place(x)
            labels = arrays.adopt(y, "y")
            weight = None if sample_weight is None else arrays.adopt(sample_weight, "sample_weight")
            arrays.common_device(**{name: x.values, "y": labels, "sample_weight": weight})
            self.classes_ = logistic_on_device.two_classes(labels) if classes is None else classes
            if first:
                self.n_features_in_: int = x.columns
                self.__dict__.pop("feature_names_in_", None)
            return x, targets(labels, self.classes_, x.rows), _weights(weight, x.rows)

    def _same_place(self, x: Features) -> None:
        """``TypeError`` where samples and coefficients are on different devices."""
        here, there = arrays.device(arrays.adopt(self.coef_, "coef_")), arrays.device(x.values)
        if here != there:
            raise TypeError(
                f"this {type(self).__name__} is on {here} and `X` on {there}; `model.to({there!r})` is the same model "
                "there. fastrec never copies between devices."
            )

    def to(self, device: str | int) -> LogisticRegression:
        """The fitted model with its coefficients on ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``; itself if they are there.

        A fit leaves coefficients where its samples are, and a model takes samples where its coefficients are.
        """
        check_is_fitted(self)
        from fastrec.models import logistic_on_device

        return logistic_on_device.moved(self, device)

    def _evaluation_samples(self, eval_set: Any) -> tuple[Any, Any, Any]:
        if not isinstance(eval_set, (tuple, list)) or len(eval_set) not in (2, 3):
            raise TypeError("`eval_set` must be (X, y) or (X, y, sample_weight)")
        X, y, *weight = eval_set
        if arrays.on_card(X):
            return self._samples_there(
                X, y, weight[0] if weight else None, classes=self.classes_, first=False, name="eval_set"
            )
        x = features(
            validate_data(
                self, X, reset=False, accept_sparse="csr", dtype=[np.float64, np.float32], order="C"
            )
        )
        return x, targets(y, self.classes_, x.rows), _weights(weight[0] if weight else None, x.rows)

    def _hold_out(self, X: Any, target: Any, weight: Any, random: Any) -> tuple[Any, Any]:
        from fastrec.weighing.select import select

        if self.validation_fraction == 0.0:
            raise ValueError("`validation_fraction` must be above 0 for early stopping; got 0.0")
        xp = arrays.namespace(target)
        held = select(
            xp.zeros(len(target), np.float32),
            self.validation_fraction,
            strategy="stratified_random",
            y=target,
            seed=int(random.randint(2**31)),
        ).mask
        kept = target[~held]
        if bool(held.all()) or not bool(held.any()) or int(kept.min()) == int(kept.max()):
            raise ValueError(
                f"too few samples ({len(target)}) to hold out {self.validation_fraction:g} of them; "
                "pass `eval_set`, or early_stopping=False"
            )
        matrix = X.tocsr() if hasattr(X, "tocsr") else features(X).values

        def part(rows: Any) -> tuple[Any, Any, Any]:
            w = None if weight is None else weight[rows]
            return features(matrix[rows]), target[rows], None if w is None else w / (sums.mean(w) or 1.0)

        return part(xp.flatnonzero(~held)), part(xp.flatnonzero(held))

    def _trainer(self, x: Features, target: Any, weight: Any, solver: str | None = None) -> Any:
        batch: Any = x.rows if solver == "none" else self.batch_size
        return make_pass(
            x,
            target,
            weight,
            batch_size=min(4096, max(32, x.rows // 100)) if batch == "auto" else max(1, batch),
            solver=solver or self.solver,
            l2=float(self.l2),
            intercept=bool(self.fit_intercept),
            beta1=float(self.beta_1),
            beta2=float(self.beta_2),
            epsilon=float(self.epsilon),
            threads=self.threads,
        )

    def _learning_rate(self, x: Features, weight: Any) -> float:
        if self.learning_rate != "auto":
            return float(self.learning_rate)
        if self.solver == "adam":
            return 0.01
        zeros = arrays.namespace(x.values).zeros(x.columns + 1)
        _, squares = forward(x, zeros, squares=True, extra=1.0, threads=self.threads)
        return 4.0 / sums.mean(squares, weight)

    def _order(self, xp: Any, rows: int, seed: int, epoch: int) -> Any:
        if not self.shuffle:
            return None
        order = np.empty(rows, np.int64)
        learning.shuffle(order, seed + epoch)
        return order if xp is np else xp.asarray(order)

    def _fit_in_batches(
        self, x: Features, target: Any, weight: Any, parameters: Any, held_out: Any, random: Any
    ) -> LogisticRegression:
        trainer = self._trainer(x, target, weight)
        xp = arrays.namespace(x.values)
        moments = xp.zeros(x.columns + 1), xp.zeros(x.columns + 1)
        seed = int(random.randint(2**31))
        rate = self._learning_rate(x, weight)
        total = self.epochs * trainer.batches
        drop = rate / total if self.schedule == "linear" else 0.0

        def epoch(number: int) -> float:
            done = number * trainer.batches
            order = self._order(xp, x.rows, seed, number)
            return trainer.step(parameters, *moments, order, done, rate - done * drop, drop)

        def restore(state: Any) -> None:
            parameters[:] = state

        stopping = None
        if held_out is not None:
            stopping = loop.Stopping(
                lambda: self._monitored(parameters, *held_out), self.monitor == "auc", self.patience, self.tol
            )
        history = loop.run(
            epoch,
            self.epochs,
            save=parameters.copy,
            restore=restore,
            stopping=stopping,
            name=type(self).__name__,
            verbose=self.verbose,
        )
        if not bool(xp.isfinite(parameters).all()):
            raise ValueError(
                f"the fit diverged at learning_rate={rate:g}: lower it, or scale the features "
                "(sklearn.preprocessing.StandardScaler)"
            )
        self._set(parameters)
        self._moments = (*moments, len(history.losses) * trainer.batches)
        self._seed, self._rate = seed, rate
        self.n_iter_, self.best_iter_ = len(history.losses), history.best_epoch
        self.loss_curve_ = history.losses
        if held_out is not None:
            self.validation_curve_ = history.validation
        return self

    def _monitored(self, parameters: Any, x: Features, target: Any, weight: Any) -> float:
        logits, _ = forward(x, parameters, threads=self.threads)
        if self.monitor == "auc":
            return _auc(logits, target, weight, self.threads)
        losses = logistic_map("loss", logits, target, dtype=np.float64, threads=self.threads)
        return sums.mean(losses, weight)

    def _fit_exactly(self, x: Features, target: Any, weight: Any, start: Any) -> LogisticRegression:
        from scipy.optimize import minimize

        trainer = self._trainer(x, target, weight, solver="none")
        xp = arrays.namespace(x.values)
        self.loss_curve_ = []

        def objective(parameters: Any) -> tuple[float, Any]:
            parameters = np.ascontiguousarray(parameters)
            there = parameters if xp is np else xp.asarray(parameters)  # SciPy's steps are the host's
            loss = trainer.step(there, None, None, None, 0, 0.0, 0.0)
            gradient = trainer.gradient.copy() if xp is np else trainer.gradient.get()
            if not self.fit_intercept:
                gradient[-1] = 0.0
            return loss + 0.5 * self.l2 * float(parameters[:-1] @ parameters[:-1]), gradient

        found = minimize(
            objective,
            start if xp is np else start.get(),
            jac=True,
            method="L-BFGS-B",
            callback=lambda intermediate_result: self.loss_curve_.append(float(intermediate_result.fun)),
            options={"maxiter": self.max_iter, "gtol": self.tol, "ftol": 0.0, "maxfun": 20 * self.max_iter},
        )
        if found.status == 1:
            warnings.warn(
                f"L-BFGS stopped after {found.nit} iterations with a gradient of {abs(found.jac).max():.3g} "
                f"(tol={self.tol:g}); scale the features or raise max_iter",
                ConvergenceWarning,
                stacklevel=4,
            )
        self._set(found.x if xp is np else xp.asarray(found.x))
        self._moments = None
        self.n_iter_ = self.best_iter_ = max(1, int(found.nit))
        return self

    def _set(self, parameters: Any) -> None:
        self.coef_ = parameters[None, :-1].copy()
        self.intercept_ = parameters[-1:].copy()

    @property
    def _parameters(self) -> Any:
        xp = arrays.namespace(arrays.adopt(self.coef_, "coef_"))
        return xp.append(self.coef_.reshape(-1), self.intercept_).astype(np.float64)

    # ---- using ----------------------------------------------------------------------------------------------------

    @arrays.following
    def sample_logits(
        self, X: Any, *, jacobian: Jacobian | None = None, threads: int | None = None
    ) -> tuple[Any, Any]:
        """Logits and, on demand, the squared norms of their gradients: what :func:`fastrec.importance` asks for."""
        if not hasattr(self, "coef_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet; call `fit` first")
        x = features(X, columns=self.n_features_in_)
        self._same_place(x)
        extra = 1.0 if self.fit_intercept else 0.0
        return forward(x, self._parameters, squares=jacobian is not None, extra=extra, threads=threads)

    @arrays.following
    def decision_function(self, X: Any) -> Any:
        """(n,) float64 logits ``x . coef_ + intercept_``; positive means the second class."""
        check_is_fitted(self)
        if arrays.on_card(X):
            from fastrec.models import logistic_on_device

            return logistic_on_device.logits(self, X)
        X = self._checked(X, finite=False)
        x = features(X)
        self._same_place(x)
        logits, _ = forward(x, self._parameters, threads=self.threads)
        if not np.isfinite(logits).all():
            self._checked(X, finite=True)  # names what is wrong, unless the logits overflowed by themselves
        return logits

    @arrays.following
    def predict_proba(self, X: Any) -> Any:
        """(n, 2) float64 probabilities of the classes, in the order of ``classes_``; accurate near 0 in both."""
        logits = self.decision_function(X)
        result = arrays.namespace(logits).empty((len(logits), 2))
        result[:, 0] = logistic_map("probability", -logits, dtype=np.float64, threads=self.threads)
        result[:, 1] = logistic_map("probability", logits, dtype=np.float64, threads=self.threads)
        return result

    @arrays.following
    def predict_log_proba(self, X: Any) -> Any:
        """(n, 2) float64 logarithms of the probabilities, finite where these would round to 0."""
        logits = self.decision_function(X)
        xp = arrays.namespace(logits)
        result = xp.empty((len(logits), 2))
        for column, sign in enumerate((-1, 1)):
            target = xp.full(len(logits), sign, np.int8)
            result[:, column] = -logistic_map("loss", logits, target, dtype=np.float64, threads=self.threads)
        return result

    @arrays.following
    def predict(self, X: Any) -> Any:
        """(n,) the more probable class; the first where both are equal."""
        logits = self.decision_function(X)
        return arrays.namespace(logits).asarray(self.classes_)[(logits > 0).astype(np.int64)]

    def _checked(self, X: Any, *, finite: bool) -> Any:
        return validate_data(
            self,
            X,
            reset=False,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            order="C",
            ensure_all_finite=finite,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_class = False
        return tags


def _two_classes(y: Any) -> Any:
    """The two labels of ``y``, sorted, found without sorting ``y``."""
    first = y[0]
    others = y != first
    if not others.any():
        raise ValueError(f"`y` must hold two classes; got one class only: {first!r}")
    second = y[int(others.argmax())]
    rest = others & (y != second)
    if rest.any():
        third = y[int(rest.argmax())]
        if y.dtype.kind == "f" and (y != np.floor(y)).any():
            raise ValueError(
                f"Unknown label type: continuous. `y` must hold two classes; got {first}, {second}, {third}..."
            )
        raise ValueError(
            "Only binary classification is supported. `y` must hold two classes; got at least three: "
            f"{first!r}, {second!r}, {third!r}"
        )
    return np.array(sorted([first, second]), dtype=y.dtype)


def _weights(sample_weight: Any, rows: int) -> Any:
    """Sample weights scaled to mean 1, or None."""
    from fastrec.weighing.importance import _weights as checked

    if sample_weight is None:
        return None
    weight = checked(sample_weight, rows)
    total = sums.total(weight)
    if rows and not total > 0:
        raise ValueError("`sample_weight` must not be all zero")
    return weight * (rows / total)


def _auc(logits: Any, target: Any, weight: Any, threads: int | None = None) -> float:
    """The probability that a positive outranks a negative, ties counting half; both must be there."""
    from fastrec.evaluation.clicks import evaluate_clicks

    result = evaluate_clicks(
        target > 0, logits, weights=weight, metrics="auc", undefined="error", threads=threads
    )
    return float(result["auc"])
