from fastrec.evaluation.bootstrap import Bootstrap, bootstrap

__all__ = ["Bootstrap", "bootstrap"]
