"""Measure: offline metrics of ranked lists and of predictions, with their uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrec._core.lazy import load_on_use

__all__ = [
    "Accumulator",
    "Bootstrap",
    "CatalogAccumulator",
    "CatalogEvaluation",
    "ClickAccumulator",
    "ClickEvaluation",
    "Comparison",
    "Convention",
    "Evaluation",
    "Truth",
    "bootstrap",
    "compare",
    "evaluate",
    "evaluate_sampled",
    "fuse",
    "metric",
    "overlap",
    "rbo",
]

load_on_use(
    __name__,
    {
        "Accumulator": "accumulate",
        "Bootstrap": "bootstrap",
        "CatalogAccumulator": "catalog_accumulator",
        "CatalogEvaluation": "catalog",
        "ClickAccumulator": "click_accumulator",
        "ClickEvaluation": "click_evaluation",
        "Comparison": "comparison",
        "Convention": "conventions",
        "Evaluation": "result",
        "Truth": "truth",
        "bootstrap": "bootstrap",
        "compare": "compare",
        "evaluate": "evaluate",
        "evaluate_sampled": "sampled",
        "fuse": "fuse",
        "metric": "metrics.custom",
        "overlap": "rbo",
        "rbo": "rbo",
    },
)

if TYPE_CHECKING:
    from fastrec.evaluation.accumulate import Accumulator
    from fastrec.evaluation.bootstrap import Bootstrap, bootstrap
    from fastrec.evaluation.catalog import CatalogEvaluation
    from fastrec.evaluation.catalog_accumulator import CatalogAccumulator
    from fastrec.evaluation.click_accumulator import ClickAccumulator
    from fastrec.evaluation.click_evaluation import ClickEvaluation
    from fastrec.evaluation.compare import compare
    from fastrec.evaluation.comparison import Comparison
    from fastrec.evaluation.conventions import Convention
    from fastrec.evaluation.evaluate import evaluate
    from fastrec.evaluation.fuse import fuse
    from fastrec.evaluation.metrics.custom import metric
    from fastrec.evaluation.rbo import overlap, rbo
    from fastrec.evaluation.result import Evaluation
    from fastrec.evaluation.sampled import evaluate_sampled
    from fastrec.evaluation.truth import Truth
