"""Weigh: how much each training sample matters, and which samples to keep."""

from fastrec.weighing.importance import importance
from fastrec.weighing.protocol import LogitModel
from fastrec.weighing.scores import SCORES, Score
from fastrec.weighing.select import Selection, select

__all__ = ["SCORES", "LogitModel", "Score", "Selection", "importance", "select"]
