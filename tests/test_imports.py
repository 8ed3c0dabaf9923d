"""Importing fastrec is quick, loads nothing heavy, and offers what it says."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from subprocesses import output_of

import fastrec as fr

HEAVY = (
    "cupy",
    "numba",
    "pandas",
    "torch",
    "scipy",
    "sklearn",
    "pyarrow",
    "polars",
    "rich",
    "typer",
    "matplotlib",
)
OPTIONAL = (
    "cupy",
    "torch",
    "polars",
    "faiss",
    "implicit",
    "ranx",
    "matplotlib",
    "jinja2",
    "optuna",
    "dask",
    "ray",
)


def test_import_takes_under_300_ms() -> None:
    """Processor time, and the best of several: not what else the machine is doing."""
    code = "import time; t = time.process_time(); import fastrec; print(time.process_time() - t)"
    assert min(float(output_of(code)) for _ in range(7)) < 0.3


@pytest.mark.parametrize(
    "use",
    [
        "fastrec",
        "fastrec.Index",
        "fastrec.topk",
        "fastrec.ranking",
        "fastrec.evaluation",
        "fastrec.evaluate({'q': {'a': 1.0}}, {'q': {'a': 1}}, ['ndcg@10'])['ndcg@10']",
        "fastrec.evaluate_clicks([0, 1], [0.2, 0.4])['auc']",
        "fastrec.evaluate_catalog([[0, 1]], 2, metrics='coverage')['coverage']",
    ],
)
def test_nothing_heavy_is_imported(use: str) -> None:
    code = f"import sys, fastrec; {use}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert output_of(code) == ""


@pytest.mark.parametrize("package", ["evaluation", "ranking"])
def test_a_public_name_stands_before_a_module_of_that_name(package: str) -> None:
    code = f"""
        import importlib, pkgutil, types
        import fastrec.{package} as package
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"fastrec.{package}.{{module.name}}")
        print(*[name for name in package.__all__ if isinstance(getattr(package, name), types.ModuleType)])
    """
    assert output_of(code) == ""


def test_a_package_says_what_it_has_not() -> None:
    with pytest.raises(AttributeError, match=r"module 'fastrec\.ranking' has no attribute 'nonsense'"):
        fr.ranking.nonsense  # noqa: B018
    assert set(fr.evaluation.__all__) <= set(dir(fr.evaluation))


def test_every_module_imports_without_the_optional_packages() -> None:
    """Each in turn in one interpreter where `import torch` and its like fail as on a machine without them."""
    code = f"""
        import importlib, pkgutil, sys
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {OPTIONAL!r}:
                    raise ModuleNotFoundError(name)
        sys.meta_path.insert(0, Absent())
        import fastrec
        for module in pkgutil.walk_packages(fastrec.__path__, "fastrec."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        print("all")
    """
    assert output_of(code) == "all"


def test_every_public_name_is_there_and_documented() -> None:
    missing = []
    for name in fr.__all__:
        value = getattr(fr, name)
        if name != "__version__" and not (value.__doc__ or "").strip():
            missing.append(name)
    assert missing == []
    assert set(fr.__all__) <= set(dir(fr))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'fastrec' has no attribute 'nonsense'"):
        fr.nonsense  # noqa: B018


def test_every_package_says_what_it_is() -> None:
    undocumented = [
        module.name
        for module in pkgutil.walk_packages(fr.__path__, "fastrec.")
        if not module.name.endswith("__main__")
        and not (importlib.import_module(module.name).__doc__ or "").strip()
    ]
    assert undocumented == []
