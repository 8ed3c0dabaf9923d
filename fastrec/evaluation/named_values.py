"""A result that is read by metric name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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

    def _table(self) -> str:
        return "\n".join(f"  {name:<20} {value:.6g}" for name, value in self._values.items())
