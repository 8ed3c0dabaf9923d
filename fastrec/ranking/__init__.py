"""Rank: exact top-k of queries x items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastrec._core.lazy import load_on_use

__all__ = ["Index", "TopK", "merge_topk", "score", "score_pairs", "select_topk", "topk"]

load_on_use(
    __name__,
    {
        "Index": "index",
        "TopK": "result",
        "merge_topk": "merge",
        "score": "score",
        "score_pairs": "score",
        "select_topk": "select",
        "topk": "topk",
    },
)

if TYPE_CHECKING:
    from fastrec.ranking.index import Index
    from fastrec.ranking.merge import merge_topk
    from fastrec.ranking.result import TopK
    from fastrec.ranking.score import score, score_pairs
    from fastrec.ranking.select import select_topk
    from fastrec.ranking.topk import topk
