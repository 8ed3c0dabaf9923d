"""fastrec: exact top-k ranking, offline metrics, sample importance and thin models on compiled kernels.

Four verbs::

    import fastrec as fr
    top = fr.Index(items).topk(queries, k=10, exclude=seen)       # rank
    ev = fr.evaluate(top, truth, ["ndcg@10", "recall@100"])       # measure
    w = fr.importance(model, X, y, method="grad_norm")            # weigh
    model = fr.models.LogisticRegression().fit(X, y)              # train

Importing fastrec loads the dispatch of the kernels, and nothing heavier: each public name is imported when it is first
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    from fastrec._core import isa as _isa
except ImportError as error:  # pragma: no cover - a checkout that was never built
    raise ImportError(
        "fastrec's compiled kernels are missing; in a checkout, build them with `pip install -e .` "
        f"and import fastrec from elsewhere or from that environment ({error})"
    ) from error
from fastrec._core.threads import get_threads, set_threads

_active_isa = _isa.ACTIVE

# name -> the module that defines it
_PUBLIC = {
    "Index": "fastrec.ranking",
    "TopK": "fastrec.ranking",
    "merge_topk": "fastrec.ranking",
    "score": "fastrec.ranking",
    "score_pairs": "fastrec.ranking",
    "select_topk": "fastrec.ranking",
    "topk": "fastrec.ranking",
    "Truth": "fastrec.evaluation",
    "compare": "fastrec.evaluation",
    "fuse": "fastrec.evaluation",
    "evaluate": "fastrec.evaluation",
    "evaluate_catalog": "fastrec.evaluation.catalog",
    "evaluate_sampled": "fastrec.evaluation",
    "overlap": "fastrec.evaluation",
    "rbo": "fastrec.evaluation",
    "metric": "fastrec.evaluation",
    "evaluate_clicks": "fastrec.evaluation.clicks",
    "importance": "fastrec.weighing",
    "select": "fastrec.weighing",
    "info": "fastrec._core.info",
    "__version__": "fastrec._core.version",
}
_MODULES = ("benchmarks", "data", "datasets", "evaluation", "models", "ranking", "weighing")

__all__ = [*_PUBLIC, *_MODULES, "get_threads", "set_threads"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"fastrec.{name}")
    raise AttributeError(f"module 'fastrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:  # what __getattr__ finds, for type checkers and editors
    from fastrec import benchmarks as benchmarks
    from fastrec import data as data
    from fastrec import datasets as datasets
    from fastrec import evaluation as evaluation
    from fastrec import models as models
    from fastrec import ranking as ranking
    from fastrec import weighing as weighing
    from fastrec._core.info import info as info
    from fastrec._core.version import __version__ as __version__
    from fastrec.evaluation import Truth as Truth
    from fastrec.evaluation import compare as compare
    from fastrec.evaluation import evaluate as evaluate
    from fastrec.evaluation import evaluate_sampled as evaluate_sampled
    from fastrec.evaluation import fuse as fuse
    from fastrec.evaluation import metric as metric
    from fastrec.evaluation import overlap as overlap
    from fastrec.evaluation import rbo as rbo
    from fastrec.evaluation.catalog import evaluate_catalog as evaluate_catalog
    from fastrec.evaluation.clicks import evaluate_clicks as evaluate_clicks
    from fastrec.ranking import Index as Index
    from fastrec.ranking import TopK as TopK
    from fastrec.ranking import merge_topk as merge_topk
    from fastrec.ranking import score as score
    from fastrec.ranking import score_pairs as score_pairs
    from fastrec.ranking import select_topk as select_topk
    from fastrec.ranking import topk as topk
    from fastrec.weighing import importance as importance
    from fastrec.weighing import select as select
