"""Data sets that do not ship: the tables and arrays in one folder, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastrec._core import checks
from fastrec.datasets.catalogue import Card, need_folder


class Folder(Mapping[str, Any]):
    """The Parquet tables (as pandas frames) and ``.npz`` arrays of a folder, by file name without suffix.

    ``data["products"]`` or ``data.products``; each is read once, when it is first asked for.  An ``.npz``
    that holds one array gives that array, another one a dictionary; embeddings in float16 come as float32.
    """

    def __init__(self, card: Card, path: Path) -> None:
        self.card = card
        files = [p for p in sorted(path.iterdir()) if p.suffix in (".parquet", ".npz")]
        self._paths = {p.stem.removesuffix("_minilm_f16"): p for p in files}
        self._read: dict[str, Any] = {}

    @classmethod
    def _load(cls, card: Card) -> Folder:
        return cls(card, need_folder(card))

    def __getitem__(self, name: str) -> Any:
        if name not in self._paths:
            raise KeyError(f"{self.card.name} has {', '.join(self._paths)}; not {name!r}")
        if name not in self._read:
            self._read[name] = _read(self._paths[name])
        return self._read[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            known = [*self._paths]
            raise AttributeError(f"{self.card.name} has no {name!r}.{checks.nearest(name, known)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._paths]

    def __repr__(self) -> str:
        return f"<{self.card.name}: {', '.join(self._paths)}>"


def _read(path: Path) -> Any:
    if path.suffix == ".parquet":
        import pandas as pd

        return pd.read_parquet(path)
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: _single(file[name]) for name in file.files}
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array
