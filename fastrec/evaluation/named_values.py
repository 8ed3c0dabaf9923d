"""A result that is read by metric name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastrec._core import checks
from fastrec.evaluation import tables

if TYPE_CHECKING:
    import pandas as pd


class NamedValues:
    """Metrics by name: ``result["auc"]`` is a float, iterating gives the names, ``dict(result)`` gives all.

    Attributes
    ----------
    undefined : dict
        Why a metric is NaN (or a stand-in), by name; empty when all are defined.
    parameters : dict
        The parameters each metric was computed with.
    """

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self.undefined: dict[str, str] = {}
        self.parameters: dict[str, dict[str, Any]] = {}

    def __getitem__(self, name: str) -> float:
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(f"{name!r} was not asked for; there are {', '.join(self._values)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def keys(self) -> list[str]:
        """The names of the metrics, in the order they were asked for."""
        return list(self._values)

    @property
    def values(self) -> pd.Series:
        """The metrics as a pandas Series."""
        import pandas as pd

        return pd.Series(self._values, name="value", dtype=float)

    def to_frame(self) -> pd.DataFrame:
        """A frame with one row a metric: ``metric``, ``value``."""
        import pandas as pd

        return pd.DataFrame({"metric": list(self._values), "value": list(self._values.values())})

    def to_markdown(self, digits: int = 4) -> str:
        """The metrics as a Markdown table; only this text is rounded."""
        return tables.markdown(("metric", "value"), self._rows(digits))

    def to_latex(self, digits: int = 4) -> str:
        """The metrics as a LaTeX table (booktabs); only this text is rounded."""
        return tables.latex(("metric", "value"), self._rows(digits))

    def _rows(self, digits: int) -> list[tuple[str, str]]:
        digits = checks.integer(digits, "digits", low=0, high=17)
        return [(name, f"{value:.{digits}f}") for name, value in self._values.items()]

    def _table(self) -> str:
        return "\n".join(f"  {name:<20} {value:.6g}" for name, value in self._values.items())
