"""Rank: exact top-k of queries x items."""

from fastrec.ranking.result import TopK

__all__ = ["TopK"]
