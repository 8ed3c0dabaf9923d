from fastrec.evaluation.bootstrap import Bootstrap, bootstrap
from fastrec.evaluation.compare import compare
from fastrec.evaluation.comparison import Comparison

__all__ = ["Bootstrap", "Comparison", "bootstrap", "compare"]
