"""Packages whose public names are imported when they are first used, so that a call loads what it needs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    _public: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        if name not in self._public:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{self.__name__}.{self._public[name]}"), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing a module binds it in its package; where it bears a public name, that is of the function in it.
        if name in self._public and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._public})


def load_on_use(package: str, public: Mapping[str, str]) -> None:
    """Let a package import each of its public names, by the module in it that defines them, when it is first used."""
    module = sys.modules[package]
    module.__dict__["_public"] = dict(public)
    module.__class__ = _Package
