"""Train: thin estimators on compiled kernels that feed the other three verbs.  Imports scikit-learn's base classes."""

from fastrec.models.logistic import LogisticRegression

__all__ = ["LogisticRegression"]
