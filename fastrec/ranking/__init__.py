"""Rank: exact top-k of queries x items."""

from fastrec.ranking.index import Index
from fastrec.ranking.merge import merge_topk
from fastrec.ranking.result import TopK
from fastrec.ranking.score import score, score_pairs
from fastrec.ranking.select import select_topk
from fastrec.ranking.topk import topk

__all__ = ["Index", "TopK", "merge_topk", "score", "score_pairs", "select_topk", "topk"]
